"""Stages that end in every way a stage can end."""

from __future__ import annotations

import subprocess
import sys
import time

from audiossl_lite.experiments.real_sounds.task import Task

ROW = [{"name": "answer", "mean": 42.0, "ci95": None}]


def good(task: Task) -> None:
    calls = task.folder / "calls"
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    task.write(ROW, config={"seconds": task.seconds}, headline="all is well")


def broken(task: Task) -> None:
    raise RuntimeError("this stage is broken\non purpose")


def half(task: Task) -> None:
    task.write(ROW, config={}, complete=False)
    raise ValueError("after the first row")


def endless(task: Task) -> None:
    task.write(ROW, config={}, complete=False)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (task.folder / "child").write_text(str(child.pid))
    time.sleep(600)


def silent(task: Task) -> None:
    print("writes no record")


def meets(task: Task) -> None:
    """Ends well only when the stage that it is to meet comes while this one waits."""
    (task.folder / "here").touch()
    other, began = task.out / "stages" / task.stage.options["whom"] / "here", time.monotonic()
    while not other.exists():
        if time.monotonic() - began > task.stage.options["patience_s"]:
            raise RuntimeError("nobody came")
        time.sleep(0.05)
    task.write(ROW, config={"together": task.together}, headline="met")


def alone(task: Task) -> None:
    """What other stages of the run have recorded when this one starts."""
    names = sorted(path.stem for path in (task.out / "records").glob("*.json"))
    task.write(ROW, config={}, headline=" ".join(names))
