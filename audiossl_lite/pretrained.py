"""The authors' published weights, read without running the code that a pickle file may carry.

The files are not part of this project; the data guide tells where their authors publish them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.encoders import atst_base, atst_small, byola_cnn
from audiossl_lite.encoders.atst import ATSTEncoder, chunk_average
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend


class WeightsError(ValueError):
    """A weight file is not what it should be; the message names the file and the keys.

    Where: this project; chapter 10
    """


@dataclass(frozen=True)
class PretrainedEncoder:
    """A published encoder in eval mode with its own frontend.

    Where: ATST Sec. 2.2.2; chapter 10
    """

    encoder: nn.Module
    frontend: nn.Module
    _embed: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def embed(self, waveform: Tensor) -> Tensor:
        """Embeddings `(B, D)` of waveforms `(B, S)` at 16 kHz.

        Where: ATST Sec. 3.2; chapter 10
        """
        return self._embed(waveform)


def _inert_class(full_name: str) -> type:
    """An empty class under a foreign name: it takes attributes and does nothing."""
    module, _, name = full_name.rpartition(".")

    def init(self, *args: Any, **kwargs: Any) -> None:
        self.arguments = (args, kwargs)

    return type(
        name, (dict,), {"__module__": module, "__init__": init, "__setstate__": _take_state}
    )


def _take_state(self: Any, state: Any) -> None:
    if isinstance(state, dict):
        self.__dict__.update(state)


def _load_with(path: Path, stand_in: Callable[[str], type] | None) -> Any:
    """torch's data-only reading, with a stand-in for every class that the file names."""
    stand_ins = []
    if stand_in is not None:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins = [(stand_in(name), name) for name in foreign]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


def read_weights(path: str | Path) -> dict[str, Any]:
    """The dictionary in a torch file; classes that it names are replaced by inert ones, never imported or run.

    Raises FileNotFoundError, or WeightsError for a damaged file or one that holds something else.

    Where: this project; chapter 10
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weight file at {path}; the data guide names the authors' download page"
        )
    # Plain data first; then with inert stand-ins; then with plain dictionaries as stand-ins, since torch fills no
    # other class with items (hyper-parameters may be a subclass of dict).
    attempts = (None, _inert_class, lambda name: OrderedDict)
    for stand_in in attempts:
        try:
            content = _load_with(path, stand_in)
            break
        except OSError:
            raise
        except Exception as error:  # damaged bytes can fail anywhere inside the unpickler
            failure = error
    else:
        reason = (str(failure) or type(failure).__name__).splitlines()[0]
        raise WeightsError(f"{path} cannot be read as weights: {reason}") from failure
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    return content


def load_state(
    module: nn.Module, state: dict[str, Any], path: str | Path, ignore: tuple[str, ...] = ()
) -> None:
    """Fill `module` from `state`; missing, unexpected and misshapen keys are errors that name them.

    Keys that start with one of `ignore` (heads that downstream work drops) are passed over.

    Where: this project; chapter 10
    """
    state = (
        {key: value for key, value in state.items() if not key.startswith(ignore)}
        if ignore
        else state
    )
    expected = module.state_dict()
    problems = [f"missing {key}" for key in expected.keys() - state.keys()]
    problems += [f"unexpected {key}" for key in state.keys() - expected.keys()]
    problems += [
        f"{key} has shape {tuple(getattr(state[key], 'shape', ()))}, expected {tuple(expected[key].shape)}"
        for key in expected.keys() & state.keys()
        if getattr(state[key], "shape", None) != expected[key].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:8])
        raise WeightsError(
            f"{path} does not fit {type(module).__name__}: {shown} ({len(problems)} in all)"
        )
    module.load_state_dict(state)


def _atst_state(content: dict[str, Any], path: str | Path) -> tuple[dict[str, Tensor], float]:
    """Encoder weights without prefix, and the chunk length in seconds, from either published layout."""
    if "pytorch-lightning_version" in content:
        prefix = "model.teacher.encoder."
        state = {
            key.removeprefix(prefix): value
            for key, value in content["state_dict"].items()
            if key.startswith(prefix)
        }
        hyper = content.get("hyper_parameters") or {}
        seconds = (
            hyper.get("train_len", getattr(hyper, "train_len", 6.0)) if hyper is not None else 6.0
        )
    elif "teacher" in content:
        state = {
            key.removeprefix("module.").removeprefix("backbone."): value
            for key, value in content["teacher"].items()
        }
        anchor = getattr(content.get("args"), "anchor_len", None)
        seconds = anchor[0] if anchor else 6.0
    else:
        state, seconds = content, 6.0
    if not state:
        raise WeightsError(
            f"{path} holds no teacher encoder; its top keys are {sorted(content)[:8]}"
        )
    return state, float(seconds)


def load_atst(path: str | Path) -> PretrainedEncoder:
    """ATST's published teacher, Small or Base (told by its width), with the official frontend.

    Reads the Lightning layout, the DINO-like layout (`teacher`, `args`) and a bare encoder state. `.embed` centre-crops
    to 12 s, works in chunks of the training length (6 s) and returns the averaged CLS token.

    Where: ATST Sec. 3.2; chapter 10
    """
    state, seconds = _atst_state(read_weights(path), path)
    width = state["cls_token"].shape[-1] if isinstance(state.get("cls_token"), Tensor) else None
    makers = {384: atst_small, 768: atst_base}
    if width not in makers:
        raise WeightsError(
            f"{path}: cls_token is missing or {width} wide; ATST-Small has 384, ATST-Base 768 "
            f"(keys: {sorted(state)[:5]})"
        )
    encoder: ATSTEncoder = makers[width]()
    load_state(encoder, state, path, ignore=("head.", "projector.", "predictor."))
    encoder.eval()
    frontend = ATSTFrontend("official")
    chunk_frames = int(seconds * 100) + 1

    def embed(waveform: Tensor) -> Tensor:
        spec = frontend(centre_crop(waveform, 12 * 16_000))
        frames = torch.full((len(spec),), spec.shape[1], device=spec.device)
        return chunk_average(
            lambda part, left: encoder(part, left.clamp(max=part.shape[1])),
            spec,
            frames,
            chunk_frames,
        )

    return PretrainedEncoder(encoder, frontend, embed)


def load_byol_a(
    path: str | Path, mean: float | None = None, std: float | None = None
) -> PretrainedEncoder:
    """BYOL-A's published CNN (512, 1024 or 2048 wide) with its frontend; whole clips at once.

    `mean`, `std`: log-mel statistics of the data at hand (`BYOLAFrontend().fit(waveforms)`), as its authors advise;
    by default those of their example.

    Where: BYOL-A Sec. 4.1; chapter 10
    """
    state = read_weights(path)
    if not isinstance(state.get("fc.0.weight"), Tensor):
        raise WeightsError(f"{path} has no fc.0.weight; its keys are {sorted(map(str, state))[:8]}")
    encoder = byola_cnn(state["fc.0.weight"].shape[0])
    load_state(encoder, state, path)
    encoder.eval()
    default = BYOLAFrontend()
    frontend = BYOLAFrontend(
        default.mean if mean is None else mean, default.std if std is None else std
    )
    return PretrainedEncoder(encoder, frontend, lambda waveform: encoder(frontend(waveform)))


def centre_crop(waveform: Tensor, size: int) -> Tensor:
    """The middle `size` samples of `(B, S)`, or all of a shorter clip.

    Where: ATST Sec. 3.2; chapter 11
    """
    start = max((waveform.shape[1] - size) // 2, 0)
    return waveform[:, start : start + size]
