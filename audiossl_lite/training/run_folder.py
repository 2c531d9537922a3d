"""The folder of a run: its lock, a line of history for each logged step, its last checkpoint and the one before."""

from __future__ import annotations

import contextlib
import json
import math
import os
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.common.devices import rank, world_size
from audiossl_lite.common.writing import writing
from audiossl_lite.training.checkpoint import (
    LAST,
    PREVIOUS,
    impossible_values,
    load_checkpoint,
    remedy,
    save_checkpoint,
)
from audiossl_lite.training.identity import differences

try:
    import fcntl
except ImportError:  # Windows has no flock: there a second writer is not noticed
    fcntl = None


# Of the optimiser's settings, those that the run's own say: a file has no word in them.
OF_THE_RUN = ("betas", "eps", "amsgrad", "maximize")


class RunFolder:
    """History and checkpoint of one run in its folder; in memory only without a folder.

    Process 0 writes (`writes`); the folder is locked while it is open, and the lock ends with the process, however it
    ends. RuntimeError when another process trains into the folder. A run found there is taken up by `start`.
    """

    def __init__(self, output_dir: str | Path | None, *, writes: bool = True) -> None:
        self.folder = Path(output_dir) if output_dir else None
        self.writes = writes and self.folder is not None
        self.parts: dict[str, Any] = {}
        self.identity = ""
        self.history: list[dict] = []
        self.step, self.seconds = 0, 0.0
        self._lock: int | None = None
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()

    def _take_lock(self) -> None:
        path = self.folder / ".lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(self._lock, 32).decode(errors="replace").strip()
                self.close()
                raise RuntimeError(
                    f"process {holder or 'unknown'} is training into {self.folder}; "
                    "wait for it, or choose another output_dir"
                ) from error
        try:
            with writing(path):
                os.ftruncate(self._lock, 0)
                os.write(self._lock, str(os.getpid()).encode())
        except OSError:  # a lock that nobody closes would refuse the next try
            self.close()
            raise
        for left in self.folder.glob(".last.pt.*.part"):  # of a run that was killed while it wrote
            left.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the folder free; nothing is written after this."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def start(self, parts: dict[str, Any], identity: dict) -> None:
        """Remember `parts` (modules, optimizer) for checkpoints, and take up the run that the folder holds.

        A damaged checkpoint is never passed over: ValueError names it, and the one before it when that is whole. Where
        only that one is left, the run goes on from it, with a warning, and ends the same. ValueError, too, for a
        checkpoint that lacks something or is misshapen, of another run (what differs) or of spoiled weights (their
        names).
        """
        self.parts, self.identity = parts, json.dumps(identity, sort_keys=True)
        if self.folder is None:
            return
        if (self.folder / LAST).exists():
            self._resume(self.folder / LAST)
        elif (self.folder / PREVIOUS).exists():
            self._resume(self.folder / PREVIOUS)
            warnings.warn(
                f"{self.folder} has no {LAST}: going on from {PREVIOUS}, after step {self.step}",
                stacklevel=3,
            )
        if self.writes:
            self._rewrite()

    def _resume(self, path: Path) -> None:
        state = load_checkpoint(path)
        with _fitting(path):
            past = _known("identity", json.loads(state["identity"]), dict)
            now, method = json.loads(self.identity), _known("method", state["method"], dict)
            differ, spoiled = differences(past, now), impossible_values(method)
        if differ:
            shown = "; ".join(f"{key} {past.get(key)} there, {now.get(key)} now" for key in differ)
            raise ValueError(
                f"{self.folder} holds a run with other settings; choose another output_dir or delete the folder "
                f"({shown})"
            )
        if spoiled:
            raise ValueError(
                f"{path} holds spoiled weights: {'; '.join(spoiled[:3])}; choose another output_dir"
            )
        with _fitting(path):
            self.step = _known("step", state["step"], int)
            self.seconds = _known("seconds", state["seconds"], (int, float))
            history = _known("history", state["history"], list)
            self.history = [_known("a row of history", row, dict) for row in history]
            _check_progress(self.step, now.get("steps"), self.seconds, self.history)
            others = state.get("views_of_others", [])
            if rank() and len(others) >= rank():
                state["views"] = others[rank() - 1]
            for name, part in self.parts.items():
                if isinstance(part, torch.optim.Optimizer):
                    _load_optimizer(part, state[name])
                else:
                    _same_kinds(part.state_dict(), state[name])
                    part.load_state_dict(state[name])

    def _rewrite(self) -> None:
        """Lines written after the last checkpoint belong to steps that will run again."""
        self._put("".join(json.dumps(row) + "\n" for row in self.history), "w")

    def _put(self, lines: str, mode: str) -> None:
        path = self.folder / "history.jsonl"
        with writing(path), open(path, mode) as file:
            file.write(lines)

    def write(self, **row) -> dict:
        """Add a row to the history, in memory and on disk, and return it."""
        self.history.append(row)
        if self.writes:
            self._put(json.dumps(row) + "\n", "a")
        return row

    def save(self, step: int, seconds: float) -> None:
        """Replace the checkpoint by the state after `step` steps; every process calls it, process 0 writes.

        The views of each process have a memory of their own (mixup), which is part of the state.
        """
        if self.folder is None:
            return
        others = _views_of_others(self.parts["views"]) if world_size() > 1 else []
        if self.writes:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"step": step, "seconds": seconds}
            state |= {"identity": self.identity, "history": self.history}
            if others:
                state["views_of_others"] = others
            save_checkpoint(self.folder / LAST, state, previous=self.folder / PREVIOUS)


@contextlib.contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """What the block misses in a checkpoint, or finds misshapen, is a ValueError with the file and what to do."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{path} is no checkpoint that this run can go on from ({textwrap.shorten(what, 200)}); "
            f"choose another output_dir, or {remedy(path)}"
        ) from error


def _known(name: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    """An entry of a checkpoint; TypeError when it is of another kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}")
    return value


def _check_progress(step: int, steps: Any, seconds: float, history: list[dict]) -> None:
    """ValueError for a place where no run of so many `steps` can be, and for rows that say none of it."""
    if isinstance(step, bool) or step < 0 or (isinstance(steps, int) and step > steps):
        raise ValueError(f"step is {step!r} of {steps}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds is {seconds!r}")
    for row in history:
        _known("step of a row of history", row["step"], int)
        _known("loss of a row of history", row.get("loss", 0.0), (int, float))
    if step and not any("loss" in row for row in history):
        raise ValueError(f"history has no loss for {step} steps")


def _same_kinds(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """TypeError for numbers of another kind, which torch would round or cut without a word."""
    for name, value in theirs.items():
        wanted = ours.get(name)
        if not (isinstance(value, torch.Tensor) and isinstance(wanted, torch.Tensor)):
            continue
        kinds = [(x.is_floating_point(), x.is_complex()) for x in (value, wanted)]
        if kinds[0] != kinds[1]:
            raise TypeError(f"{name} holds {value.dtype}, not {wanted.dtype}")


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load, and look at what torch takes unseen: a step reads moments smaller than their weight beyond their end."""
    before = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, ours in zip(optimizer.param_groups, before, strict=True):
        if missing := set(ours) - set(group):
            raise KeyError(*sorted(missing))
        group.update({name: ours[name] for name in OF_THE_RUN if name in ours})
        moments = ("exp_avg", "exp_avg_sq", "step") if "betas" in group else ("momentum_buffer",)
        for weight in group["params"]:
            held = optimizer.state.get(weight)  # none before the first gradient
            for name in moments if held else ():
                value, shape = held[name], () if name == "step" else tuple(weight.shape)
                if value is None and name == "momentum_buffer":
                    continue
                if tuple(value.shape) != shape or value.untyped_storage().nbytes() < value.nbytes:
                    raise ValueError(
                        f"{name} {tuple(value.shape)} of a weight {tuple(weight.shape)}"
                    )
                if bool(value.isnan().any()):
                    raise ValueError(f"{name} of a weight {tuple(weight.shape)} holds NaN")


def _views_of_others(views: Any) -> list[dict[str, torch.Tensor]]:
    """The state of the views of processes 1, 2, ..., on process 0; elsewhere an empty list."""
    state = {name: value.cpu() for name, value in views.state_dict().items()}
    gathered: list = [None] * world_size() if rank() == 0 else []
    torch.distributed.gather_object(state, gathered or None)
    return gathered[1:]
