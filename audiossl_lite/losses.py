"""The losses, each a few lines and each re-derived naively in tests/test_losses.py.

All are computed in float32 (`in_float32`), whatever the precision of the network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from audiossl_lite.common.devices import in_float32, on_host


@in_float32
def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """2 - 2 cos(q, z), mean over the batch: 0 for parallel, 2 for orthogonal, 4 for opposite.

    `prediction` q, `target` z `(B, D)` -> scalar; the squared distance of the l2-normalised vectors. No gradient
    is stopped here: the caller decides which side is the target. Raises ValueError for unequal shapes.

    Where: ATST Sec. 2.1; chapter 04
    """
    _check_pair(prediction, target)
    return (2.0 - 2.0 * F.cosine_similarity(prediction, target, dim=1)).mean()


@in_float32
def info_nce(first: Tensor, second: Tensor, temperature: float = 0.15) -> Tensor:
    """-log exp(cos(a_i, b_i) / tau) / sum_j exp(cos(a_i, b_j) / tau), mean over the batch and both directions.

    `first` a, `second` b `(B, D)` -> scalar; row i of both belongs to clip i, all other rows are negatives; log(B)
    at chance. Raises ValueError for unequal shapes or a temperature not above 0.

    Where: InfoNCE, SimCLR; uaMix-MAE Eq. 1 with the positive itself as its neighbour; chapter 04
    """
    logits = _cosine_logits(first, second, temperature)
    diagonal = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal))


@in_float32
def nnclr_loss(neighbours: Tensor, predictions: Tensor, temperature: float = 0.15) -> Tensor:
    """-log exp(cos(n_i, p_i) / tau) / sum_j exp(cos(n_i, p_j) / tau), mean over the batch, one direction.

    `neighbours` n, `predictions` p `(B, D)` -> scalar: each neighbour must find the prediction of its own clip. It
    comes from the queue and carries no gradient; the predictions do. Raises ValueError as `info_nce`.

    Where: uaMix-MAE Eq. 1; chapter 07
    """
    logits = _cosine_logits(neighbours, predictions, temperature)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


@in_float32
def mixture_loss(
    neighbours: Tensor, predictions: Tensor, labels: Tensor, temperature: float = 0.15
) -> Tensor:
    """-sum_j y_ij log exp(cos(n_i, p_j) / tau) / sum_k exp(cos(n_i, p_k) / tau), mean over the batch.

    `neighbours` n, `predictions` p `(B, D)`, `labels` y `(B, B)` with rows that sum to 1 -> scalar: the neighbour of a
    mixture belongs to both of its clips. With unit labels it is `nnclr_loss`; the printed minus of Eq. 4 is dropped,
    since the contrastive loss already carries one.

    Where: uaMix-MAE Eq. 4; chapter 08
    """
    logits = _cosine_logits(neighbours, predictions, temperature)
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels are (batch, batch) {tuple(logits.shape)}, got {tuple(labels.shape)}"
        )
    return F.cross_entropy(logits, labels)


@in_float32
def masked_reconstruction_loss(
    predicted: Tensor, patches: Tensor, mask: Tensor, norm_patches: bool = True
) -> Tensor:
    """sum(mask * mean((predicted - patch)^2)) / sum(mask): the squared error of the hidden patches only.

    `predicted`, `patches (B, N, P)`, `mask (B, N)` 1 where hidden -> scalar. `norm_patches`: each target patch is
    standardised by its own mean and (unbiased) variance. Raises ValueError when nothing is hidden.

    Where: AudioMAE Sec. 3; chapter 06
    """
    _check_mask(mask)
    if norm_patches:
        mean, var = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        patches = (patches - mean) / (var + 1e-6).sqrt()
    error = (predicted - patches).square().mean(-1)  # (B, N)
    return (error * mask).sum() / mask.sum()


@in_float32
def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of every row of `first (B, D)` with every row of `second (C, D)`, `(B, C)` float32."""
    return F.normalize(first, dim=1) @ F.normalize(second, dim=1).T


def _cosine_logits(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cosine of every row of `first` with every row of `second`, over the temperature, `(B, B)`."""
    _check_pair(first, second)
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    return cosines(first, second) / temperature


def _check_pair(first: Tensor, second: Tensor) -> None:
    if first.dim() != 2 or first.shape != second.shape:
        raise ValueError(
            "the loss compares two (batch, dim) tensors of one shape, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )


def _check_mask(mask: Tensor) -> None:
    if on_host(mask) and not mask.any():
        raise ValueError("no patch is hidden, so nothing to reconstruct; raise the mask ratio")
