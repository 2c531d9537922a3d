"""Values that change along a run, as plain functions of the step."""

from __future__ import annotations

import math


def cosine(step: int, total_steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end` at `total_steps`; clamped outside.

    Where: ATST Sec. 3.1; chapter 04
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}")
    share = min(max(step / total_steps, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))


def warmup_cosine(
    step: int, total_steps: int, warmup_steps: int, peak: float, final: float = 0.0
) -> float:
    """Linear from 0 to `peak` over `warmup_steps`, then half a cosine down to `final`.

    The last warm-up step reaches the peak; step 0 has rate 0 when there is a warm-up of two steps or more.

    Where: ATST Sec. 3.1; chapter 05
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warm-up must be shorter than the run, got {warmup_steps} of {total_steps} steps"
        )
    if step < warmup_steps:
        return peak * step / max(warmup_steps - 1, 1)
    return cosine(step - warmup_steps, total_steps - warmup_steps, peak, final)
