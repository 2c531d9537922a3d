"""Weight files read without running the code that a pickle file may carry."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from audiossl_lite.frontends import check_waveform
from audiossl_lite.training.checkpoint import damaged_record, impossible_values, unread

SEAL = "sha256"  # the entry of a safetensors file that sums all its bytes, itself as zeros
UNSEALED = "0" * 64
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# How a file begins that stands where the weights should.
STRANGERS = {
    b"version https://git-lfs": "it is a Git LFS pointer: fetch the file itself with git lfs pull",
    b"<": "it is a web page, so its download failed: fetch it again",
}


class WeightsError(ValueError):
    """A weight file is not what it should be; the message names the file and the keys."""


@dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder in eval mode with its own frontend, and the way in which it embeds clips.

    `takes_lengths`: whether it can tell a clip from its padding; else clips of other lengths are embedded apart.
    `name`, `about`: what it is called, and what is known of its origin. `identity`: changes with the weights.
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

        A padded clip gives what it gives alone. Raises ValueError for another shape, NaN or infinite samples, and
        WeightsError when the encoder gives something else.
        """
        waveform = check_waveform(waveform, 1)
        if lengths is None:
            lengths = torch.full((len(waveform),), waveform.shape[1])
        return check_rows(self._embed(waveform, lengths), len(waveform), self.name)

    def to(self, device: str | torch.device) -> PretrainedEncoder:
        """The same encoder, moved to a device: waveforms must be there too."""
        self.encoder.to(device)
        self.frontend.to(device)
        return self


def check_rows(out: Any, n_clips: int, name: str) -> Tensor:
    """`out` when it is an embedding `(n_clips, D)`, else WeightsError naming the encoder."""
    if isinstance(out, Tensor) and out.dim() == 2 and len(out) == n_clips and out.shape[1]:
        return out
    found = tuple(out.shape) if isinstance(out, Tensor) else f"a {type(out).__name__}"
    raise WeightsError(
        f"{name or 'the encoder'} gave {found} for {n_clips} clips; it must give a tensor of one row a clip, "
        f"({n_clips}, D)"
    )


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

    Classes that the file names are replaced by inert ones, never imported or run. Checksums that a file carries (all of
    torch's, and safetensors of this project) are compared. Raises FileNotFoundError, or WeightsError for a damaged file
    or one that holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weight file at {path}; the data guide names the authors' download page"
        )
    with open(path, "rb") as file:
        start = file.read(64).lstrip()
    if stranger := next((why for sign, why in STRANGERS.items() if start.startswith(sign)), ""):
        raise WeightsError(f"{path} holds no weights; {stranger}")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if damage := damaged_record(path):
        raise WeightsError(f"{path} is damaged ({damage}); fetch it again")
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
        raise WeightsError(f"{path} cannot be read as weights: {unread(failure)}") from failure
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    return named(content, path)


def named(content: Any, path: str | Path) -> dict[str, Any]:
    """`content` when it is a dictionary with names as keys, else WeightsError."""
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise WeightsError(
            f"{path} holds a {type(content).__name__} where names of weights should be"
        )
    return content


def last_size(value: Any) -> int | None:
    """The size of the last axis, None for what is no tensor or has no axis."""
    return value.shape[-1] if isinstance(value, Tensor) and value.dim() else None


def sealed(content: bytes) -> bytes:
    """A safetensors file whose entry `sha256` is `UNSEALED`, with the sum of its bytes there instead."""
    return content.replace(UNSEALED.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def read_safetensors(path: Path, *, ours: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file, whose seal is compared when it has one; `ours`: warn when it has none.

    Raises WeightsError for a damaged file.
    """
    content = path.read_bytes()
    head = content[: 8 + int.from_bytes(content[:8], "little")]
    seal = re.search(rf'"{SEAL}":"([0-9a-f]{{64}})"'.encode(), head)
    if seal:
        start, end = seal.span(1)
        total = hashlib.sha256(content[:start] + UNSEALED.encode() + content[end:]).hexdigest()
        if total.encode() != seal[1]:
            raise WeightsError(f"{path} is damaged (its checksum is wrong); fetch or save it again")
    elif ours:
        warnings.warn(f"{path} has no checksum: whether it is damaged cannot be told", stacklevel=3)
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: of a type torch lacks
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error


def load_state(module: nn.Module, state: dict[str, Any], path: str | Path) -> None:
    """Fill `module` from `state`; WeightsError names missing, unexpected, misshapen and impossible entries."""
    module.load_state_dict(_fitting(module, state, path))


def build(
    make: Callable[[], nn.Module],
    state: dict[str, Any],
    path: str | Path,
    ignore: tuple[str, ...] = (),
) -> nn.Module:
    """The network of `make` filled from `state`; sizes are compared before memory is taken.

    Keys that start with one of `ignore` (heads that downstream work drops) are passed over.
    WeightsError as `load_state`, and when such a network cannot be made.
    """
    try:
        with torch.device("meta"):
            outline = make()
    except Exception as error:  # sizes from a file can fail anywhere
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} describes a network that cannot be made: {reason}") from error
    state = _fitting(outline, state, path, ignore)
    module = make()
    module.load_state_dict(state)
    return module


def _fitting(
    module: nn.Module, state: dict[str, Any], path: str | Path, ignore: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The entries of `state` without the ignored ones, when they are what `module` holds."""
    state = {key: value for key, value in state.items() if not (ignore and key.startswith(ignore))}
    expected = module.state_dict()
    problems = [f"missing {key}" for key in expected.keys() - state.keys()]
    problems += [f"unexpected {key}" for key in state.keys() - expected.keys()]
    for key in expected.keys() & state.keys():
        problems += _misfit(key, state[key], expected[key])
    problems = problems or impossible_values(state)
    if problems:
        shown = "; ".join(sorted(problems)[:8])
        raise WeightsError(
            f"{path} does not fit {type(module).__name__}: {shown} ({len(problems)} in all)"
        )
    return state


def _misfit(key: str, value: Any, expected: Tensor) -> list[str]:
    if not isinstance(value, Tensor):
        return [f"{key} is a {type(value).__name__}, not a tensor"]
    if value.shape != expected.shape:
        return [f"{key} has shape {tuple(value.shape)}, expected {tuple(expected.shape)}"]
    plain = value.layout is torch.strided and not (value.is_quantized or value.is_meta)
    if not plain or value.is_complex() or value.is_floating_point() != expected.is_floating_point():
        return [f"{key} holds {value.dtype}, expected {expected.dtype}"]
    if value.is_floating_point() and value.dtype not in FLOATS:
        return [f"{key} holds {value.dtype}, which is not read"]
    stored = value.untyped_storage().nbytes()
    if value.numel() * value.element_size() > stored:  # one number, repeated
        return [f"{key} has shape {tuple(value.shape)} and only {stored} bytes in the file"]
    return []
