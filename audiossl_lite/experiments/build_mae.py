"""Masked pretraining put together, of patches or of latents: cached filter banks, encoder, decoder and the loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite import encoders
from audiossl_lite.data.clips import Clips
from audiossl_lite.encoders import AudioMAEEncoder
from audiossl_lite.encoders.decoders import ConvDecoder, GlobalDecoder, WindowDecoder
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.experiments.build import (
    Parts,
    Prepared,
    Trained,
    chosen,
    pretraining_parts,
    train_config,
    train_parts,
)
from audiossl_lite.experiments.settings.audiomae import Masked, MaskedPretraining
from audiossl_lite.experiments.settings.data2vec import LatentPretraining
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.methods import MAE, Data2Vec
from audiossl_lite.views.masks import MaskedViews

DECODERS = {"global": GlobalDecoder, "window": WindowDecoder}


def _make_encoder(config: Masked) -> AudioMAEEncoder:
    makers = [name for name in encoders.__all__ if name.startswith("audiomae_")]
    if config.encoder not in makers:
        raise KeyError(f"unknown encoder {config.encoder!r}; known: {', '.join(makers)}")
    return getattr(encoders, config.encoder)(**chosen(config, "n_frames", "n_mels"))


def make_mae(config: MaskedPretraining, seed: int = 0) -> MAE:
    """A fresh encoder and decoder whose initial weights depend on the seed alone.

    Raises KeyError for an unknown encoder or decoder.
    """
    if config.decoder not in DECODERS:
        raise KeyError(f"unknown decoder {config.decoder!r}; known: {', '.join(DECODERS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _make_encoder(config)
        decoder = DECODERS[config.decoder](
            encoder.embed_dim,
            config.decoder_dim,
            config.decoder_depth,
            config.decoder_heads,
            **chosen(config, "n_frames", "n_mels"),
        )
    return MAE(encoder, decoder, norm_patches=config.norm_patches)


def make_data2vec(config: LatentPretraining, seed: int = 0) -> Data2Vec:
    """A fresh student, its teacher and decoder, whose initial weights depend on the seed alone.

    Raises KeyError for an unknown encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _make_encoder(config)
        decoder = ConvDecoder(
            encoder.embed_dim,
            config.decoder_dim,
            config.decoder_depth,
            groups=config.decoder_groups,
            kernel=config.decoder_kernel,
            n_mels=config.n_mels,
        )
    return Data2Vec(encoder, decoder, **chosen(config, "top_blocks", "utterance_weight"))


def make_mae_frontend(config: Masked, clips: Clips) -> AudioMAEFrontend:
    """The filter bank of a preset, normalised by AudioSet's constants or by (at most 256 of) these clips."""
    frontend = AudioMAEFrontend(config.n_frames, n_mels=config.n_mels)
    if config.normalisation == "audioset":
        return frontend
    if config.normalisation != "fitted":
        raise ValueError(f"normalisation is 'audioset' or 'fitted', got {config.normalisation!r}")
    every = -(-len(clips) // 256)
    return frontend.fit(clips.waveforms[::every], clips.lengths[::every])


def holding(frontend: AudioMAEFrontend, lengths: Tensor, at_least: int = 16) -> AudioMAEFrontend:
    """The same filter bank over whole clips of `lengths (n,)` samples: the longest in whole patches, or `at_least`."""
    n_frames = max((int(lengths.max()) - 400) // 160 + 1, at_least)
    n_frames = -(-n_frames // 16) * 16
    return AudioMAEFrontend(n_frames, frontend.mean, frontend.std, n_mels=frontend.n_mels)


@torch.no_grad()
def prepare_mae(clips: Clips, config: Masked, frontend: AudioMAEFrontend | None = None) -> Prepared:
    """The filter bank of every whole clip `(n, T, F)`, computed once, and the valid frames of each.

    Frames past the end of a clip hold the frontend's padding. Runs on the same clips can share the result. Clips to
    be scored are prepared with the `frontend` of training; by default one is made from the preset and these clips.

    Where: AudioMAE Sec. 4.1; chapter 06
    """
    frontend = frontend or make_mae_frontend(config, clips)
    whole = holding(frontend, clips.lengths)
    return Prepared(frontend, *spectrograms(whole, clips.waveforms, clips.lengths))


def make_masked_views(config: Masked, frontend: AudioMAEFrontend) -> MaskedViews:
    """Crops and maskings of a preset, in the units of its frontend."""
    names = ("structured", "time_ratio", "freq_ratio", "block", "block_extra", "n_masks")
    return MaskedViews(
        config.n_frames,
        ratio=config.mask_ratio,
        **chosen(config, *(name for name in names if hasattr(config, name))),
        **chosen(config, "gain_db", "count_padding"),
        norm_scale=frontend.log_unit,
        pad_value=frontend.pad_value,
    )


def masked_parts(config: Masked, frontend: AudioMAEFrontend, seed: int = 0) -> Parts:
    """Method, views and run of a preset."""
    make = make_data2vec if isinstance(config, LatentPretraining) else make_mae
    return Parts(
        make(config, seed),
        make_masked_views(config, frontend),
        train_config(config, seed, betas=(0.9, config.beta_2)),
    )


def starting_parts(config: Any, frontend: nn.Module, seed: int = 0) -> Parts:
    """Method, views and run of whatever starts from nothing: `masked_parts` or `pretraining_parts`."""
    make = masked_parts if isinstance(config, Masked) else pretraining_parts
    return make(config, frontend, seed)


def pretrain_mae(
    clips: Clips,
    config: Masked,
    *,
    prepared: Prepared | None = None,
    seed: int = 0,
    **options: Any,
) -> Trained:
    """Pretrain a masked autoencoder on clips, or a student of latents; the settings say which.

    `prepared` saves computing `prepare_mae(clips, config)` again, `options` as in `train_parts`.

    Where: AudioMAE Sec. 3, 4; data2vec 2.0 Sec. 3; chapter 06
    """
    prepared = prepared or prepare_mae(clips, config)
    parts = masked_parts(config, prepared.frontend, seed)
    return train_parts(parts, prepared, config, description="masked pretraining", **options)
