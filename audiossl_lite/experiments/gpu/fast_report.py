"""The record of a timed step: its rows, its failures, its fastest form, and what is read from it."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from audiossl_lite.experiments.build import Parts
from audiossl_lite.experiments.counting import Counted
from audiossl_lite.experiments.gpu.card import BF16, DATA_SHEETS
from audiossl_lite.experiments.real_sounds.task import Task
from audiossl_lite.training import Compute

# Share of the measured bf16 rate that a step should reach; BYOL-A's small convolutions have no target.
TARGETS = {"atst_small": 0.4, "atst_base": 0.5, "audiomae": 0.5, "uamix": 0.5, "uamix_head": 0.5}
TIMES_PLAIN = 3.0
MESSAGE_CHARACTERS = 300
UNFINISHED = "the time of the stage ended before it was compiled and measured"


@dataclass(frozen=True)
class Steps:
    """Measured steps of `batch` clips: seconds of each one (`whole`), and of its views alone (`viewed`).

    `peak_bytes`: the most memory that tensors took, `watts`: the power drawn, both None where they are not measured.
    `first_s`: of the first two steps, in which programs are compiled.
    """

    batch: int
    compute: Compute
    whole: list[float]
    viewed: list[float]
    peak_bytes: int | None = None
    watts: float | None = None
    first_s: float = 0.0

    @property
    def step_s(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.whole)

    @property
    def clips_per_s(self) -> float:
        """Clips a second at the median step."""
        return self.batch / self.step_s


class Report:
    """What is known of a job so far, as rows of its record."""

    def __init__(self, task: Task, parts: Parts, counted: Counted) -> None:
        self.task, self.config, self.counted = task, parts.config, counted
        self.steps: dict[str, Steps] = {}
        self.failed: dict[str, str] = {}
        self.profile: dict[str, dict[str, Any]] = {}
        card = task.record_of("card") or {"values": []}
        rate = next((row["mean"] for row in card["values"] if row["name"] == BF16), None)
        self.roof = rate * 1e12 if rate else None
        sheet = DATA_SHEETS.get(card.get("config", {}).get("name", ""))
        self.sheet = sheet[0] * 1e12 if sheet else None

    def unfinished(self, name: str) -> None:
        """Say in the record that a form was begun; what `add` and `attempt` learn of it takes the place of that."""
        self.failed[name] = UNFINISHED
        self.write()

    def add(self, name: str, steps: Steps) -> Steps:
        """Take up a form of the step, and write the record."""
        self.steps[name] = steps
        self.failed.pop(name, None)
        self.write()
        return steps

    def attempt(self, name: str, measure: Callable[[], Steps]) -> Steps | None:
        """`add` what `measure()` gives; where it raises, record the error instead and return None."""
        with self.recording(name):
            return self.add(name, measure())
        return None

    @contextlib.contextmanager
    def recording(self, name: str) -> Iterator[None]:
        """Take an error inside the `with` block into the record, and go on."""
        try:
            yield
        except Exception as error:
            said = " ".join(str(error).split())[:MESSAGE_CHARACTERS]
            self.failed[name] = f"{type(error).__name__}: {said}"
            self.write()

    @property
    def fastest(self) -> str:
        """The form, plain aside, that takes the batch in the shortest time."""
        batch = self.steps["fused"].batch
        forms = [name for name, s in self.steps.items() if name != "plain" and s.batch == batch]
        return max(forms, key=lambda name: self.steps[name].clips_per_s)

    def add_profile(self, name: str, profile: Callable[..., dict[str, Any]]) -> None:
        """Take up what `profile(way, seconds of a step)` says of a form of the step, and write the record."""
        steps = self.steps[name]
        with self.recording(f"profile of {name}"):
            self.profile[name] = profile((steps.batch, steps.compute), steps.step_s)
            self.write()

    def rows(self) -> list[dict[str, Any]]:
        """The rows; what is measured nowhere has the mean None."""
        best, plain = self.steps[self.fastest], self.steps.get("plain")
        flops_per_s = best.clips_per_s * self.counted.flops
        hours = self.config.steps * self.config.batch_size / best.clips_per_s / 3600
        peak, target = best.peak_bytes, TARGETS.get(self.task.stage.options["job"])
        rows = [
            row("clips per second", best.clips_per_s, "clips/s", batch=best.batch),
            row("seconds a step", best.step_s, "s", low=min(best.whole), high=max(best.whole)),
            row("model FLOPs utilisation", ratio(flops_per_s, self.roof), target=target),
            row("the same of the data sheet", ratio(flops_per_s, self.sheet)),
            row("peak memory", peak / 2**30 if peak else None, "GiB"),
            row("share of the step in the views", sum(best.viewed) / sum(best.whole)),
            row("times plain", ratio(best.clips_per_s, plain and plain.clips_per_s),
                target=TIMES_PLAIN),
            row("hours of the paper's run", hours, "GPU-hours", steps=self.config.steps),
            row("energy of the paper's run", best.watts and hours * best.watts / 1000, "kWh",
                watts=best.watts),
        ]  # fmt: skip
        rows += [
            row(f"clips per second, {name}", steps.clips_per_s, "clips/s", batch=steps.batch)
            | {"step_s": steps.step_s, "first_s": steps.first_s, "peak_bytes": steps.peak_bytes}
            | asdict(steps.compute)
            for name, steps in self.steps.items()
        ]
        rows += [row(f"failed: {name}", None, error=error) for name, error in self.failed.items()]
        return rows

    def headline(self, rows: list[dict[str, Any]]) -> str:
        """Clips a second, the share of the measured rate, and how many times the plain form."""
        rate, share, plain = (
            next(row["mean"] for row in rows if row["name"] == name)
            for name in ("clips per second", "model FLOPs utilisation", "times plain")
        )
        text = f"{rate:,.0f} clips/s"
        text += f", {100 * share:.0f} % of the measured rate" if share else ""
        return text + (f", {plain:.1f} times plain" if plain else "")

    def write(self, complete: bool = False) -> None:
        """Write the record."""
        rows = self.rows()
        self.task.write(
            rows,
            config=self.config,
            data="random clips of the job's shapes, on the device",
            seeds=[self.config.seed],
            note="fused: fused attention. blocks, step: these compiled, too. plain: fp32 without TF32, softmax weights"
            " in memory, not compiled. FLOPs: what the method needs, nothing counted twice.",
            complete=complete,
            headline=self.headline(rows),
            fastest=self.fastest,
            profile=self.profile,
            flops_per_clip=self.counted.flops,
        )


def row(name: str, mean: float | None, unit: str = "", **more: Any) -> dict[str, Any]:
    """A row of the record; with a `target` it says whether that is met."""
    entry = {"name": name, "mean": mean, "ci95": None, "unit": unit, **more}
    if more.get("target") is not None and mean is not None:
        entry["met"] = mean >= more["target"]
    return entry


def ratio(a: float, b: float | None) -> float | None:
    """a / b, None without b."""
    return a / b if b else None
