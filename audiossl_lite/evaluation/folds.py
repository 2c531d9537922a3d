"""Dividing labelled clips for cross-validation and for choosing settings, without a group on both sides.

scikit-learn's `StratifiedGroupKFold` takes one label a clip; these folds take several, and no class lies in one fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from audiossl_lite.evaluation.labelled import (
    Labelled,
    check_learnable,
    numbered,
    plain_array,
)

MAX_TRIES = 100
SELECTIONS = ("validation", "test")  # which data may choose rate and epoch


def make_folds(
    targets: Tensor | Sequence,
    n_folds: int,
    *,
    groups: Tensor | Sequence | None = None,
    seed: int = 0,
) -> Tensor:
    """Fold `(n,)` long of every clip, for data that come without folds: classes spread evenly, groups kept whole.

    `targets`: classes `(n,)`, or `(n, K)` of 0 and 1; classes and `groups (n,)` are numbers or strings. In random
    order, large ones first, every group goes where its classes have the fewest clips so far, then where the fewest
    clips are; other orders are tried until every class lies in two folds or more. Raises ValueError naming the classes
    that have fewer than two groups, or that no order spread: with all clips in one fold, nothing is left to learn from.
    """
    targets = plain_array(targets)
    groups = range(len(targets)) if groups is None else groups
    if targets.ndim not in (1, 2) or len(groups) != len(targets):
        raise ValueError(
            f"one target and one group per clip, got {targets.shape} and {len(groups)} groups"
        )
    if targets.ndim == 1:
        classes, index = np.unique(targets, return_inverse=True)
        shares = one_hot(torch.from_numpy(index))
    else:
        classes, shares = np.arange(targets.shape[1]), torch.from_numpy(targets)
    counts, group = group_counts(shares, groups)
    if not 2 <= n_folds <= len(counts):
        raise ValueError(f"{len(counts)} groups cannot make {n_folds} folds")
    alone = classes[((counts > 0).sum(0) == 1).numpy()].tolist()
    if alone:
        raise ValueError(
            f"classes {alone[:8]} have one group each: cross-validation could not learn them; leave them out"
        )
    sizes = group.bincount()
    generator = torch.Generator().manual_seed(seed)
    for attempt in range(MAX_TRIES):
        order = torch.randperm(len(counts), generator=generator)
        if attempt == 0:
            order = order[sizes[order].argsort(descending=True, stable=True)]
        fold_of = torch.empty(len(counts), dtype=torch.long)
        held, filled = torch.zeros(n_folds, len(classes)), torch.zeros(n_folds)
        for g in order.tolist():
            same = held @ counts[g]  # clips of its classes that every fold has
            fold = min(range(n_folds), key=lambda f: (float(same[f]), float(filled[f])))
            fold_of[g] = fold
            held[fold] += counts[g]
            filled[fold] += sizes[g]
        alone = classes[((held > 0).sum(0) == 1).numpy()].tolist()
        if not alone:
            return fold_of[group]
    raise ValueError(
        f"no order of {len(counts)} groups spread classes {alone[:8]} over two folds; use coarser classes or more folds"
    )


def group_counts(shares: Tensor, groups: Tensor | Sequence) -> tuple[Tensor, Tensor]:
    """Clips of every class in every group `(G, K)`, from `shares (n, K)`; and every clip's row in it `(n,)`."""
    group = torch.from_numpy(numbered(groups))
    counts = torch.zeros(int(group.max()) + 1, shares.shape[1])
    return counts.index_add_(0, group, shares.float()), group


def check_folds(folds: Tensor | Sequence, groups: Tensor | Sequence | None) -> None:
    """Raise ValueError naming the groups that lie in more than one of `folds (n,)`."""
    if groups is None:
        return
    names, group = np.unique(plain_array(groups), return_inverse=True)
    pairs = np.unique([group, numbered(folds)], axis=1)
    leaking = names[np.bincount(pairs[0]) > 1].tolist()
    if leaking:
        raise ValueError(f"groups {leaking[:8]} lie in more than one fold; part the data by group")


def fold_parts(
    data: Labelled, folds: Tensor, *, select_on: str = "validation"
) -> Iterator[tuple[int, Labelled, Labelled | None, Labelled]]:
    """Every fold in turn as test data: its number, training data, validation data or None, test data.

    With groups, or with `select_on="test"`, all other folds are training data (and validation data are to be held out
    of them by group). Without groups the fold after the tested one is the validation data. Raises ValueError for fewer
    than three folds, another number of `folds (n,)`, or groups that straddle.
    """
    folds = torch.as_tensor(folds)
    if folds.shape != (len(data),):
        raise ValueError(f"one fold per clip: {len(data)} clips, folds {tuple(folds.shape)}")
    check_folds(folds, data.groups)
    numbers = folds.unique().tolist()
    if len(numbers) < 3:
        raise ValueError(f"cross-validation needs three folds or more, got {numbers}")
    for place, fold in enumerate(numbers):
        after = numbers[(place + 1) % len(numbers)]
        validation, training = None, folds != fold
        if select_on == "validation" and data.groups is None:
            validation, training = data.subset(folds == after), training & (folds != after)
        yield fold, data.subset(training), validation, data.subset(folds == fold)


def hold_out(data: Labelled, share: float, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Indices (train, validation), each sorted: about `share` of every class held out, groups kept whole.

    No class loses its last training clip. Raises ValueError when nothing can be held out.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share held out lies between 0 and 1, got {share}")
    groups = range(len(data)) if data.groups is None else data.groups
    counts, group = group_counts(data.shares(), groups)
    sizes, left = group.bincount().tolist(), counts.sum(0)
    wanted, taken = left * share, torch.zeros_like(left)
    held, n_held = torch.zeros(len(counts), dtype=torch.bool), 0
    order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed)).tolist()
    # First even over the classes; then, where classes are small, whatever brings the total near the share.
    for even in (True, False):
        for g in order:
            own = counts[g] > 0
            if held[g] or n_held + sizes[g] / 2 > share * len(data) or not own.any():
                continue
            if (left[own] <= counts[g][own]).any():
                continue
            if even and ((taken + counts[g] / 2)[own] > wanted[own]).double().mean() > 0.5:
                continue
            held[g] = True
            n_held += sizes[g]
            left, taken = left - counts[g], taken + counts[g]
    if not n_held:
        raise ValueError(
            f"no clip of {len(data)} can be held out for validation without a class losing its last; "
            "give validation data"
        )
    inside = held[group]
    return (~inside).nonzero().flatten(), inside.nonzero().flatten()


def divide_for_choice(
    train: Labelled,
    test: Labelled,
    *,
    validation: Labelled | None,
    select_on: str,
    share: float,
    seed: int = 0,
) -> tuple[Labelled, Labelled]:
    """The data to train on and the data that choose rate and epoch.

    `select_on="validation"`: the given validation data, or, where there are none, `share` of the training data held
    out. `"test"`: all training data, and the test data choose, as in the official code where it has no validation data.
    Raises ValueError for another word, a class that no training clip has, or a group in two parts, naming them.

    Where: ATST official code; chapter 11
    """
    if select_on not in SELECTIONS:
        raise ValueError(f"select_on is one of {', '.join(SELECTIONS)}, got {select_on!r}")
    check_learnable(train, test=test)
    if select_on == "test":
        if validation is not None:
            raise ValueError("there are validation data, so nothing is to be chosen on test data")
        return train, test
    if validation is None:
        rest, held = hold_out(train, share, seed=seed)
        train, validation = train.subset(rest), train.subset(held)
    check_learnable(train, validation=validation, test=test)
    return train, validation
