"""The teacher: an exponential moving average of the student, and the half cosine along which its momentum rises."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


def make_teacher(student: nn.Module) -> nn.Module:
    """A copy of the student that takes no gradient; it starts equal and follows by `ema_update`.

    Where: BYOL Sec. 3.1; chapter 04
    """
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, parameter by parameter.

    Buffers (running statistics of batch-norm) are left alone, as in both official codes: the teacher runs in train
    mode and keeps its own. Raises ValueError for a momentum outside [0, 1] or networks of different parameters.

    Where: ATST Sec. 2.1; chapter 04
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"the momentum lies in [0, 1], got {momentum}")
    theirs, ours = dict(teacher.named_parameters()), dict(student.named_parameters())
    if theirs.keys() != ours.keys():
        odd = sorted(theirs.keys() ^ ours.keys())
        raise ValueError(f"teacher and student differ in parameters: {odd[:5]}")
    # teacher + (1 - momentum) * (student - teacher), for all parameters at once.
    torch._foreach_lerp_(list(theirs.values()), [ours[name] for name in theirs], 1.0 - momentum)


def cosine_momentum(step: int, total_steps: int, base: float, final: float = 1.0) -> float:
    """Momentum that rises from `base` at step 0 to `final` at the last step along half a cosine.

    Where: ATST Sec. 3.1; chapter 04
    """
    return cosine(step, total_steps, base, final)


def cosine(step: int, total_steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end` at `total_steps`; clamped outside.

    The momentum of the teacher goes this way, and the learning rate and the weight decay.

    Where: ATST Sec. 3.1; chapter 04
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}")
    share = min(max(step / total_steps, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
