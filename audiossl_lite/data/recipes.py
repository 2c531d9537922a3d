"""How a store holds its clips: as 16-bit waveforms, or as spectrograms of a frontend with fixed constants.

The constants are written beside the data. None is measured on the clips: a range fitted to the first files of a
growing store would be wrong for the later ones.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.data.audio import SAMPLE_RATE_HZ
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend

KINDS = ("waveform", "atst", "atst_paper", "audiomae")
FULL_SCALE = 32_768  # a 16-bit sample of this size would be 1.0
SILENCE_DB = -100.0  # the floor of ATSTFrontend's logarithm
PATCH_FRAMES = 16

Recipe = dict[str, Any]


def make_recipe(kind: str, max_s: float | None = None) -> Recipe:
    """All constants of a kind of store: "waveform", "atst", "atst_paper" or "audiomae".

    `max_s`: central seconds that are kept. `batch_length`: samples or frames that every batch has, 0 for those of
    the longest clip. Raises ValueError for another kind or a limit that is not positive.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; use one of {', '.join(KINDS)}")
    if max_s is not None and not 0 < max_s < math.inf:
        raise ValueError(f"max_s must be a positive number of seconds, found {max_s}")
    shared: Recipe = {"name": kind, "sample_rate_hz": SAMPLE_RATE_HZ}
    shared["max_s"] = None if max_s is None else float(max_s)
    if kind == "waveform":
        return shared | {"frontend": "", "pad_value": 0, "batch_length": 0}
    if kind == "audiomae":
        n_frames = 1024
        if max_s is not None:
            frames = (round(max_s * SAMPLE_RATE_HZ) - 400) // 160 + 1
            n_frames = min(n_frames, math.ceil(max(frames, 1) / PATCH_FRAMES) * PATCH_FRAMES)
        frontend = AudioMAEFrontend(n_frames)
        constants = {"n_frames": n_frames, "mean": frontend.mean, "std": frontend.std}
        pad_value, batch_length = frontend.pad_value, n_frames
    else:
        frontend = ATSTFrontend("paper" if kind == "atst_paper" else "official")
        low, high = frontend.min_db, frontend.max_db
        constants = {"variant": frontend.variant, "min_db": low, "max_db": high}
        pad_value, batch_length = (SILENCE_DB - low) / (high - low) * 2.0 - 1.0, 0
    return shared | {
        "frontend": type(frontend).__name__,
        "constants": constants,
        "hop_s": frontend.hop_s,
        "n_mels": frontend.n_mels,
        "pad_value": pad_value,
        "batch_length": batch_length,
    }


def recipe_frontend(recipe: Recipe) -> nn.Module | None:
    """The frontend that made the spectrograms of a store, None for waveforms."""
    makers = {"ATSTFrontend": ATSTFrontend, "AudioMAEFrontend": AudioMAEFrontend}
    return makers[recipe["frontend"]](**recipe["constants"]) if recipe["frontend"] else None


def to_int16(waveform: Tensor) -> tuple[Tensor, bool]:
    """Samples as 16-bit numbers, and whether any lay outside the range and was clipped.

    Exact for what was read from a 16-bit mono file; else the error is at most half a step, 1 / 65,536.
    """
    scaled = (waveform * FULL_SCALE).round()
    kept = scaled.clamp(-FULL_SCALE, FULL_SCALE - 1)
    return kept.to(torch.int16), bool((scaled != kept).any())


@torch.no_grad()
def encode(waveform: Tensor, recipe: Recipe) -> tuple[Tensor, bool]:
    """What a store keeps of a waveform `(S,)`: int16 `(S,)` or float16 `(T, F)`, and whether it was clipped.

    float16 keeps 11 significant bits: the error of a value x is at most |x| / 2048.
    Raises ValueError when the spectrogram is not finite.
    """
    if not recipe["frontend"]:
        return to_int16(waveform)
    frontend = _frontend(json.dumps(recipe))
    n_frames = frontend.n_frames(len(waveform))
    spectrogram = frontend(waveform[None])[0, :n_frames].half()
    if not bool(torch.isfinite(spectrogram).all()):
        raise ValueError("the spectrogram is not finite")
    return spectrogram, False


@functools.lru_cache(maxsize=4)
def _frontend(recipe: str) -> nn.Module:
    frontend = recipe_frontend(json.loads(recipe))
    assert frontend is not None
    return frontend


def bytes_per_second(recipe: Recipe) -> float:
    """Bytes that a second of sound takes in a store."""
    if not recipe["frontend"]:
        return 2.0 * recipe["sample_rate_hz"]
    return 2.0 * recipe["n_mels"] / recipe["hop_s"]
