"""What may be done to features before they are compared: centring, standardising, whitening."""

from __future__ import annotations

import torch
from torch import Tensor

CONDITIONS = ("raw", "centred", "standardised", "whitened")
SMALLEST_SCALE = 1e-6


def conditioned(features: Tensor, how: str, fit_on: Tensor | None = None) -> Tensor:
    """Features `(n, D)` as they are, without their mean, with unit variance by dimension, or uncorrelated as well.

    Mean and deviation are those of `fit_on (m, D)`, the training part; without it, of all features. `"whitened"` has a
    column of unit variance for each direction in which `fit_on` varies, largest first: `(n, min(m - 1, D))` or fewer.
    As many directions as clips put all these clips equally far apart. Raises ValueError for another word.
    """
    if how not in CONDITIONS:
        raise ValueError(f"features are {', '.join(CONDITIONS)}, got {how!r}")
    fit = features if fit_on is None else fit_on
    if how == "raw":
        return features
    centred = features - fit.mean(0)
    if how == "centred":
        return centred
    if how == "standardised":
        return centred / fit.std(0).clamp_min(SMALLEST_SCALE)
    _, sizes, axes = torch.linalg.svd((fit - fit.mean(0)).double(), full_matrices=False)
    used = sizes > SMALLEST_SCALE * sizes[0].clamp_min(SMALLEST_SCALE)
    deviation = sizes[used] / max(len(fit) - 1, 1) ** 0.5
    return (centred.double() @ axes[used].T / deviation).to(features.dtype)


def share_of_spread(features: Tensor, directions: int = 2) -> float:
    """Which share, in [0, 1], of the spread of features `(n, D)` about their mean lies in its largest directions.

    Features that are all equal have no spread: NaN.
    """
    sizes = torch.linalg.svdvals((features - features.mean(0)).double()).square()
    return float(sizes[:directions].sum() / sizes.sum())
