"""A process that runs one stage: this file run as a module, with the request as a line of JSON on its input.

It imports first and asks afterwards, so that a spare one is ready when a stage ends. When its input closes, because
the runner has ended or was killed, it ends with all that it has started.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import torch

import audiossl_lite.experiments.jobs  # noqa: F401  what nearly every stage needs
from audiossl_lite.experiments.gpu.task import Stage, Task

MESSAGE_CHARACTERS = 300


def main() -> int:
    """Read the request, run the stage, return 0; an error is the last line of its log, and the status 1."""
    request = json.loads(sys.stdin.readline() or "null")
    if request is None:
        return 0  # a spare that was not needed
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    stage = Stage(**request.pop("stage"))
    out = Path(request["out"])
    log = os.open(out / "logs" / f"{stage.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["AUDIOSSL_PROGRESS"] = "log"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(out / "compiled"))
    device = torch.device(request["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(
            1
        )  # toy sizes: threads would wait for each other longer than they work
    task = Task(
        stage=stage,
        device=device,
        seconds=request["seconds"],
        began=request["began"],
        out=out,
        data=Path(request["data"]) if request["data"] else None,
        toy=request["toy"],
    )
    module, name = stage.function.split(":")
    try:
        getattr(importlib.import_module(module), name)(task)
    except BaseException as error:
        traceback.print_exc()
        said = " ".join(str(error).split())[:MESSAGE_CHARACTERS]
        print(f"{type(error).__name__}: {said}", file=sys.stderr, flush=True)
        return 1
    return 0


def _end_with_the_runner() -> None:
    while sys.stdin.read(4096):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of a broken stage, or of the driver, must not hold the process
