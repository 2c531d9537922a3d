"""Weight files read without running the code that a pickle file may carry."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from audiossl_lite.frontends import check_waveform


class WeightsError(ValueError):
    """A weight file is not what it should be; the message names the file and the keys."""


@dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder in eval mode with its own frontend, and the way in which it embeds clips.

    `takes_lengths`: whether it can tell a clip from its padding; else clips of other lengths are embedded apart.
    `name`, `about`: what it is called, and what is known of its origin. `identity`: changes with the weights.

    Where: ATST Sec. 2.2.2; chapter 10
    """

    encoder: nn.Module
    frontend: nn.Module
    _embed: Callable[[Tensor, Tensor], Tensor]
    takes_lengths: bool = True
    name: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    identity: str = ""

    @torch.no_grad()
    def embed(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embeddings `(B, D)` of waveforms `(B, S)` at 16 kHz, of which `lengths (B,)` samples are the clip.

        A padded clip gives what it gives alone. Raises ValueError for another shape, NaN or infinite samples.

        Where: ATST Sec. 3.2; chapter 10
        """
        waveform = check_waveform(waveform, 1)
        if lengths is None:
            lengths = torch.full((len(waveform),), waveform.shape[1])
        return self._embed(waveform, lengths)

    def to(self, device: str | torch.device) -> PretrainedEncoder:
        """The same encoder, moved to a device: waveforms must be there too."""
        self.encoder.to(device)
        self.frontend.to(device)
        return self


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
    """The dictionary in a torch (or safetensors) file, read as data.

    Classes that the file names are replaced by inert ones, never imported or run.
    Raises FileNotFoundError, or WeightsError for a damaged file or one that holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weight file at {path}; the data guide names the authors' download page"
        )
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise WeightsError(f"{path} cannot be read as weights: {error}") from error
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
