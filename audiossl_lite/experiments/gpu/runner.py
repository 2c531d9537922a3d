"""Run the stages one after the other within a number of minutes, each in a process of its own, and tell what came out.

A stage that fails or overruns costs its own share of the time and nothing else. Its process is a copy of one that has
imported everything, so that nobody waits for imports.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from audiossl_lite.experiments import records as results
from audiossl_lite.experiments.gpu.task import Stage, record_path

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


def run_stages(
    stages: Sequence[Stage],
    out: str | Path,
    *,
    minutes: float,
    device: torch.device,
    data: str | Path | None = None,
    toy: bool = False,
) -> list[Outcome]:
    """Run `stages` in their order within `minutes`, and write their outcomes to `out/table.json` after each.

    Stages with a complete record in `out` are skipped. Raises GPURunError when `out` holds records of another card or
    of toy sizes where real ones are asked for.
    """
    out = Path(out).resolve()
    (out / "logs").mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    _check_folder(stages, out, device, toy)
    outcomes = {stage.name: _before(stage, out) for stage in stages}
    waiting = [stage for stage in stages if outcomes[stage.name] is None]
    if waiting:
        # A toy run only names the code generator, whose import takes long; beside a GPU it is not meant to be copied.
        PROCESSES.set_forkserver_preload((["torch._inductor.compile_fx"] if toy else []) + IMPORTED)
        # Once the server has imported, it can copy itself: no stage pays for that.
        first = PROCESSES.Process(target=int)
        first.start()
        first.join()
    while waiting:
        stage, left = waiting[0], began + 60.0 * minutes - CLOSING_S - time.monotonic()
        seconds = allotment(waiting, left)
        waiting.pop(0)
        reason = _not_now(stage, out, seconds)
        if reason:
            outcomes[stage.name] = Outcome(stage.name, stage.title, NOT_STARTED, 0.0, reason)
        else:
            request = {
                "stage": asdict(stage),
                "device": str(device),
                "seconds": seconds,
                "began": time.monotonic(),
                "out": str(out),
                "data": str(Path(data).resolve()) if data else "",
                "toy": toy,
            }
            print(f"{stage.title} ({seconds:.0f} s at most) ...", flush=True)
            outcomes[stage.name] = _run_one(stage, request, out)
            print(f"  {_line(outcomes[stage.name])}", flush=True)
        _write_table(out, [outcome for outcome in outcomes.values() if outcome])
    done = [outcome for outcome in outcomes.values() if outcome]
    _write_table(out, done)
    return done


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


def _before(stage: Stage, out: Path) -> Outcome | None:
    entry = results.load(record_path(out, stage.name))
    if not entry or not entry.get("complete"):
        return None
    return Outcome(stage.name, stage.title, BEFORE, entry["seconds"], headline(entry))


def _not_now(stage: Stage, out: Path, seconds: float) -> str:
    """Why the stage cannot be started; empty when it can."""
    lacking = [
        name
        for name in stage.needs
        if not (results.load(record_path(out, name)) or {}).get("complete")
    ]
    if lacking:
        return f"needs {', '.join(lacking)}, which has no complete record"
    if seconds < stage.at_least_s:
        return f"{max(seconds, 0):.0f} s are left, it needs {stage.at_least_s:.0f}"
    return ""


def _run_one(stage: Stage, request: dict, out: Path) -> Outcome:
    log = out / "logs" / f"{stage.name}.log"
    began = request["began"]
    log.unlink(missing_ok=True)
    process = PROCESSES.Process(target=run_stage_of, args=(request,))
    process.start()
    try:
        process.join(began + request["seconds"] - time.monotonic())
        status = process.exitcode
    finally:
        _end(process)
    seconds = time.monotonic() - began
    entry = results.load(record_path(out, stage.name)) or {}
    partly = f"; {PARTLY}" if entry and not entry.get("complete") else ""
    if status is None:
        message = f"stopped after {seconds:.0f} s{partly}; log: {log}"
        return Outcome(stage.name, stage.title, OVERRAN, seconds, message)
    if status != 0:
        message = f"{_last_line(log) or f'exit status {status}'}{partly}; log: {log}"
        return Outcome(stage.name, stage.title, FAILED, seconds, message)
    if not entry:
        return Outcome(stage.name, stage.title, FAILED, seconds, f"wrote no record; log: {log}")
    status = RECORDED if entry.get("complete") else PARTLY
    return Outcome(stage.name, stage.title, status, seconds, headline(entry))


def run_stage_of(request: dict) -> None:
    """`worker.run_stage`, which the runner itself need not import."""
    from audiossl_lite.experiments.gpu.worker import run_stage

    run_stage(request)


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


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _line(outcome: Outcome) -> str:
    return f"{outcome.status}, {outcome.seconds:.1f} s: {outcome.message}"


def _write_table(out: Path, outcomes: Sequence[Outcome]) -> None:
    aside = out / "table.json.part"
    aside.write_text(
        json.dumps([asdict(outcome) for outcome in outcomes], indent=1, ensure_ascii=False) + "\n"
    )
    aside.replace(out / "table.json")


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as lines of text: title, status, seconds, message."""
    width = max((len(outcome.title) for outcome in outcomes), default=0)
    return "\n".join(
        f"{outcome.title:<{width}}  {outcome.status:<15}  {outcome.seconds:7.1f} s  {outcome.message}"
        for outcome in outcomes
    )
