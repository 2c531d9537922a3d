"""Run one notebook in a process of its own, within limits, and say truthfully how it ended.

The worker process runs papermill. The parent watches the clock: when the worker overruns, dies or
is killed, the parent ends what is left of it. The output goes to a temporary name; only a complete
notebook is renamed to the name that was asked for, and a partial one is kept beside it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audiossl_lite.gate import problems, read_notebook, warning_lines

AUTOSAVE_S = 10
KERNEL = "python3"
OK, FAILED, TIMED_OUT, KILLED = "ok", "failed", "timed out", "killed"


@dataclass(frozen=True)
class RunRecord:
    """How a run ended: status is ok, failed, timed out or killed; `output` is the notebook kept."""

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
    """Return where the partial output of a failed run is kept: `05_atst.failed.ipynb`."""
    return output.with_name(f"{output.stem}.failed.ipynb")


def worker_environment(n_threads: int | None = None) -> dict[str, str]:
    """Return the environment of a worker: progress as log lines, threads bounded, own kernel."""
    environment = dict(os.environ)
    if environment.get("AUDIOSSL_PROGRESS", "auto") in ("", "auto"):
        environment["AUDIOSSL_PROGRESS"] = "log"
    threads = str(n_threads or max(1, os.cpu_count() or 1))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment.setdefault(name, threads)
    environment.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    environment.setdefault("PYTHONUNBUFFERED", "1")
    return environment


def _end_process_tree(process: subprocess.Popen[bytes]) -> None:
    """End the worker and its kernel, which lives in a session of its own."""
    import psutil

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)
    process.wait()


def run_notebook(
    source: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    cell_timeout_s: float | None = None,
    timeout_s: float | None = None,
    log: Path | None = None,
    n_threads: int | None = None,
    cwd: Path | None = None,
) -> RunRecord:
    """Run a notebook with papermill in a fresh process and return how it ended.

    output: written only when every cell ran; otherwise the partial notebook is kept as
    `NAME.failed.ipynb` beside it. log: what the cells printed (default: `NAME.log` beside output).
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    log = (log or output.with_suffix(".log")).resolve()
    partial = output.with_name(f".{output.stem}.{os.getpid()}.partial.ipynb")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="audiossl_run_") as folder:
        job = Path(folder) / "job.json"
        result = Path(folder) / "result.json"
        job.write_text(
            json.dumps(
                {
                    "source": str(source.resolve()),
                    "partial": str(partial),
                    "result": str(result),
                    "parameters": dict(parameters),
                    "cell_timeout_s": cell_timeout_s,
                }
            )
        )
        with log.open("wb") as stream:
            worker = subprocess.Popen(
                [sys.executable, "-m", "audiossl_lite.execution", str(job)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=worker_environment(n_threads),
                cwd=cwd,
            )
            timed_out = False
            try:
                worker.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                timed_out = True
                _end_process_tree(worker)
            except BaseException:
                _end_process_tree(worker)
                _settle(source, output, partial, log, KILLED, "interrupted", 0.0, None)
                raise
        told = json.loads(result.read_text()) if result.exists() else {}
    seconds = time.monotonic() - start
    if timed_out:
        status, reason = TIMED_OUT, f"the whole notebook took longer than {timeout_s:g} s"
    elif told.get("status"):
        status, reason = told["status"], told.get("reason", "")
    else:
        status = KILLED
        reason = f"the run was killed from outside (exit code {worker.returncode})"
    return _settle(source, output, partial, log, status, reason, seconds, told.get("peak_mib"))


def _settle(
    source: Path,
    output: Path,
    partial: Path,
    log: Path,
    status: str,
    reason: str,
    seconds: float,
    peak_mib: int | None,
) -> RunRecord:
    """Pass the written notebook through the gate, and give it the name it deserves."""
    n_warnings = 0
    if partial.exists():
        try:
            notebook = read_notebook(partial)
            n_warnings = len(warning_lines(notebook))
            found = problems(notebook) if status == OK else []
        except ValueError as error:
            found = [str(error)]
    else:
        found = ["no output notebook was written"] if status == OK else []
    if found:
        status, reason = FAILED, "; ".join(found)
    kept = output if status == OK else failed_path(output)
    if partial.exists():
        os.replace(partial, kept)
    if status == OK:
        failed_path(output).unlink(missing_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"\n{source.name}: {status} after {seconds:.1f} s. {reason}".rstrip() + "\n")
    return RunRecord(
        source.stem, status, seconds, peak_mib, reason, str(kept), str(log), n_warnings
    )


def _peak_child_mib() -> int:
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _classify(error: BaseException) -> tuple[str, str]:
    """Return status and one sentence for what ended a run."""
    first_line = (str(error).strip().splitlines() or [""])[0]
    name = type(error).__name__
    if name == "DeadKernelError":
        return KILLED, "the kernel died; it was killed or ran out of memory"
    if name == "CellTimeoutError":
        return TIMED_OUT, "a cell took longer than its limit"
    if name == "PapermillExecutionError":
        cause = f"{getattr(error, 'ename', 'error')}: {getattr(error, 'evalue', '')}"
        if cause.startswith("MemoryError"):
            return KILLED, "a cell ran out of memory"
        return FAILED, " ".join(cause.split())[:300]
    return FAILED, f"{name}: {first_line}"[:300]


def worker_main(job_path: str) -> int:
    """Execute the notebook named in a job file; the exit status is 0 only for a complete run."""
    import logging

    import papermill

    job = json.loads(Path(job_path).read_text())
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    status, reason = OK, ""
    try:
        papermill.execute_notebook(
            job["source"],
            job["partial"],
            parameters=job["parameters"],
            kernel_name=KERNEL,
            progress_bar=False,
            log_output=True,
            autosave_cell_every=AUTOSAVE_S,
            execution_timeout=job["cell_timeout_s"],
        )
    except Exception as error:
        status, reason = _classify(error)
        logging.exception("the notebook stopped")
    told = {"status": status, "reason": reason, "peak_mib": _peak_child_mib()}
    Path(job["result"]).write_text(json.dumps(told))
    return 0 if status == OK else 1


if __name__ == "__main__":
    sys.exit(worker_main(sys.argv[1]))
