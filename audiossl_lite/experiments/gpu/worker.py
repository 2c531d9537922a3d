"""A process that runs one stage: a copy of one that has imported everything, made when the stage's turn comes.

Nothing may ask the driver for a GPU before that: a copy of a process that did has none. When the runner ends or is
killed, the process ends with all that it has started.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import wait

import lightning.fabric.strategies  # noqa: F401  this and the next: what nearly every stage needs
import torch
from tqdm import tqdm

import audiossl_lite.experiments.jobs  # noqa: F401
from audiossl_lite.experiments.real_sounds.task import Task

MESSAGE_CHARACTERS = 300
tqdm.set_lock(threading.RLock())  # its own, between processes, would outlive a stage that is killed
gc.freeze()  # what is imported stays: no stage searches it for garbage


def run_stage(task: Task) -> None:
    """Run the stage of `task` and end the process: status 0, or 1 with the error as the last line of its log."""
    os.setsid()
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    log = task.out / "logs" / f"{task.stage.name}.log"
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["AUDIOSSL_PROGRESS"] = "log"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(task.out / "compiled"))
    if task.device.type == "cuda":
        torch.cuda.set_device(task.device)
        torch.set_num_threads(max((os.cpu_count() or 1) // task.together, 1))
    else:  # toy sizes: threads would wait for each other longer than they work
        torch.set_num_threads(1)
    status = 0
    module, name = task.stage.function.split(":")
    try:
        getattr(importlib.import_module(module), name)(task)
    except BaseException as error:
        traceback.print_exc()
        said = " ".join(str(error).split())[:MESSAGE_CHARACTERS]
        print(f"{type(error).__name__}: {said}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of a broken stage, or of the driver, must not hold the process


def _end_with_the_runner() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os.killpg(0, signal.SIGKILL)
