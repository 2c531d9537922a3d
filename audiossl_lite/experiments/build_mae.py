"""Masked pretraining put together: cached filter banks, encoder, decoder and the loop."""

from __future__ import annotations

from typing import Any

import torch

from audiossl_lite import encoders
from audiossl_lite.data.clips import Clips
from audiossl_lite.encoders.decoders import GlobalDecoder, WindowDecoder
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.experiments.build import Parts, Prepared, Trained, train_config, train_parts
from audiossl_lite.experiments.settings.audiomae import MaskedPretraining
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.methods.mae import MAE
from audiossl_lite.views.masks import MaskedViews

DECODERS = {"global": GlobalDecoder, "window": WindowDecoder}


def make_mae(config: MaskedPretraining, seed: int = 0) -> MAE:
    """A fresh encoder and decoder whose initial weights depend on the seed alone.

    Raises KeyError for an unknown encoder or decoder.
    """
    makers = [name for name in encoders.__all__ if name.startswith("audiomae_")]
    if config.encoder not in makers:
        raise KeyError(f"unknown encoder {config.encoder!r}; known: {', '.join(makers)}")
    if config.decoder not in DECODERS:
        raise KeyError(f"unknown decoder {config.decoder!r}; known: {', '.join(DECODERS)}")
    size = {"n_frames": config.n_frames, "n_mels": config.n_mels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = getattr(encoders, config.encoder)(**size)
        decoder = DECODERS[config.decoder](
            encoder.embed_dim,
            config.decoder_dim,
            config.decoder_depth,
            config.decoder_heads,
            **size,
        )
    return MAE(encoder, decoder, norm_patches=config.norm_patches)


def make_mae_frontend(config: MaskedPretraining, clips: Clips) -> AudioMAEFrontend:
    """The filter bank of a preset, normalised by AudioSet's constants or by (at most 256 of) these clips."""
    frontend = AudioMAEFrontend(config.n_frames, n_mels=config.n_mels)
    if config.normalisation == "audioset":
        return frontend
    if config.normalisation != "fitted":
        raise ValueError(f"normalisation is 'audioset' or 'fitted', got {config.normalisation!r}")
    every = -(-len(clips) // 256)
    return frontend.fit(clips.waveforms[::every], clips.lengths[::every])


@torch.no_grad()
def prepare_mae(
    clips: Clips, config: MaskedPretraining, frontend: AudioMAEFrontend | None = None
) -> Prepared:
    """The filter bank of every whole clip `(n, T, F)`, computed once, and the valid frames of each.

    Frames past the end of a clip hold the frontend's padding. Runs on the same clips can share the result. Clips to
    be scored are prepared with the `frontend` of training; by default one is made from the preset and these clips.

    Where: AudioMAE Sec. 4.1; chapter 06
    """
    frontend = frontend or make_mae_frontend(config, clips)
    n_frames = max((int(clips.lengths.max()) - 400) // 160 + 1, 16)
    whole = AudioMAEFrontend(
        -(-n_frames // 16) * 16, frontend.mean, frontend.std, n_mels=config.n_mels
    )
    return Prepared(frontend, *spectrograms(whole, clips.waveforms, clips.lengths))


def make_masked_views(config: MaskedPretraining, frontend: AudioMAEFrontend) -> MaskedViews:
    """Crops and maskings of a preset, in the units of its frontend."""
    return MaskedViews(
        config.n_frames,
        ratio=config.mask_ratio,
        structured=config.structured,
        time_ratio=config.time_ratio,
        freq_ratio=config.freq_ratio,
        gain_db=config.gain_db,
        norm_scale=frontend.log_unit,
        pad_value=frontend.pad_value,
        count_padding=config.count_padding,
    )


def masked_parts(config: MaskedPretraining, frontend: AudioMAEFrontend, seed: int = 0) -> Parts:
    """Method, views and run of a preset."""
    return Parts(
        make_mae(config, seed),
        make_masked_views(config, frontend),
        train_config(config, seed, betas=(0.9, config.beta_2)),
    )


def pretrain_mae(
    clips: Clips,
    config: MaskedPretraining,
    *,
    prepared: Prepared | None = None,
    seed: int = 0,
    description: str = "masked pretraining",
    **options: Any,
) -> Trained:
    """Pretrain a masked autoencoder on clips.

    `prepared` saves computing `prepare_mae(clips, config)` again, `options` as in `train_parts`.

    Where: AudioMAE Sec. 3, 4; chapter 06
    """
    prepared = prepared or prepare_mae(clips, config)
    parts = masked_parts(config, prepared.frontend, seed)
    return train_parts(parts, prepared, config, description=description, **options)
