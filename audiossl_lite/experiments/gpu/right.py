"""Stage "Right": what a card computes is what the CPU computes, within stated tolerances; every fault is a row.

`checks.py` and `other_ways.py` hold what is compared; here it is run, in order of worth and within the time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.experiments import records as results
from audiossl_lite.experiments.gpu.checks import checks_of_results, reference_type
from audiossl_lite.experiments.gpu.compare import Check, Row, row
from audiossl_lite.experiments.gpu.other_ways import OtherWays
from audiossl_lite.experiments.gpu.small_runs import BATCH, whole_float32
from audiossl_lite.experiments.real_sounds.task import Task

SPARE = 0.1  # of the time, for the last record
WAIT = 0.6  # of the time, for processes of their own


def run(task: Task) -> None:
    """Compare the device with the CPU, check by check, and record a row each; a fault never ends the stage.

    The record is complete when no check was left out for lack of time. Checks that passed in an unfinished record
    of the same code, device and sizes are not repeated.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product
    whole_float32()
    if task.device.type != "cpu":  # the card waits for its CPU here
        torch.set_num_threads(max(torch.get_num_threads(), min(os.cpu_count() or 1, 8)))
    settings = {
        "toy": task.toy, "reference": f"CPU, {reference_type(task.device)}", "tf32": False,
        "batch": BATCH,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(dir=task.folder) as folder:
        others = OtherWays(task.device, Path(folder), task.toy, WAIT * task.left())
        try:
            run_checks(
                task, [*checks_of_results(task.device, task.toy), *others.checks()], settings
            )
        finally:
            others.close()


def run_checks(task: Task, checks: Iterable[Check], settings: dict[str, Any]) -> None:
    """Run `checks` in their order and write the record after each."""
    done = passed_before(task, settings)
    rows: list[Row] = []
    for check in checks:
        rows += done.get(check.name) or run_check(task, check)
        write(task, rows, settings, complete=False)
    write(task, rows, settings, complete=not any("out of time" in r["detail"] for r in rows))


def run_check(task: Task, check: Check) -> list[Row]:
    """The rows of a check; one that says why, where it raised or the time did not suffice."""
    rows: list[Row] = []
    if task.left() - SPARE * task.seconds < check.seconds:
        rows.append(row(check.name, None, None, "not run: out of time", passed=None))
    else:
        try:
            rows.extend(check.measure())
        except Exception as error:
            text = (str(error) or "no message").splitlines()[0][:300]
            rows.append(row(check.name, None, None, f"{type(error).__name__}: {text}"))
    return [r | {"check": check.name} for r in rows]


def passed_before(task: Task, settings: dict[str, Any]) -> dict[str, list[Row]]:
    """Rows by check of the unfinished record that this task goes on with, of checks of which every row passed."""
    entry = results.load(task.record_path)
    same = entry is not None and (
        not entry.get("complete")
        and "+" not in entry["commit"]  # files changed since that commit: nobody knows which
        and entry["commit"] == results.current_commit()
        and entry["config_hash"] == results.config_hash(settings)
        and entry["device"] == results.device_name(task.device)
    )
    by_check: dict[str, list[Row]] = {}
    for r in entry["values"] if same else ():
        by_check.setdefault(r["check"], []).append(r)
    return {name: rows for name, rows in by_check.items() if all(r["passed"] for r in rows)}


def write(task: Task, rows: list[Row], settings: dict[str, Any], *, complete: bool) -> None:
    """The record so far: its rows, how many are right, and the names of those that are not or were not run."""
    right = sum(r["passed"] is True for r in rows)
    failed = [r["name"] for r in rows if r["passed"] is False]
    not_run = [r["name"] for r in rows if r["passed"] is None]
    headline = f"{right} of {right + len(failed)} right" + (
        f", {len(not_run)} not run" if not_run else ""
    )
    task.write(
        rows, config=settings, data="made-up clips", seeds=[0], headline=headline, complete=complete,
        right=right, failed=failed, not_run=not_run,
    )  # fmt: skip
