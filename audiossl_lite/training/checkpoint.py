"""Checkpoints: whole or absent (written aside, then moved into place), with checksums, read without running code.

torch keeps a CRC-32 of every record of its files and never looks at it; here it is compared before anything is taken.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiossl_lite.common.writing import writing

LAST, PREVIOUS = "last.pt", "previous.pt"
LARGEST = 1e18  # of a weight; the squares of larger ones leave float32


def save_checkpoint(
    path: str | Path, state: dict[str, Any], *, previous: str | Path | None = None
) -> None:
    """Write `state` (tensors, numbers, strings, lists, dicts) to `path` atomically.

    A run killed in the middle leaves the old file untouched. `previous`: where the file that stood at `path` stays.
    Raises OSError naming the file when it cannot be written whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path, aside):
            _save(state, aside)
            if previous and path.exists():
                _set_aside(path, Path(previous))
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _save(state: dict[str, Any], path: Path) -> None:
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:  # torch's own words when a write fails: "unexpected pos"
        cause = error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror) from error


def _set_aside(path: Path, previous: Path) -> None:
    """Keep the file at `path` as `previous`, too: at every moment a whole one stands at one of the two."""
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # a file system without links
        os.replace(path, previous)


def forget_checkpoints(folder: str | Path) -> None:
    """Delete the checkpoints of a run that nobody will take up: optimiser, teacher, memory of mixup."""
    for name in (LAST, PREVIOUS):
        (Path(folder) / name).unlink(missing_ok=True)


def check_free(folder: str | Path | None, result: str) -> None:
    """ValueError where a run from the beginning would replace the file `result` that another one left in a folder."""
    if not folder or any((Path(folder) / name).exists() for name in (LAST, PREVIOUS)):
        return
    if (Path(folder) / result).exists():
        raise ValueError(
            f"{folder} holds {result} of a run without its checkpoint, which a new run would replace; move it away, or "
            "choose another output_dir"
        )


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of `save_checkpoint`; nothing but tensors and plain values is accepted.

    Raises FileNotFoundError, or ValueError for a file that is damaged (its checksums tell) or holds other objects; the
    message says what to do, and names the checkpoint before it when that one is whole. A file in torch's older format
    has no checksums: it is read, with a warning.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        return _read(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged or not a checkpoint of this project ({error}); {remedy(path)}"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        if damage := damaged_record(path):
            raise ValueError(damage)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except OSError:
        raise
    except Exception as error:  # damaged bytes can fail anywhere inside the unpickler
        raise ValueError(unread(error)) from error
    if not zipfile.is_zipfile(path):
        warnings.warn(
            f"{path} has no checksums: whether it is damaged cannot be told", stacklevel=3
        )
    return state


def remedy(path: Path) -> str:
    """What to do about an unusable checkpoint; of a run, the checkpoint before it is looked at."""
    previous = path.with_name(PREVIOUS)
    if path.name != LAST or not previous.is_file():
        return "delete it to start the run from the beginning"
    try:
        step = _read(previous)["step"]
    except (ValueError, KeyError):
        return (
            f"{PREVIOUS} beside it is damaged, too: delete both to start the run from the beginning"
        )
    return f"delete it to go on from {PREVIOUS} beside it, which is whole and holds step {step}"


def unread(error: Exception) -> str:
    """Why torch could not read a file, in one line; its own advice, to let the file run code, is left out."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    if text.startswith("Weights only load failed"):
        return "it is damaged, or holds code, of which nothing was run"
    return text


def damaged_record(path: Path) -> str:
    """Which record of a file of `torch.save` has another checksum than was written; "" for none, or an older format."""
    with open(path, "rb") as start:
        if start.read(4) != b"PK\x03\x04":
            return ""
    try:
        with zipfile.ZipFile(path) as file:
            # Records are stored as they are: what claims to be more was not written by torch.
            if sum(record.file_size for record in file.infolist()) > path.stat().st_size:
                return "its records claim more bytes than the file has"
            name = file.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        return f"cut off, or its list of records is wrong: {error}"
    return f"the checksum of its record {name} is wrong" if name else ""


def impossible_values(state: Mapping[str, Any]) -> list[str]:
    """What no trained network holds, by the tensor's name: NaN, infinite or huge values, a negative variance."""
    problems = []
    for name, value in state.items():
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
            continue
        low, high = (float(x) for x in value.aminmax())  # NaN when one value is
        if not (low >= -LARGEST and high <= LARGEST):
            problems.append(f"{name} holds values from {low:.3g} to {high:.3g}")
        elif name.endswith("running_var") and low < 0:
            problems.append(f"{name} holds a negative variance, {low:.3g}")
    return problems
