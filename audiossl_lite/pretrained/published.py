"""The authors' published weights, read without running the code that a pickle file may carry.

The files are not part of this project; the data guide tells where their authors publish them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from audiossl_lite.encoders import atst_base, atst_small, byola_cnn
from audiossl_lite.encoders.atst import in_chunks
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend
from audiossl_lite.pretrained.weights import (
    PretrainedEncoder,
    WeightsError,
    build,
    last_size,
    named,
    read_weights,
)


def _atst_state(content: dict[str, Any], path: str | Path) -> tuple[dict[str, Tensor], float]:
    """Encoder weights without prefix, and the chunk length in seconds, from either published layout."""
    if "pytorch-lightning_version" in content:
        prefix = "model.teacher.encoder."
        state = {
            key.removeprefix(prefix): value
            for key, value in named(content.get("state_dict"), path).items()
            if key.startswith(prefix)
        }
        hyper = content.get("hyper_parameters")
        seconds = getattr(hyper, "train_len", 6.0)
        if isinstance(hyper, dict):
            seconds = hyper.get("train_len", seconds)
    elif "teacher" in content:
        state = {
            key.removeprefix("module.").removeprefix("backbone."): value
            for key, value in named(content["teacher"], path).items()
        }
        anchor = getattr(content.get("args"), "anchor_len", None)
        seconds = anchor[0] if isinstance(anchor, (list, tuple)) and anchor else 6.0
    else:
        state, seconds = content, 6.0
    if not state:
        raise WeightsError(
            f"{path} holds no teacher encoder; its top keys are {sorted(content)[:8]}"
        )
    if not isinstance(seconds, (int, float)) or not 0.1 <= seconds <= 600:
        raise WeightsError(
            f"{path} gives {seconds!r} as its training length; 0.1 to 600 s are usable"
        )
    return state, float(seconds)


def load_atst(path: str | Path, content: dict[str, Any] | None = None) -> PretrainedEncoder:
    """ATST's published teacher, Small or Base (told by its width), with the official frontend.

    Reads the Lightning layout, the DINO-like layout (`teacher`, `args`) and a bare encoder state. `.embed` centre-crops
    to 12 s, works in chunks of the training length (6 s) and returns the averaged CLS token. `content`: that of the
    file, when it has been read.

    Where: ATST Sec. 3.2; chapter 10
    """
    state, seconds = _atst_state(content or read_weights(path), path)
    width = last_size(state.get("cls_token"))
    makers = {384: atst_small, 768: atst_base}
    if width not in makers:
        raise WeightsError(
            f"{path}: cls_token is missing or {width} wide; ATST-Small has 384, ATST-Base 768 "
            f"(keys: {sorted(map(str, state))[:5]})"
        )
    encoder = build(makers[width], state, path, ignore=("head.", "projector.", "predictor.")).eval()
    frontend = ATSTFrontend("official")
    features = in_chunks(encoder, int(seconds * 100) + 1)

    def embed(waveform: Tensor, lengths: Tensor) -> Tensor:
        return features(*spectrograms(frontend, waveform, lengths, max_s=12.0))

    return PretrainedEncoder(encoder, frontend, embed)


def load_byol_a(
    path: str | Path,
    mean: float | None = None,
    std: float | None = None,
    content: dict[str, Any] | None = None,
) -> PretrainedEncoder:
    """BYOL-A's published CNN (512, 1024 or 2048 wide) with its frontend; whole clips at once.

    `mean`, `std`: log-mel statistics of the data at hand (`BYOLAFrontend().fit(waveforms)`), as its authors advise;
    by default those of their example. `content`: that of the file, when it has been read.

    Where: BYOL-A Sec. 4.1; chapter 10
    """
    state = content or read_weights(path)
    if not last_size(state.get("fc.0.weight")):
        raise WeightsError(f"{path} has no fc.0.weight; its keys are {sorted(state)[:8]}")
    width = len(state["fc.0.weight"])
    encoder = build(lambda: byola_cnn(width), state, path).eval()
    default = BYOLAFrontend()
    frontend = BYOLAFrontend(
        default.mean if mean is None else mean, default.std if std is None else std
    )

    def embed(waveform: Tensor, lengths: Tensor) -> Tensor:
        return encoder(*spectrograms(frontend, waveform, lengths))

    return PretrainedEncoder(encoder, frontend, embed)
