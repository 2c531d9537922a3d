"""Run one notebook in a process of its own, within limits, and say truthfully how it ended.

The worker process runs papermill, and ends with the process that asked for it; its kernel ends with the worker. What
ran so far is in `NAME.failed.ipynb` from the first cell on; only a complete notebook gets the name that was asked for.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audiossl_lite.book.gate import problems, read_notebook, warning_lines

AUTOSAVE_S = 10
GRACE_S = 10.0
OK, FAILED, TIMED_OUT, KILLED = "ok", "failed", "timed out", "killed"
REFUSED = "refused"  # the data are too few for this chapter, which says so in its first cell
# Threads of OpenMP that wait for work give their core away after a moment (turns for GNU's library, milliseconds for
# Intel's): beside another program a training step takes a fraction of the time. The Makefile has the same.
WAITING_THREADS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
    "KMP_BLOCKTIME": "1",
}

RUNNING: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class RunRecord:
    """How a run ended: status is ok, refused, failed, timed out or killed; `output` is the notebook that it left."""

    name: str
    status: str
    seconds: float
    peak_mib: int | None
    reason: str
    output: str
    log: str
    n_warnings: int = 0

    @property
    def ok(self) -> bool:
        """Whether the notebook ran to its end."""
        return self.status == OK

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values, for JSON."""
        return asdict(self)


def failed_path(output: Path) -> Path:
    """Return where the partial output of a failed run is: `05_atst.failed.ipynb`."""
    return output.with_name(f"{output.stem}.failed.ipynb")


def worker_environment(n_threads: int | None = None) -> dict[str, str]:
    """Return the environment of a worker: progress as log lines, bounded threads that wait quietly, own kernel."""
    threads = str(n_threads or os.cpu_count() or 1)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    flags = ("JUPYTER_PREFER_ENV_PATH", "PYDEVD_DISABLE_FILE_VALIDATION", "PYTHONUNBUFFERED")
    defaults = dict.fromkeys(names, threads) | dict.fromkeys(flags, "1") | WAITING_THREADS
    environment = defaults | dict(os.environ)
    if environment.get("AUDIOSSL_PROGRESS", "auto") in ("", "auto"):
        environment["AUDIOSSL_PROGRESS"] = "log"
    return environment


def run_notebook(
    source: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    cell_timeout_s: float | None = None,
    timeout_s: float | None = None,
    n_threads: int | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> RunRecord:
    """Run a notebook with papermill in a fresh process and return how it ended.

    output: written only when every cell ran; otherwise an older one stays, and what ran is in `NAME.failed.ipynb`
    beside it. What the cells printed is in `NAME.log`.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, log = failed_path(output), output.with_suffix(".log")
    partial.unlink(missing_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="audiossl_run_") as folder, log.open("wb") as stream:
        told = Path(folder) / "told.json"
        job = {
            "source": str(source.resolve()), "partial": str(partial), "parameters": dict(parameters),
            "cell_timeout_s": cell_timeout_s, "told": str(told), "parent": os.getpid(),
        }  # fmt: skip
        worker = subprocess.Popen(
            [sys.executable, "-m", "audiossl_lite.book.execute", json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=worker_environment(n_threads) | dict(environment or {}),
            cwd=cwd,
        )
        RUNNING.add(worker)
        try:
            worker.wait(timeout=timeout_s)
            reason = f"the run was killed from outside (exit code {worker.returncode})"
            ending = {"status": KILLED, "reason": reason}
            if told.exists():
                ending = json.loads(told.read_text())
        except subprocess.TimeoutExpired:
            reason = f"the whole notebook took longer than {timeout_s:g} s"
            ending = {"status": TIMED_OUT, "reason": reason}
        finally:
            _end(worker)
            RUNNING.discard(worker)
    n_warnings = 0
    try:
        notebook = read_notebook(partial)
        n_warnings = len(warning_lines(notebook))
        reasons = problems(notebook)
    except ValueError as error:
        reasons = [str(error)]
    if ending["status"] == OK and reasons:
        ending |= {"status": FAILED, "reason": "; ".join(reasons)}
    if ending["status"] == OK:
        os.replace(partial, output)
    seconds = time.monotonic() - start
    last = f"{source.name}: {ending['status']} after {seconds:.1f} s. {ending['reason']}".rstrip()
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"\n{last}\n")
    return RunRecord(
        source.stem, ending["status"], seconds, ending.get("peak_mib"), ending["reason"],
        str(output if ending["status"] == OK else partial), str(log), n_warnings,
    )  # fmt: skip


def exit_on_terminate() -> None:
    """Turn SIGTERM into an ordinary exit, so that running kernels are ended too."""

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


def end_running() -> None:
    """End every notebook that other threads of this process run."""
    for worker in tuple(RUNNING):
        _end(worker)


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Ask the worker to end with its kernel; when it does not, its kernel notices that it is gone."""
    if worker.poll() is None:
        worker.terminate()
        try:
            worker.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _end_with(parent: int) -> None:
    """Wait until the process that asked for the run is gone, then end this one and its kernel."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _classify(error: BaseException) -> tuple[str, str]:
    """Return status and one sentence for what ended a run."""
    name = type(error).__name__
    if name == "DeadKernelError":
        return KILLED, "the kernel died; it was killed or ran out of memory"
    if name == "CellTimeoutError":
        return TIMED_OUT, "a cell took longer than its limit"
    if name == "PapermillExecutionError":
        cause = f"{getattr(error, 'ename', 'error')}: {getattr(error, 'evalue', '')}"
        if cause.startswith("TooFewClips: "):
            return REFUSED, " ".join(str(error.evalue).split())
        if cause.startswith("MemoryError"):
            return KILLED, "a cell ran out of memory"
    else:
        cause = f"{name}: {(str(error).strip().splitlines() or [''])[0]}"
    return FAILED, " ".join(cause.split())[:300]


def literal_path(path: str) -> str:
    """A path for papermill, which puts values of parameters where it finds braces."""
    return path.replace("{", "{{").replace("}", "}}")


def worker_main(job: dict[str, Any]) -> int:
    """Execute the notebook of a job; the exit status is 0 only for a complete run."""
    import logging

    import papermill

    exit_on_terminate()
    threading.Thread(target=_end_with, args=(job["parent"],), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    status, reason = OK, ""
    try:
        papermill.execute_notebook(
            literal_path(job["source"]),
            literal_path(job["partial"]),
            parameters=job["parameters"],
            kernel_name="python3",
            progress_bar=False,
            log_output=True,
            autosave_cell_every=AUTOSAVE_S,
            execution_timeout=job["cell_timeout_s"],
        )
    except Exception as error:
        status, reason = _classify(error)
        logging.exception("the notebook stopped")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak_mib = round(peak / (2**20 if sys.platform == "darwin" else 2**10))
    told = {"status": status, "reason": reason, "peak_mib": peak_mib}
    Path(job["told"]).write_text(json.dumps(told))
    return 0 if status == OK else 1


if __name__ == "__main__":
    sys.exit(worker_main(json.loads(sys.argv[1])))
