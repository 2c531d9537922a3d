"""Pin: however a notebook ends, the runner says so, keeps what there is, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from audiossl_lite.book.chapters import this_project
from audiossl_lite.book.execute import (
    WAITING_THREADS,
    failed_path,
    run_notebook,
    worker_environment,
)
from audiossl_lite.book.gate import read_notebook
from tests import tiny

pytestmark = pytest.mark.notebook

WRITE_KERNEL_ID = "import os, pathlib\npathlib.Path('kernel.pid').write_text(str(os.getpid()))"


def write_notebook(path: Path, code: list[str]) -> Path:
    """A notebook that imports nothing, so that it starts at once."""
    return tiny.write_notebook(path, code, check="pass")


def outputs_text(path: Path) -> str:
    """Everything that the cells of a notebook printed."""
    return "".join(
        "".join(output["text"])
        for cell in read_notebook(path)["cells"]
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    )


def kernel_is_gone(folder: Path) -> bool:
    """True once the kernel that wrote its number has ended."""
    number = int((folder / "kernel.pid").read_text())
    for _ in range(100):
        if not psutil.pid_exists(number):
            return True
        time.sleep(0.1)
    return False


def test_a_complete_run_uses_this_python_and_replaces_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOSSL_PROGRESS", "auto")
    source = write_notebook(
        tmp_path / "a.ipynb",
        ["import os, sys\nprint(sys.executable, seed, os.environ['AUDIOSSL_PROGRESS'])"],
    )
    output = tmp_path / "out" / "a.ipynb"
    output.parent.mkdir()
    output.write_text("old")
    record = run_notebook(source, output, {"seed": 7}, n_threads=1)
    assert record.ok, record.reason
    assert outputs_text(output).split() == [sys.executable, "7", "log"]
    assert record.peak_mib is not None and record.peak_mib > 10
    assert sorted(path.name for path in output.parent.iterdir()) == ["a.ipynb", "a.log"]
    assert "a.ipynb: ok" in Path(record.log).read_text()


def test_a_failing_cell_keeps_the_part_and_the_older_complete_output(tmp_path: Path) -> None:
    source = write_notebook(tmp_path / "a.ipynb", ["print('before')", "1 / 0", "print('after')"])
    output = tmp_path / "out.ipynb"
    output.write_text("older")
    record = run_notebook(source, output, {})
    assert (record.status, record.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert output.read_text() == "older"
    assert outputs_text(failed_path(output)) == "before\n"
    assert "ZeroDivisionError" in Path(record.log).read_text()


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
        ("raise MemoryError('3 GiB wanted')", "ran out of memory"),
    ],
)
def test_a_killed_kernel_is_reported(tmp_path: Path, cell: str, reason: str) -> None:
    source = write_notebook(tmp_path / "a.ipynb", ["print('before')", cell, "print('after')"])
    record = run_notebook(source, tmp_path / "out.ipynb", {})
    assert record.status == "killed"
    assert reason in record.reason
    assert outputs_text(failed_path(tmp_path / "out.ipynb")) == "before\n"
    assert not (tmp_path / "out.ipynb").exists()


def test_both_time_limits_end_the_run_and_its_kernel(tmp_path: Path) -> None:
    source = write_notebook(
        tmp_path / "a.ipynb", [WRITE_KERNEL_ID, "import time\nwhile True: time.sleep(0.1)"]
    )
    record = run_notebook(source, tmp_path / "out.ipynb", {}, cell_timeout_s=5, cwd=tmp_path)
    assert (record.status, record.reason) == ("timed out", "a cell took longer than its limit")
    assert kernel_is_gone(tmp_path)
    assert failed_path(tmp_path / "out.ipynb").exists()
    record = run_notebook(source, tmp_path / "out.ipynb", {}, timeout_s=15, cwd=tmp_path)
    assert record.status == "timed out"
    assert "the whole notebook took longer than 15 s" in record.reason
    assert kernel_is_gone(tmp_path)


def test_a_killed_worker_is_reported_and_its_kernel_leaves(tmp_path: Path) -> None:
    kill_the_worker = (
        "import psutil, signal\npsutil.Process().parent().send_signal(signal.SIGKILL)\n"
        "import time\ntime.sleep(60)"
    )
    source = write_notebook(tmp_path / "a.ipynb", [WRITE_KERNEL_ID, kill_the_worker])
    record = run_notebook(source, tmp_path / "out.ipynb", {}, cwd=tmp_path)
    assert record.status == "killed"
    assert "killed from outside" in record.reason
    assert kernel_is_gone(tmp_path)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_worker_and_kernel_end_with_the_runner(tmp_path: Path, number: signal.Signals) -> None:
    source = write_notebook(tmp_path / "a.ipynb", [WRITE_KERNEL_ID, "import time; time.sleep(60)"])
    command = [sys.executable, "-m", "audiossl_lite.run", str(source), "-o", str(tmp_path / "out")]
    runner = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (tmp_path / "kernel.pid").exists():
        assert runner.poll() is None
        time.sleep(0.1)
    family = psutil.Process(runner.pid).children(recursive=True)
    assert int((tmp_path / "kernel.pid").read_text()) in [process.pid for process in family]
    os.kill(runner.pid, number)
    ending = 128 + number if number == signal.SIGTERM else -number
    assert runner.wait(timeout=60) == ending
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.failed.ipynb", "a.log"]


def test_braces_in_a_path_are_a_name(tmp_path: Path) -> None:
    """papermill puts parameters into paths; a data folder may be called anything."""
    source = write_notebook(tmp_path / "{seed} {" / "a.ipynb", ["print(seed)"])
    record = run_notebook(source, tmp_path / "{{seed}} }" / "out.ipynb", {"seed": 3})
    assert record.ok, record.reason
    assert outputs_text(tmp_path / "{{seed}} }" / "out.ipynb") == "3\n"


def test_a_notebook_that_is_no_notebook_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    source = tmp_path / "a.ipynb"
    source.write_text(json.dumps({"cells": "none"}))
    record = run_notebook(source, tmp_path / "out.ipynb", {})
    assert record.status == "failed"
    assert record.reason
    assert not (tmp_path / "out.ipynb").exists()


def test_waiting_threads_are_quiet_in_workers_as_in_the_makefile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in WAITING_THREADS:
        monkeypatch.delenv(name, raising=False)
    assert WAITING_THREADS.items() <= worker_environment().items()
    makefile = (this_project().root / "Makefile").read_text()
    settings = " ".join(f"{name}={value}" for name, value in WAITING_THREADS.items())
    assert f"QUIET := {settings}\n" in makefile
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert worker_environment()["GOMP_SPINCOUNT"] == "7", "what a person sets stays"
