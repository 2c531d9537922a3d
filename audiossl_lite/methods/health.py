"""Signs of collapse: how far the outputs spread, and over how many directions."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(x: Tensor) -> Tensor:
    """exp(entropy of the normalised squared singular values) of centred `x (B, D)`.

    About the number of directions used: between 1 and min(B - 1, D). 0 when all rows are equal, NaN when a
    value is not finite.
    """
    x = x.float() - x.float().mean(0)
    if not torch.isfinite(x).all():  # the decomposition would raise; the loop reports the step
        return torch.full((), float("nan"), device=x.device)
    variances = torch.linalg.svdvals(x).square()
    total = variances.sum()
    if total <= 1e-12:
        return torch.zeros((), device=x.device)
    share = variances / total
    return torch.exp(-(share * share.clamp_min(1e-12).log()).sum())


def spread(x: Tensor) -> Tensor:
    """Mean per-dimension std of the l2-normalised rows of `x (B, D)`.

    A healthy value is near 1 / sqrt(D), what vectors evenly spread over the sphere have; collapse is 0.

    Where: ATST official code; chapter 04
    """
    return torch.nn.functional.normalize(x.float(), dim=1).std(dim=0).mean()


def spread_and_rank(x: Tensor) -> tuple[Tensor, Tensor]:
    """`spread` of `x (B, D)` and the effective rank of its l2-normalised rows."""
    return spread(x), effective_rank(torch.nn.functional.normalize(x.float(), dim=1))
