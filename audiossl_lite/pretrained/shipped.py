"""Small trained encoders that come with the project, and the file format they are kept in.

A file is safetensors: weights as data, nothing that runs. Its metadata say which function of `encoders` makes the
network, which frontend feeds it, where it comes from, and what a fixed sound gave when it was written (the golden
vector); `NAME.md` beside it is its model card.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from audiossl_lite import encoders
from audiossl_lite.common.parameters import nearest
from audiossl_lite.data.store_format import write_whole
from audiossl_lite.encoders.atst import in_chunks
from audiossl_lite.encoders.decoders import GlobalDecoder
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend
from audiossl_lite.methods.mae import MAE
from audiossl_lite.pretrained.weights import (
    FLOATS,
    SEAL,
    UNSEALED,
    PretrainedEncoder,
    WeightsError,
    build,
    load_state,
    read_safetensors,
    sealed,
)

FOLDER = Path(__file__).parent / "models"
FRONTENDS = {
    "ATSTFrontend": (ATSTFrontend, ("variant", "min_db", "max_db")),
    "AudioMAEFrontend": (AudioMAEFrontend, ("target_frames", "mean", "std", "n_mels")),
    "BYOLAFrontend": (BYOLAFrontend, ("mean", "std")),
}
DESCRIPTION = {"encoder": dict, "frontend": dict, "about": dict, "golden": list}
SCALE, DECODER = ":scale", "decoder."
WHOLE_NUMBERS = ("chunk_frames", "target_frames", "n_frames", "n_mels")
LARGEST_SIZE = 65_536  # of what a file may say about its network and frontend
RENAMED = {"target_frames": "n_frames"}  # attributes whose argument has another name


def save_encoder(
    path: str | Path,
    encoder: nn.Module,
    frontend: nn.Module,
    *,
    maker: str,
    options: dict[str, Any] | None = None,
    about: dict[str, Any] | None = None,
    chunk_frames: int = 0,
    bits: int = 32,
    mae: MAE | None = None,
) -> None:
    """Write an encoder with its frontend's constants to a safetensors file.

    `chunk_frames`: clips are embedded in chunks of that many frames, averaged; 0: whole. `bits` of a weight: 32, 16, or
    8, where each row of a matrix has a scale of its own and all else 16. `mae`: the encoder's masked autoencoder with a
    `GlobalDecoder` of the same `options`, for `load_mae`.

    `maker`, `options`: the function of `audiossl_lite.encoders` that makes this network, and its arguments. `about`:
    plain values on its origin (data, licence, settings, scores). Raises KeyError for another maker or frontend,
    ValueError for other bits, WeightsError when the maker gives a network of other parameters.
    """
    kind = type(frontend).__name__
    if kind not in FRONTENDS:
        raise KeyError(f"unknown frontend {kind}; known: {', '.join(FRONTENDS)}")
    constants = {RENAMED.get(name, name): getattr(frontend, name) for name in FRONTENDS[kind][1]}
    state = _rounded(encoder.state_dict(), bits)
    network = _make(maker, options or {}).eval()
    load_state(network, _whole(state), path)
    made = {"maker": maker, "options": options or {}, "chunk_frames": chunk_frames}
    if mae is not None:
        blocks, parts = mae.decoder.decoder_blocks, mae.decoder.state_dict()
        sizes = {"dim": mae.decoder.dim, "depth": len(blocks), "heads": blocks[0].attn.heads}
        made |= {"decoder": sizes, "norm_patches": mae.norm_patches}
        state |= _rounded({DECODER + key: value for key, value in parts.items()}, bits)
    embed = _embedding(network, copy.deepcopy(frontend).cpu(), chunk_frames)
    with torch.no_grad():
        golden = embed(*golden_sound())[0].tolist()
    metadata = {
        "encoder": json.dumps(made),
        "frontend": json.dumps({"class": kind, "constants": constants}),
        "about": json.dumps(about or {}),
        "golden": json.dumps([float(f"{value:.6g}") for value in golden]),
        SEAL: UNSEALED,
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # Not `save_file`, which makes a file that its owner alone may read.
    write_whole(Path(path), sealed(safetensors.torch.save(state, metadata=metadata)))


def _rounded(state: dict[str, Tensor], bits: int) -> dict[str, Tensor]:
    """The weights on the CPU in that many bits; a matrix in 8 bits has the entry `KEY:scale` beside it."""
    if bits not in (8, 16, 32):
        raise ValueError(f"bits must be 8, 16 or 32, got {bits}")
    rounded: dict[str, Tensor] = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        if bits == 8 and value.is_floating_point() and value.dim() > 1:
            scale = value.flatten(1).abs().amax(1).clamp_min(1e-30) / 127.0
            scale = scale.view(-1, *[1] * (value.dim() - 1))
            rounded[key], rounded[key + SCALE] = (value / scale).round().to(torch.int8), scale
        else:
            rounded[key] = value.half() if bits < 32 and value.is_floating_point() else value
    return rounded


def _whole(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `_rounded` as a network takes them; a scale that does not fit stays, as an entry too many."""
    whole = dict(state)
    for name in [key for key in state if key.endswith(SCALE)]:
        key, scale = name.removesuffix(SCALE), state[name]
        weight = state.get(key, scale)
        wanted = (*weight.shape[:1], *[1] * (weight.dim() - 1))
        if weight.dtype is torch.int8 and scale.dtype in FLOATS and scale.shape == wanted:
            whole[key] = weight * whole.pop(name)
    return whole


def golden_sound() -> tuple[Tensor, Tensor]:
    """One second of a falling chirp, `(1, 16000)`, and its length `(1,)`: no random numbers."""
    time_s = torch.arange(16_000, dtype=torch.float64) / 16_000
    phase = 2.0 * math.pi * (4_000.0 * time_s - 1_900.0 * time_s.square())
    return (0.5 * (-2.0 * time_s).exp() * phase.sin()).float()[None], torch.tensor([16_000])


def _make(maker: str, options: dict[str, Any]) -> nn.Module:
    if maker not in encoders.__all__:
        raise KeyError(f"unknown encoder {maker!r}; known: {', '.join(encoders.__all__)}")
    return getattr(encoders, maker)(**options)


def _check_sizes(described: dict[str, Any], n_tensors: int) -> None:
    """ValueError for a number that would take hours or gigabytes; a network is not deeper than it has tensors."""
    for name, value in described.items():
        largest = n_tensors if name == "depth" else LARGEST_SIZE
        if not isinstance(value, (int, float)) and name != "variant":
            raise ValueError(f"{name} must be a number, got {value!r}")
        if isinstance(value, float) and name in WHOLE_NUMBERS:
            raise ValueError(f"{name} must be a whole number, got {value}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
        if isinstance(value, int) and not 0 <= value <= largest:
            raise ValueError(f"{name} must be between 0 and {largest}, got {value}")


def describe_encoder(path: str | Path) -> dict[str, Any]:
    """What a file of `save_encoder` says about itself: `encoder`, `frontend`, `about`, and `golden` (may be empty).

    Raises FileNotFoundError, or WeightsError for a file that is damaged or says nothing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no encoder at {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        metadata.setdefault("golden", "[]")
        described = {name: json.loads(metadata[name]) for name in DESCRIPTION}
        for name, kind in DESCRIPTION.items():
            if not isinstance(described[name], kind):
                raise ValueError(f"{name} is a {type(described[name]).__name__}")
        return described
    except (safetensors.SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no encoder file of this project: {error}") from error


def load_encoder(path: str | Path) -> PretrainedEncoder:
    """An encoder of `save_encoder` in eval mode with its frontend; `.embed(waveform (B, S)) -> (B, D)`.

    Errors as `describe_encoder`; WeightsError too when weights and description do not fit, or the checksum does not. A
    file without one is read with a warning.
    """
    described = describe_encoder(path)
    made, fed = described["encoder"], described["frontend"]
    state = _whole(read_safetensors(Path(path), ours=True))
    try:
        chunk_frames = made.get("chunk_frames", 0)
        _check_sizes(made["options"] | {"chunk_frames": chunk_frames}, n_tensors=len(state))
        _check_sizes(fed["constants"], n_tensors=len(state))
        frontend = FRONTENDS[fed["class"]][0](**fed["constants"])
        maker, options = made["maker"], made["options"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} describes a network that cannot be made: {error}") from error
    encoder = build(lambda: _make(maker, options), state, path, ignore=(DECODER,))
    encoder.eval().requires_grad_(False)

    embed = _embedding(encoder, frontend, chunk_frames)
    about = described["about"] | {"golden": described["golden"], "chunk_frames": chunk_frames}
    return PretrainedEncoder(encoder, frontend, embed, about=about)


def _embedding(
    encoder: nn.Module, frontend: nn.Module, chunk_frames: int
) -> Callable[[Tensor, Tensor], Tensor]:
    features = in_chunks(encoder, chunk_frames)
    return lambda waveform, lengths: features(*spectrograms(frontend, waveform, lengths))


def shipped_encoders() -> dict[str, Path]:
    """Names and files of the encoders that come with the project."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def load_shipped(name: str) -> PretrainedEncoder:
    """A shipped encoder by name; KeyError names the nearest one."""
    known = shipped_encoders()
    if name not in known:
        hint = f"; did you mean {nearest(name, tuple(known))!r}?" if known else ""
        raise KeyError(f"unknown encoder {name!r}{hint} Shipped: {', '.join(known) or 'none'}")
    return load_encoder(known[name])


def is_ours(path: str | Path) -> bool:
    """Whether a file is one of `save_encoder`; False too for one that cannot be read."""
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return "encoder" in (file.metadata() or {})
    except safetensors.SafetensorError:
        return False


def load_mae(path: str | Path) -> MAE:
    """The encoder of a file with its decoder, in eval mode; its frontend is that of `load_encoder`.

    Errors as `load_encoder`; WeightsError for an encoder without a decoder.
    """
    encoder, made = load_encoder(path).encoder, describe_encoder(path)["encoder"]
    if not (sizes := made.get("decoder")):
        raise WeightsError(
            f"{path} holds an encoder alone; a masked autoencoder has a decoder, too"
        )
    state = _whole(read_safetensors(Path(path), ours=True))
    state = {k.removeprefix(DECODER): v for k, v in state.items() if k.startswith(DECODER)}
    try:
        _check_sizes(sizes, n_tensors=len(state))
        options = sizes | made["options"]
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} describes a decoder that cannot be made: {error}") from error
    decoder = build(lambda: GlobalDecoder(encoder.embed_dim, **options), state, path)
    norm_patches = bool(made.get("norm_patches", True))
    return MAE(encoder, decoder.requires_grad_(False), norm_patches=norm_patches).eval()
