"""Signs of collapse: how far the outputs spread, and over how many directions."""

from __future__ import annotations

import torch
from torch import Tensor


def directions(x: Tensor) -> tuple[Tensor, Tensor]:
    """How the variance of `x (B, D)` is spread over directions: the share of the first one, and the effective rank.

    The effective rank is exp(entropy of the shares), about the number of directions used: between 1 and
    min(B - 1, D). Share 1 and rank 0 when all rows are equal, NaN when a value is not finite.
    """
    x = x.float() - x.float().mean(0)
    if not torch.isfinite(x).all():  # the decomposition would raise; the loop reports the step
        return x.new_full((), torch.nan), x.new_full((), torch.nan)
    variances = torch.linalg.svdvals(x).square()
    total = variances.sum()
    if total <= 1e-12:
        return x.new_ones(()), x.new_zeros(())
    share = variances / total
    return share[0], torch.exp(-(share * share.clamp_min(1e-12).log()).sum())


def effective_rank(x: Tensor) -> Tensor:
    """The effective rank of `x (B, D)`, see `directions`."""
    return directions(x)[1]


def spread(x: Tensor) -> Tensor:
    """Mean per-dimension std of the l2-normalised rows of `x (B, D)`.

    A healthy value is near 1 / sqrt(D), what vectors evenly spread over the sphere have; collapse is 0.

    Where: ATST official code; chapter 04
    """
    return torch.nn.functional.normalize(x.float(), dim=1).std(dim=0).mean()


def spread_and_rank(x: Tensor) -> tuple[Tensor, Tensor]:
    """`spread` of `x (B, D)` and the effective rank of its l2-normalised rows."""
    return spread(x), effective_rank(torch.nn.functional.normalize(x.float(), dim=1))
