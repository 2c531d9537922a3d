"""What a stage is, and what its function is given: a device, a share of the time, a folder, a place for its record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.experiments import records as results


@dataclass(frozen=True)
class Stage:
    """One piece of the GPU's work: `function` ("module:name") is called with a `Task` in a process of its own.

    `share`: its part of the time that is left, in proportion to the others'. `at_least_s`, `at_most_s`: with less it is
    not started, more it does not get. `needs`: stages without whose complete record it cannot start. `options`: what
    tells it from other stages of the same function.
    """

    name: str
    title: str
    function: str
    share: float = 1.0
    at_least_s: float = 10.0
    at_most_s: float = float("inf")
    needs: tuple[str, ...] = ()
    beside: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What the function of a stage gets.

    `seconds`: how long it may take, counted from `began` (`time.monotonic()`); after that it is killed, so it plans
    to end at nine tenths. `folder`: its own, for what it keeps between calls (checkpoints); `out`: the folder of the
    whole run. `data`: a folder of sounds, or None (embedded sounds). `toy`: small sizes for a CPU; a toy number says
    nothing about a GPU and its record says scale "toy". `together`: how many stages may share the card with it, itself
    included.
    """

    stage: Stage
    device: torch.device
    seconds: float
    began: float
    out: Path
    data: Path | None = None
    toy: bool = False
    together: int = 1
    scale_of_runs: str = "gpu"

    @property
    def scale(self) -> str:
        """Scale of what is recorded: "gpu" or "workshop", or "toy"."""
        return "toy" if self.toy else self.scale_of_runs

    @property
    def folder(self) -> Path:
        """The stage's own folder, made at the first look."""
        folder = self.out / "stages" / self.stage.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def record_path(self) -> Path:
        """Where the stage's record stands."""
        return record_path(self.out, self.stage.name)

    def left(self) -> float:
        """Seconds until the stage is killed."""
        return self.began + self.seconds - time.monotonic()

    def record_of(self, stage: str, *, partly: bool = False) -> dict[str, Any] | None:
        """`record_of` another stage of the run."""
        return record_of(self.out, stage, partly=partly)

    def write(
        self,
        values: Sequence[dict[str, Any]],
        *,
        config: Any,
        data: str = "none",
        data_fingerprint: str = "",
        seeds: Sequence[int] = (),
        note: str = "",
        complete: bool = True,
        **more: Any,
    ) -> dict[str, Any]:
        """Write the stage's record over its last one; see `results.record`. `more`: further entries, such as a profile.

        Call it as soon as there is something to show, with `complete=False`, and a last time with everything: a stage
        that fails or overruns leaves what it wrote, and a later call of `make gpu` takes it up again.
        """
        return results.record(
            self.record_path,
            experiment=f"gpu_{self.stage.name}",
            scale=self.scale,
            data=data,
            data_fingerprint=data_fingerprint,
            device=results.device_name(self.device),
            seeds=list(seeds),
            seconds=time.monotonic() - self.began,
            config=config,
            values=list(values),
            note=note,
            more={"title": self.stage.title, "complete": complete, **more},
        )


def record_path(out: Path, stage: str) -> Path:
    """The file in which a stage of the run in `out` records what it found."""
    return Path(out) / "records" / f"gpu_{stage}.json"


def record_of(out: Path, stage: str, *, partly: bool = False) -> dict[str, Any] | None:
    """The complete record of a stage of the run in `out`, with `partly` also one that was cut off; else None."""
    entry = results.load(record_path(out, stage))
    return entry if entry and (partly or entry.get("complete")) else None


def refuse_other_sounds(out: Path, key: str, data: str | Path | None) -> None:
    """Raise ValueError when the run in `out` has recorded sounds whose key does not begin with this one."""
    entry = record_of(out, "sounds", partly=True)
    if entry and not entry["data_fingerprint"].startswith(key):
        raise ValueError(
            f"{out} holds runs on other sounds than {data or 'the built-in ones'}; choose another --out"
        )


def last_line(log: Path) -> str:
    """The last line of a log that says something; empty without one."""
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
