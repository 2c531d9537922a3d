"""What a run is watched for: losses and weights that are no numbers, collapse, and a precision that costs time."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import has_bf16_units, total
from audiossl_lite.training.step import Run

RANK_SHARE = 0.05  # of the directions that a batch can have: fewer are warned of


class NotFiniteError(RuntimeError):
    """The loss or the weights became NaN or infinite."""


class CollapseError(RuntimeError):
    """The outputs of the network became (almost) the same for every clip."""


def step_values(out: dict[str, Tensor], run: Run) -> dict[str, float]:
    """What a step returned as numbers, averaged over processes; one transfer for all."""
    gathered = total(torch.stack([value.detach().float() for value in out.values()]))
    numbers = [value / run.fabric.world_size for value in gathered.tolist()]
    values = dict(zip(out, numbers, strict=True))
    if "std" in values:
        values["spread"] = values["std"] * math.sqrt(run.method.projection_dim)
    return values


def tell_precision(precision: str, device_type: str, history: list[dict]) -> None:
    """Warn of a precision that the device has no units for, and of a run that goes on in another one."""
    if precision == "bf16-mixed" and device_type == "cpu" and not has_bf16_units("cpu"):
        warnings.warn(
            "bf16-mixed on a CPU without bf16 units: a step takes about ten times as long as with 32-true; "
            "precision='auto' takes what the device does fast",
            stacklevel=3,
        )
    before = next((row["precision"] for row in reversed(history) if "precision" in row), precision)
    if before != precision:
        warnings.warn(
            f"this run went on in {before} so far and goes on in {precision}: its history says which row is which",
            stacklevel=3,
        )


def check_health(row: dict[str, Any], method: nn.Module, config: Any) -> None:
    """Stop a run whose logged loss is no number or whose outputs collapse; warn of few directions."""
    if not math.isfinite(row["loss"]):
        raise NotFiniteError(
            f"the loss is {row['loss']} at step {row['step']} (learning rate {row['learning_rate']:.2g}); "
            "lower the learning rate, lengthen the warm-up, or look for broken clips with Clips.report()"
        )
    if config.on_collapse == "stop" and row.get("spread", 1.0) < config.collapse_share:
        raise CollapseError(
            f"collapse at step {row['step']}: the outputs spread {row['spread']:.3f} of even (loss {row['loss']:.4f}); "
            "lower the learning rate or raise the teacher's momentum; on_collapse='continue' trains on"
        )
    directions = min(config.batch_size - 1, method.projection_dim) if "rank" in row else 0
    if config.on_collapse == "stop" and directions and row["rank"] < RANK_SHARE * directions:
        warnings.warn(  # a text without numbers of the step: Python shows it once
            f"the outputs use less than {RANK_SHARE:.0%} of the {directions} directions that they could, although they "
            "spread: see `rank` in the history; a short dip at the start is normal, a lasting one is a collapse",
            stacklevel=2,
        )


def check_weights(method: nn.Module, step: int) -> None:
    """A checkpoint of spoiled weights must not replace a good one."""
    broken = [name for name, p in method.named_parameters() if not torch.isfinite(p).all()]
    if broken:
        raise NotFiniteError(
            f"after step {step} the weights {broken[:3]} hold NaN or infinite values; the last checkpoint is kept. "
            "Lower the learning rate, lengthen the warm-up, or look for broken clips with Clips.report()"
        )
