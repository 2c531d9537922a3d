"""Tasks at toy size on the CPU, for the tests of stages."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from audiossl_lite.experiments.gpu.stages import STAGES
from audiossl_lite.experiments.real_sounds.task import Task


def toy_task(name: str, out: Path, seconds: float = 600.0, data: Path | None = None) -> Task:
    """The task of a stage in the folder `out`."""
    stage = next(stage for stage in STAGES if stage.name == name)
    return Task(stage, torch.device("cpu"), seconds, time.monotonic(), out, data, toy=True)


def means(record: dict) -> dict[str, float | None]:
    """Mean of each row of a record by name."""
    return {row["name"]: row["mean"] for row in record["values"]}
