"""Dividing clips without leaks: by group inside every class, or by class."""

from __future__ import annotations

import torch
from torch import Tensor

from audiossl_lite.data.clips import Clips


def _order(n: int, generator: torch.Generator) -> list[int]:
    return torch.randperm(n, generator=generator).tolist()


def split_clips(
    clips: Clips,
    *,
    test_fraction: float = 0.25,
    seed: int = 0,
    task: str | None = None,
    by_group: bool = True,
) -> tuple[Tensor, Tensor]:
    """Indices (train, test), each sorted, of a random division of the labelled clips, made class by class.

    With `by_group` no group of `task` lies in both parts: groups are moved to the test part until every class
    has about `test_fraction` there, but never the last group of a class. Groups that are shared by several
    classes (a speaker who says every word) move as a whole. Raises ValueError for a bad fraction or task.
    """
    task = _known_task(clips, task)
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, found {test_fraction}")
    generator = torch.Generator().manual_seed(seed)
    label = clips.labels[task]
    labelled = (label >= 0).nonzero().flatten().tolist()
    grouped = by_group and task in clips.groups
    group = clips.groups[task].tolist() if grouped else list(range(len(clips)))
    members: dict[int, list[int]] = {}
    for index in labelled:
        members.setdefault(group[index], []).append(index)
    n_classes = len(clips.class_names[task])
    wanted = torch.bincount(label[label >= 0], minlength=n_classes).double() * test_fraction
    groups_left = torch.zeros(n_classes)
    presence = {g: label[torch.tensor(who)].unique() for g, who in members.items()}
    for classes in presence.values():
        groups_left[classes] += 1
    test: list[int] = []
    in_test = torch.zeros(n_classes).double()
    keys = sorted(members)
    for position in _order(len(keys), generator):
        who = members[keys[position]]
        classes = presence[keys[position]]
        counts = torch.bincount(label[torch.tensor(who)], minlength=n_classes).double()
        helps = ((wanted - in_test - counts / 2)[classes] >= -1e-9).double().mean() >= 0.5
        if helps and bool((groups_left[classes] > 1).all()):
            test += who
            in_test += counts
            groups_left[classes] -= 1
    # A class that got nothing, though it has groups to spare, gives its smallest one.
    for index in ((in_test == 0) & (groups_left > 1)).nonzero().flatten().tolist():
        owned = [g for g in keys if presence[g].tolist() == [index] and members[g][0] not in test]
        if in_test[index] == 0 and len(owned) > 1:
            test += min((members[g] for g in owned), key=len)
    held = set(test)
    train = [index for index in labelled if index not in held]
    return torch.tensor(train, dtype=torch.long), torch.tensor(sorted(test), dtype=torch.long)


def split_classes(
    clips: Clips, *, test_fraction: float = 0.25, seed: int = 0, task: str | None = None
) -> tuple[Tensor, Tensor]:
    """Indices (train, test) such that no class lies in both parts: the test of classes never heard.

    At least one class stays on each side. Raises ValueError when there are fewer than two classes.
    """
    task = _known_task(clips, task)
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, found {test_fraction}")
    label = clips.labels[task]
    present = label[label >= 0].unique()
    if len(present) < 2:
        raise ValueError(
            f"task {task!r} has {len(present)} class(es); a class-disjoint split needs two"
        )
    generator = torch.Generator().manual_seed(seed)
    order = present[torch.randperm(len(present), generator=generator)]
    n_test = min(max(1, round(test_fraction * len(present))), len(present) - 1)
    in_test = torch.isin(label, order[:n_test])
    return ((label >= 0) & ~in_test).nonzero().flatten(), in_test.nonzero().flatten()


def _known_task(clips: Clips, task: str | None) -> str:
    task = task or clips.task
    if task not in clips.labels:
        raise ValueError(f"unknown task {task!r}; these clips have {', '.join(clips.labels)}")
    return task
