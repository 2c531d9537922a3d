"""Run the stages in order within a number of minutes, each in a process of its own, and tell what came out.

A stage that fails or overruns costs its own share of the time and nothing else. Its process is a copy of one that has
imported everything, so that nobody waits for imports.
"""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from audiossl_lite.data.store_format import write_whole
from audiossl_lite.experiments import records as results
from audiossl_lite.experiments.real_sounds.task import (
    Stage,
    Task,
    last_line,
    record_of,
    record_path,
    refuse_other_sounds,
)

RECORDED, BEFORE, PARTLY = "recorded", "recorded before", "partly recorded"
FAILED, OVERRAN, NOT_STARTED = "FAILED", "OVERRAN", "not started"
# A server that imports once and is copied for every stage.
PROCESSES = multiprocessing.get_context("forkserver")
IMPORTED = ["audiossl_lite.experiments.gpu.worker"]
CLOSING_S = 1.0  # for the table at the end


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: `status`, its seconds, and in `message` its headline or what went wrong."""

    stage: str
    title: str
    status: str
    seconds: float
    message: str


class GPURunError(ValueError):
    """A request that cannot be met, in one sentence that says what to do."""


def choose_device(device: str) -> torch.device:
    """The device that the stages run on: a CUDA GPU, or the CPU where that was asked for by name.

    Raises GPURunError where there is no such GPU.
    """
    if device == "cpu":
        return torch.device("cpu")
    if device != "auto" and not device.startswith("cuda"):
        raise GPURunError(f"device is auto, cuda, cuda:N or cpu, got {device!r}")
    count = torch.cuda.device_count()
    index = device.partition(":")[2] or "0"
    if not index.isdigit():
        raise GPURunError(f"device is auto, cuda, cuda:N or cpu, got {device!r}")
    if int(index) >= count:
        seen = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device"
        raise GPURunError(
            f"torch {torch.__version__} sees {seen} here, and these stages measure GPU {index}; "
            "DEVICE=cpu runs all of them at toy sizes, to see that they work"
        )
    return torch.device("cuda", int(index))


def allotment(stages: Sequence[Stage], seconds: float) -> float:
    """Seconds of `seconds` that the first of `stages` gets when all of them share by `share`, each up to its cap.

    What a cap cuts off goes to the others; with less than `at_least_s` the stage takes that from those behind it.
    """
    first, shared, left = stages[0], list(stages), seconds
    while True:
        total = sum(stage.share for stage in shared)
        capped = [s for s in shared if s.at_most_s < left * s.share / total]
        if not capped or len(capped) == len(shared):
            break
        left -= sum(s.at_most_s for s in capped)
        shared = [s for s in shared if s not in capped]
    fair = left * first.share / total if first in shared else first.at_most_s
    return min(max(fair, first.at_least_s), first.at_most_s, seconds)


def allotment_together(stages: Sequence[Stage], seconds: float) -> float:
    """Seconds that the stages at the head of `stages` that run beside each other get, all at the same time.

    They get everything where the others could not start with what they would leave.
    """
    group = list(itertools.takewhile(lambda stage: stage.beside, stages))
    others = list(stages[len(group) :])
    least = max(_chain(stage, group, "at_least_s") for stage in group)
    one = replace(group[0], share=sum(s.share for s in group), at_least_s=least, at_most_s=math.inf)
    own = allotment([one, *others], seconds)
    enough = min((stage.at_least_s for stage in others), default=math.inf)
    return own if seconds - own >= enough else seconds


def _chain(stage: Stage, stages: Sequence[Stage], what: str) -> float:
    """The largest sum of `what` over a stage and those that must wait for each other behind it."""
    behind = (_chain(other, stages, what) for other in stages if stage.name in other.needs)
    return getattr(stage, what) + max(behind, default=0.0)


def run_stages(
    stages: Sequence[Stage],
    out: str | Path,
    *,
    minutes: float,
    device: torch.device,
    data: str | Path | None = None,
    toy: bool = False,
    together: int = 1,
) -> list[Outcome]:
    """Run `stages` in their order within `minutes`, and write their outcomes to `out/table.json` after each.

    Up to `together` of those that may run beside each other do. Stages with a complete record in `out` are skipped.
    Raises GPURunError when `out` holds records of another card or of toy sizes where real ones are asked for, and
    ValueError when they are of other sounds.
    """
    out = Path(out).resolve()
    (out / "logs").mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60.0 * minutes - CLOSING_S
    _check_folder(stages, out, device, toy)
    _check_sounds(out, data)
    outcomes = {stage.name: _before(stage, out) for stage in stages}
    waiting = [stage for stage in stages if outcomes[stage.name] is None]
    data = Path(data).resolve() if data else None
    if waiting:
        _warm_up(toy)
    running: list[_Running] = []
    group_end = end
    try:
        while waiting or running:
            for stage in list(waiting):
                if not _has_its_turn(stage, waiting, running, together):
                    if stage.beside:
                        continue
                    break  # what stands behind it waits for it
                now = time.monotonic()
                if together > 1 and stage.beside:
                    if not running:
                        group_end = now + allotment_together(waiting, end - now)
                    seconds = (group_end - now) * stage.share / _chain(stage, waiting, "share")
                    seconds = min(seconds, stage.at_most_s)
                else:
                    seconds = allotment(waiting, end - now)
                waiting.remove(stage)
                reason = _not_now(stage, out, seconds)
                if reason:
                    outcomes[stage.name] = Outcome(
                        stage.name, stage.title, NOT_STARTED, 0.0, reason
                    )
                else:
                    print(f"{stage.title} ({seconds:.0f} s at most) ...", flush=True)
                    company = together if stage.beside else 1
                    began = time.monotonic()
                    task = Task(stage, device, seconds, began, out, data, toy=toy, together=company)
                    running.append(_Running(task))
            for ended in _next_to_end(running):
                running.remove(ended)
                outcome = ended.outcome()
                outcomes[ended.stage.name] = outcome
                which = f"{outcome.title}: " if together > 1 else ""
                print(f"  {which}{_line(outcome)}", flush=True)
            _write_table(out, [outcome for outcome in outcomes.values() if outcome])
    finally:
        for left in running:
            _end(left.process)
    done = [outcome for outcome in outcomes.values() if outcome]
    _write_table(out, done)
    return done


def _warm_up(toy: bool) -> None:
    """Start the server of processes; once it has imported, it can copy itself: no stage pays for that."""
    # A toy run only names the code generator, whose import takes long; beside a GPU it is not meant to be copied.
    PROCESSES.set_forkserver_preload((["torch._inductor.compile_fx"] if toy else []) + IMPORTED)
    first = PROCESSES.Process(target=int)
    first.start()
    first.join()


def _has_its_turn(
    stage: Stage, waiting: Sequence[Stage], running: Sequence[_Running], together: int
) -> bool:
    if not stage.beside:
        return not running
    pending = {other.name for other in (*waiting, *(r.stage for r in running))}
    company = all(r.stage.beside for r in running) and len(running) < together
    return company and not pending.intersection(stage.needs)


class _Running:
    """A stage in a process of its own."""

    def __init__(self, task: Task) -> None:
        self.task, self.stage = task, task.stage
        self.log = task.out / "logs" / f"{self.stage.name}.log"
        self.log.unlink(missing_ok=True)
        self.process = PROCESSES.Process(target=run_stage_of, args=(task,))
        self.process.start()

    def outcome(self) -> Outcome:
        """How it ended; what still runs of it is killed."""
        name, title, log = self.stage.name, self.stage.title, self.log
        self.process.join(0)
        status = self.process.exitcode
        _end(self.process)
        seconds = time.monotonic() - self.task.began
        entry = results.load(self.task.record_path) or {}
        partly = f"; {PARTLY}" if entry and not entry.get("complete") else ""
        if status is None:
            message = f"stopped after {seconds:.0f} s{partly}; log: {log}"
            return Outcome(name, title, OVERRAN, seconds, message)
        if status != 0:
            message = f"{last_line(log) or f'exit status {status}'}{partly}; log: {log}"
            return Outcome(name, title, FAILED, seconds, message)
        if not entry:
            return Outcome(name, title, FAILED, seconds, f"wrote no record; log: {log}")
        status = RECORDED if entry.get("complete") else PARTLY
        return Outcome(name, title, status, seconds, headline(entry))


def _next_to_end(running: Sequence[_Running]) -> list[_Running]:
    """Those that have ended or used up their time, as soon as there is one; none where nothing runs."""
    if not running:
        return []
    least = max(min(r.task.left() for r in running), 0.0)
    ended = wait([r.process.sentinel for r in running], timeout=least)
    return [r for r in running if r.process.sentinel in ended or r.task.left() <= 0.0]


def _check_folder(stages: Sequence[Stage], out: Path, device: torch.device, toy: bool) -> None:
    card = results.device_name(device)
    for stage in stages:
        entry = results.load(record_path(out, stage.name))
        # A CPU's name says its threads too, which are others in a stage; toy sizes compare no cards.
        if entry and ((entry["scale"] == "toy") != toy or (not toy and entry["device"] != card)):
            raise GPURunError(
                f"{record_path(out, stage.name)} was recorded on {entry['device']} at scale {entry['scale']}, "
                f"this is {card}{' at toy sizes' if toy else ''}; choose another folder with OUT=..."
            )


def _check_sounds(out: Path, data: str | Path | None) -> None:
    if record_of(out, "sounds", partly=True):
        from audiossl_lite.data.corpus import list_sounds  # a first call does not wait for these
        from audiossl_lite.data.joined import listing_key

        key = listing_key(list_sounds(data, skipped=[])) if data else "embedded"
        refuse_other_sounds(out, key, data)


def _before(stage: Stage, out: Path) -> Outcome | None:
    entry = record_of(out, stage.name)
    return entry and Outcome(stage.name, stage.title, BEFORE, entry["seconds"], headline(entry))


def _not_now(stage: Stage, out: Path, seconds: float) -> str:
    """Why the stage cannot be started; empty when it can."""
    if lacking := [name for name in stage.needs if not record_of(out, name)]:
        return f"needs {', '.join(lacking)}, which has no complete record"
    if seconds < stage.at_least_s:
        return f"{max(seconds, 0):.0f} s are left, it needs {stage.at_least_s:.0f}"
    return ""


def run_stage_of(task: Task) -> None:
    """`worker.run_stage`, which the runner itself need not import."""
    from audiossl_lite.experiments.gpu.worker import run_stage

    run_stage(task)


def _end(process: BaseProcess) -> None:
    """Kill the process with all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended, or not yet become the leader of its group
    process.kill()
    process.join()


def headline(entry: dict) -> str:
    """What a record says first: its `headline`, or its first row."""
    if entry.get("headline"):
        return entry["headline"]
    row = entry["values"][0]
    mean, unit = row.get("mean"), row.get("unit", "")
    return f"{row['name']} {mean:.4g} {unit}".rstrip() if mean is not None else row["name"]


def _line(outcome: Outcome) -> str:
    return f"{outcome.status}, {outcome.seconds:.1f} s: {outcome.message}"


def _write_table(out: Path, outcomes: Sequence[Outcome]) -> None:
    lines = json.dumps([asdict(outcome) for outcome in outcomes], indent=1, ensure_ascii=False)
    write_whole(out / "table.json", f"{lines}\n".encode())


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as lines of text: title, status, seconds, message."""
    width = max((len(outcome.title) for outcome in outcomes), default=0)
    return "\n".join(
        f"{outcome.title:<{width}}  {outcome.status:<15}  {outcome.seconds:7.1f} s  {outcome.message}"
        for outcome in outcomes
    )
