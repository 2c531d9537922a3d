"""The folder of a run: its lock, a line of history for each logged step, its last checkpoint and the one before."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.common.devices import rank, world_size
from audiossl_lite.training.checkpoint import (
    LAST,
    PREVIOUS,
    impossible_values,
    load_checkpoint,
    save_checkpoint,
)
from audiossl_lite.training.identity import differences

try:
    import fcntl
except ImportError:  # Windows has no flock: there a second writer is not noticed
    fcntl = None


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
        os.ftruncate(self._lock, 0)
        os.write(self._lock, str(os.getpid()).encode())
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
        checkpoint of another run (what differs) or of spoiled weights (their names).
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
        past, now = json.loads(state.get("identity", "{}")), json.loads(self.identity)
        if differ := differences(past, now):
            shown = "; ".join(f"{key} {past.get(key)} there, {now.get(key)} now" for key in differ)
            raise ValueError(
                f"{self.folder} holds a run with other settings; choose another output_dir or delete the folder "
                f"({shown})"
            )
        if spoiled := impossible_values(state["method"]):
            raise ValueError(
                f"{path} holds spoiled weights: {'; '.join(spoiled[:3])}; choose another output_dir"
            )
        others = state.get("views_of_others", [])
        if rank() and len(others) >= rank():
            state["views"] = others[rank() - 1]
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]
        self.history = list(state["history"])

    def _rewrite(self) -> None:
        """Lines written after the last checkpoint belong to steps that will run again."""
        with open(self.folder / "history.jsonl", "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.history)

    def write(self, **row) -> dict:
        """Add a row to the history, in memory and on disk, and return it."""
        self.history.append(row)
        if self.writes:
            with open(self.folder / "history.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")
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


def _views_of_others(views: Any) -> list[dict[str, torch.Tensor]]:
    """The state of the views of processes 1, 2, ..., on process 0; elsewhere an empty list."""
    state = {name: value.cpu() for name, value in views.state_dict().items()}
    gathered: list = [None] * world_size() if rank() == 0 else []
    torch.distributed.gather_object(state, gathered or None)
    return gathered[1:]
