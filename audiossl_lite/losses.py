"""The losses, each a few lines and each re-derived naively in tests/test_losses.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _check_pair(first: Tensor, second: Tensor) -> None:
    if first.dim() != 2 or first.shape != second.shape:
        raise ValueError(
            "the loss compares two (batch, dim) tensors of one shape, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of 2 - 2 cos(prediction, target): 0 for parallel, 2 for orthogonal, 4 for opposite.

    `prediction`, `target (B, D)` -> scalar; equal to the squared distance of the l2-normalised vectors. No gradient
    is stopped here: the caller decides which side is the target. Raises ValueError for unequal shapes.

    Where: ATST Sec. 2.1; chapter 04
    """
    _check_pair(prediction, target)
    return (2.0 - 2.0 * F.cosine_similarity(prediction, target, dim=1)).mean()


def info_nce(first: Tensor, second: Tensor, temperature: float = 0.15) -> Tensor:
    """Find each clip's other view among the batch: cross-entropy over cosines / temperature, both directions averaged.

    `first`, `second (B, D)` -> scalar; row i of both belongs to clip i, all other rows are negatives; log(B) at
    chance. Raises ValueError for unequal shapes or a temperature not above 0.

    Where: InfoNCE, SimCLR; uaMix-MAE Eq. 1 with the positive itself as its neighbour; chapter 04
    """
    _check_pair(first, second)
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature  # (B, B)
    diagonal = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal))
