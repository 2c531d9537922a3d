"""AudioMAE's published weights: the pretrained file, the fine-tuned file, and the port with timm's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from audiossl_lite.encoders.audiomae import PATCH, AudioMAEEncoder
from audiossl_lite.encoders.decoders import GlobalDecoder, WindowDecoder
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.methods.mae import MAE
from audiossl_lite.pretrained.shipped import is_ours, load_mae, shipped_encoders
from audiossl_lite.pretrained.weights import (
    PretrainedEncoder,
    WeightsError,
    build,
    last_size,
    named,
    read_weights,
)

N_MELS = 128
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}  # by width; the weights do not tell
DECODER_KEYS = ("decoder_", "mask_token")


class FineTunedAudioMAE(AudioMAEEncoder):
    """AudioMAE as fine-tuned: no final norm on tokens, a norm on their mean instead, and a classifier on top.

    The embedding `(B, D)` is the normed mean; the classifier `head` gives logits `(B, K)` of it.

    Where: AudioMAE, official code; chapter 11
    """

    def __init__(self, dim: int, depth: int, heads: int, n_classes: int, *, n_frames: int) -> None:
        super().__init__(dim, depth, heads, n_frames=n_frames, n_mels=N_MELS)
        self.norm = nn.Identity()
        self.fc_norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, n_classes) if n_classes else nn.Identity()

    def forward(self, spec: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.fc_norm(super().forward(spec, lengths))


def _state(content: dict[str, Any], path: str | Path) -> dict[str, Any]:
    state = named(content.get("model", content.get("state_dict", content)), path)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if not last_size(state.get("cls_token")):
        raise WeightsError(
            f"{path} holds no AudioMAE encoder: no cls_token; its keys are {sorted(state)[:8]}"
        )
    return state


def _sizes(state: dict[str, Any], path: str | Path) -> tuple[int, int, int, int]:
    """Width, depth, heads and frames of the encoder in a state."""
    width = state["cls_token"].shape[-1]
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    positions = state.get("pos_embed")
    rows = positions.shape[1] - 1 if isinstance(positions, Tensor) and positions.dim() == 3 else 0
    columns = N_MELS // PATCH
    if width not in HEADS or not depth or rows < columns or rows % columns:
        raise WeightsError(
            f"{path} does not fit AudioMAE: cls_token is {width} wide (known: {sorted(HEADS)}), {depth} blocks, "
            f"pos_embed of {rows} tokens (a multiple of {columns}); its keys are {sorted(state)[:8]}"
        )
    return width, depth, HEADS[width], rows // columns * PATCH


def _encoder(state: dict[str, Any], path: str | Path) -> AudioMAEEncoder:
    width, depth, heads, n_frames = _sizes(state, path)
    if "fc_norm.weight" in state:
        n_classes = len(state["head.weight"]) if last_size(state.get("head.weight")) else 0
        ignored = "norm."

        def make() -> AudioMAEEncoder:
            return FineTunedAudioMAE(width, depth, heads, n_classes, n_frames=n_frames)
    else:
        ignored = "head."

        def make() -> AudioMAEEncoder:
            return AudioMAEEncoder(width, depth, heads, n_frames=n_frames, n_mels=N_MELS)

    return build(make, state, path, ignore=(*DECODER_KEYS, ignored)).eval()


def load_audiomae(
    path: str | Path, *, n_frames: int | None = None, content: dict[str, Any] | None = None
) -> PretrainedEncoder:
    """AudioMAE's published encoder with its frontend, positions as in the file.

    Reads the pretrained file (decoder passed over), the fine-tuned file (its `fc_norm` and `head` come along, see
    `FineTunedAudioMAE`) and ports with timm's names, also as safetensors. `.embed` works as published: the first
    `n_frames` (10.24 s), padded, and the mean of all patches, padding included. A smaller `n_frames` (a multiple of
    16, up to the table's) keeps the positions of the first patches and wastes less on padding. `content`: that of the
    file, when it has been read. Raises FileNotFoundError, ValueError for such a number, or WeightsError naming the
    keys.

    Where: AudioMAE Sec. 4.1; uaMix-MAE Sec. 3.1; chapter 06
    """
    encoder = _encoder(_state(content or read_weights(path), path), path)
    n_frames = encoder.n_frames if n_frames is None else n_frames
    if n_frames % PATCH or not PATCH <= n_frames <= encoder.n_frames:
        raise ValueError(
            f"n_frames is a multiple of {PATCH} up to {encoder.n_frames}, got {n_frames}"
        )
    frontend = AudioMAEFrontend(n_frames)

    def embed(waveform: Tensor, lengths: Tensor) -> Tensor:
        spec, _ = spectrograms(frontend, waveform, lengths)
        rest = (0, 0, 0, n_frames - spec.shape[1])  # padding counts as sound, as published
        return encoder(pad(spec, rest, value=frontend.pad_value))

    return PretrainedEncoder(encoder, frontend, embed)


def load_masked_autoencoder(path: str | Path) -> MAE:
    """The published pretrained file with its decoder, in eval mode: for reconstructions, or to train on.

    Reads both decoders (sixteen window blocks, or global ones), told by their keys; also `"audiomae_sounds"`, which
    ships, and other files of this project that have a decoder. Raises as `load_audiomae`.

    Where: AudioMAE Sec. 3; chapter 06
    """
    path = shipped_encoders().get(str(path), path)
    if is_ours(path):
        return load_mae(path)
    state = _state(read_weights(path), path)
    encoder = _encoder({k: v for k, v in state.items() if not k.startswith("fc_norm")}, path)
    decoder_state = {k: v for k, v in state.items() if k.startswith(DECODER_KEYS)}
    width = last_size(state.get("mask_token"))
    depth = len({k.split(".")[1] for k in decoder_state if k.startswith("decoder_blocks.")})
    if not width or not depth:
        raise WeightsError(
            f"{path} has no decoder (mask_token, decoder_blocks.*); its keys are {sorted(state)[:8]}"
        )
    maker = WindowDecoder if "decoder_blocks.0.attn.tau" in decoder_state else GlobalDecoder
    scales = decoder_state.get("decoder_blocks.0.attn.tau")
    heads = len(scales) if last_size(scales) else 16
    sizes = {"n_frames": encoder.n_frames, "n_mels": N_MELS}
    decoder = build(
        lambda: maker(encoder.embed_dim, width, depth, heads, **sizes), decoder_state, path
    )
    return MAE(encoder, decoder).eval()
