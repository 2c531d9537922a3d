"""Every method for a few steps, in one process or in several; `torchrun ... -m tests.training.parallel_run FOLDER`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch

from audiossl_lite.common.devices import rank
from audiossl_lite.experiments.gpu import small_runs
from audiossl_lite.experiments.gpu.small_runs import PROCESSES, STEPS, small_run, train_some
from audiossl_lite.training import save_checkpoint

__all__ = ["METHODS", "PROCESSES", "STEPS", "train_some"]


def _parts(name: str) -> tuple:
    run = small_run(name)
    return run.method, run.views, (run.data, run.lengths)


METHODS = {name: partial(_parts, name) for name in small_runs.METHODS}

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for number, name in enumerate(METHODS):
        out = train_some(name, output_dir=folder / f"run{number}")
        save_checkpoint(folder / f"{number}-{rank()}.pt", out)
