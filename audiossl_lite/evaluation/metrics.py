"""How good a classifier is: accuracy for one label a clip, mean average precision for several.

All values are shares in [0, 1]. ATST prints accuracy in percent and mean average precision as a share.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def score(scores: Tensor, targets: Tensor) -> Tensor:
    """Accuracy for class indices `(n,)`, mean average precision for `(n, K)` of 0 and 1: `(..., n, K)` -> `(...)`."""
    return (accuracy if targets.dim() == 1 else mean_average_precision)(scores, targets)


def accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Share of clips whose greatest score is that of their class (top-1): `(..., n, K)`, `labels (n,)` -> `(...)`.

    Between equal scores the first class counts. Raises ValueError for scores that are not finite or a bad shape.
    """
    scores, labels = _checked(scores, labels, "one label per clip", -1)
    return (scores.argmax(-1) == labels).double().mean(-1)


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Average precision of every class: `(..., n, K)` scores, `targets (n, K)` of 0 and 1 -> `(..., K)` float64.

    scikit-learn's: the sum over thresholds of (gain in recall) x precision, without interpolation; clips of equal score
    enter together. NaN for a class without positive clips. Raises ValueError for scores that are not finite, another
    shape, or targets other than 0 and 1.
    """
    from sklearn.metrics import average_precision_score  # two seconds, for those who need it

    scores, targets = _checked(scores, targets, "targets (clips, classes)", None)
    if not ((targets == 0) | (targets == 1)).all():
        raise ValueError("targets of a multi-label task are 0 or 1; soft labels have no precision")
    truth = targets.cpu().numpy()
    by_class = [
        average_precision_score(truth[:, c], column) if truth[:, c].any() else math.nan
        for one in scores.double().cpu().numpy().reshape(-1, *truth.shape)
        for c, column in enumerate(one.T)
    ]
    return torch.tensor(by_class, dtype=torch.float64).reshape(*scores.shape[:-2], -1)


def mean_average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean of `average_precision` over the classes that have positive clips (macro): `(..., n, K)` -> `(...)`.

    `classes_without_positives` names the classes that are left out. Raises ValueError when no class is left.

    Where: ATST Sec. 3.2; chapter 11
    """
    by_class = average_precision(scores, targets)
    if by_class.isnan().all():
        raise ValueError("no class has a positive clip, so there is no average precision")
    return by_class.nanmean(-1)


def classes_without_positives(
    targets: Tensor, class_names: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Names (or numbers, as text) of the classes that no clip of `targets (n, K)` has."""
    missing = (torch.as_tensor(targets).sum(0) == 0).nonzero().flatten().tolist()
    return tuple(class_names[i] if class_names else str(i) for i in missing)


def _checked(
    scores: Tensor, targets: Tensor, wanted: str, last: int | None
) -> tuple[Tensor, Tensor]:
    scores = torch.as_tensor(scores)
    targets = torch.as_tensor(targets, device=scores.device)
    if scores.dim() < 2 or not scores.numel():
        raise ValueError(f"scores are (clips, classes), got {tuple(scores.shape)}")
    bad = (~torch.isfinite(scores)).reshape(-1, *scores.shape[-2:]).any(0).any(-1)  # (n,)
    if bad.any():
        raise ValueError(
            f"the scores of clips {bad.nonzero().flatten().tolist()[:8]} are not finite"
        )
    if targets.shape != scores.shape[-2:last]:
        raise ValueError(f"{tuple(scores.shape)} scores need {wanted}, got {tuple(targets.shape)}")
    return scores, targets
