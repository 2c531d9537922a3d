"""Values that change along a run, as plain functions of the step."""

from __future__ import annotations

from audiossl_lite.methods.teacher import cosine

__all__ = ["cosine", "warmup_cosine"]


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
