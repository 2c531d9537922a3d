"""The labelled tasks that encoders are probed on: which clips, which classes, and what must not straddle the folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.held_out import split_heard
from audiossl_lite.evaluation.folds import hold_out, make_folds
from audiossl_lite.evaluation.grids import PLURALS, apart_of
from audiossl_lite.evaluation.labelled import Labelled, labelled

N_FOLDS = 5


@dataclass(frozen=True)
class ProbeTask:
    """One column of a table: the clips `kept (n,)` of a pool that take part, and which of them training heard.

    `apart` says what never lies on both sides of a division: recordings, speakers or words; empty where the
    clips name no groups. `heard (n,)` is True for clips of classes (or speakers) that training heard, without labels.
    """

    column: str
    pool: int
    task: str
    apart: str
    kept: Tensor
    heard: Tensor
    n_classes: int
    n_folds: int
    targets: Tensor
    groups: Tensor

    def data(self, clips: Clips, inputs: Tensor, lengths: Tensor | None = None) -> Labelled:
        """The clips of the task with `inputs (n_clips, ...)` of the whole pool, in groups."""
        part = labelled(
            clips.subset(self.kept), inputs[self.kept], task=self.task,
            lengths=None if lengths is None else lengths[self.kept],
        )  # fmt: skip
        return replace(part, groups=self.groups)

    def folds(self, seed: int) -> Tensor:
        """Fold `(n,)` of every clip; groups stay whole, and each seed divides them anew."""
        return make_folds(self.targets, self.n_folds, groups=self.groups, seed=seed)

    def split(self, data: Labelled, seed: int) -> tuple[Labelled, ...]:
        """Training, validation and test data: one fold is tested on, another one for every seed.

        About a fifth of the rest is validation data, groups whole.
        """
        test = self.folds(seed) == seed % self.n_folds
        train = data.subset(~test)
        kept, held = hold_out(train, 0.2, seed=seed)
        return train.subset(kept), train.subset(held), data.subset(test)


def probe_tasks(pools: Sequence[Clips]) -> tuple[list[ProbeTask], dict[str, str]]:
    """The tasks of each pool that can be divided, events first; and for the others the reason why not, by column.

    Of the first pool, its own task; of the pool of voices, what is said, then who says it. Classes with fewer than
    two groups are left out of a task: all their clips would lie in one fold.
    """
    tasks, left_out = [], {}
    for index, clips in enumerate(pools):
        voices = [name for name in ("digit", "word", "speaker") if name in clips.labels]
        for name in [clips.task] if not index or not voices else voices:
            apart = apart_of(clips, name) if name in clips.groups else ""
            column = PLURALS.get(name, name) + (
                f", {apart} apart" if apart and name in voices else ""
            )
            try:
                tasks.append(_probe_task(clips, index, name, column, apart))
            except ValueError as error:
                left_out[column] = str(error)
    return tasks, left_out


def _probe_task(clips: Clips, pool: int, name: str, column: str, apart: str) -> ProbeTask:
    label = clips.labels[name]
    group = clips.groups.get(name, torch.arange(len(clips)))
    pairs = torch.stack([label, group], 1)[label >= 0].unique(dim=0)
    classes, n_groups = pairs[:, 0].unique(return_counts=True)
    classes = classes[n_groups >= 2]
    if len(classes) < 2:
        raise ValueError("fewer than two classes have clips of two groups")
    kept = torch.isin(label, classes).nonzero().flatten()
    _, targets = label[kept].unique(return_inverse=True)
    n_folds = min(N_FOLDS, len(group[kept].unique()))
    if n_folds < 3:
        raise ValueError(f"{n_folds} groups; training, validation and test data need three")
    heard = torch.zeros(len(clips), dtype=torch.bool)
    heard[split_heard(clips)[0]] = True
    task = ProbeTask(
        column, pool, name, apart, kept, heard[kept], len(classes), n_folds, targets, group[kept]
    )
    for seed in range(n_folds):  # raises where no division serves
        task.split(Labelled(targets[:, None].float(), targets, tuple(map(str, classes.tolist())),
                            groups=task.groups), seed)  # fmt: skip
    return task
