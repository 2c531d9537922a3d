"""Inputs with their targets: what linear evaluation and fine-tuning read, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.data.clips import Clips


def plain_array(values: Tensor | Sequence) -> np.ndarray:
    """Labels or groups `(n,)`, numbers or strings, of a tensor, an array or a list, as an array on the CPU."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    return np.array(array.tolist()) if array.dtype == object else array


def numbered(values: Tensor | Sequence) -> np.ndarray:
    """Labels or groups `(n,)`, numbers or strings, as numbers from 0 in their sorted order."""
    return np.unique(plain_array(values), return_inverse=True)[1]


def with_label(labels: Tensor | Sequence) -> np.ndarray:
    """Which of `labels (n,)` name a class, bool `(n,)`: a clip of label -1 or "" has none."""
    labels = plain_array(labels)
    return labels != "" if labels.dtype.kind in "US" else labels >= 0


@dataclass(frozen=True)
class Labelled:
    """`inputs (n, ...)`, features or spectrograms, with `targets`: `(n,)` long, or `(n, K)` of 0 and 1 (multi-label).

    `lengths (n,)`: valid frames of spectrograms. `groups (n,)`, numbers or strings: what must not straddle training and
    test data. `names` of the clips are used in errors. Raises ValueError naming the clips whose inputs are not finite
    or whose target is out of range; a clip without a label (-1) has to be left out (`labelled` does).
    """

    inputs: Tensor
    targets: Tensor
    class_names: tuple[str, ...]
    lengths: Tensor | None = None
    groups: Tensor | np.ndarray | Sequence[str] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.groups is not None and not isinstance(self.groups, Tensor):
            object.__setattr__(self, "groups", plain_array(self.groups))
        n, k = len(self.inputs), len(self.class_names)
        if self.inputs.dim() < 2 or not self.inputs.is_floating_point():
            raise ValueError(
                f"inputs are (clips, ...) of floats, got {tuple(self.inputs.shape)} {self.inputs.dtype}"
            )
        if n == 0:
            raise ValueError("there are no clips")
        if k < 2:
            raise ValueError(f"a task has two classes or more, got {self.class_names}")
        wrong = ~torch.isfinite(self.inputs).flatten(1).all(1)
        self._refuse(wrong, "the inputs of clips {} hold NaN or infinite values")
        for name in ("lengths", "groups", "names"):
            value = getattr(self, name)
            if value is not None and len(value) != n and not (name == "names" and not value):
                raise ValueError(f"{n} clips but {len(value)} {name}")
        targets = self.targets
        one_label = targets.shape == (n,) and targets.dtype == torch.long
        if not one_label and targets.shape != (n, k):
            raise ValueError(
                f"targets are ({n},) long or ({n}, {k}) of 0 and 1, got {tuple(targets.shape)} {targets.dtype}"
            )
        if one_label:
            wrong = (targets < 0) | (targets >= k)
            what = f"outside 0 to {k - 1}; leave out clips without a label"
        else:
            wrong, what = ((targets != 0) & (targets != 1)).any(1), "not 0 or 1"
        self._refuse(wrong, f"the targets of clips {{}} are {what}")

    def _refuse(self, wrong: Tensor, message: str) -> None:
        """Raise ValueError with the names, or numbers, of the first clips that are `wrong (n,)`, if any are."""
        index = wrong.nonzero().flatten().tolist()[:8]
        if index:
            raise ValueError(
                message.format([self.names[i] for i in index] if self.names else index)
            )

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have several classes, or none."""
        return self.targets.dim() == 2

    @property
    def metric(self) -> str:
        """`"accuracy"`, or `"mAP"` for a multi-label task."""
        return "mAP" if self.multi_label else "accuracy"

    def shares(self) -> Tensor:
        """Targets as `(n, K)` float32: 1 for every class that a clip has."""
        if self.multi_label:
            return self.targets.float()
        return torch.nn.functional.one_hot(self.targets, len(self.class_names)).float()

    def subset(self, index: Tensor | Sequence[int]) -> Labelled:
        """The clips at these indices (long or boolean), in this order."""
        index = torch.as_tensor(index)
        index = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        return replace(
            self,
            inputs=self.inputs[index],
            targets=self.targets[index],
            lengths=None if self.lengths is None else self.lengths[index],
            groups=None if self.groups is None else self.groups[index],
            names=tuple(self.names[i] for i in index.tolist()) if self.names else (),
        )

    def joined(self, other: Labelled) -> Labelled:
        """The clips of both, of the same task; lengths, groups and names if both have them."""

        def both(a, b):
            if a is None or b is None:
                return None
            return torch.cat([a, b]) if isinstance(a, Tensor) else np.concatenate([a, b])

        return replace(
            self,
            inputs=both(self.inputs, other.inputs),
            targets=both(self.targets, other.targets),
            lengths=both(self.lengths, other.lengths),
            groups=both(self.groups, other.groups),
            names=self.names + other.names if self.names and other.names else (),
        )


def labelled(
    clips: Clips, inputs: Tensor, *, task: str | None = None, lengths: Tensor | None = None
) -> Labelled:
    """The labelled clips of a task with `inputs (n, ...)` computed from all clips, groups and names included.

    Only classes that a clip has are kept. Raises ValueError for an unknown task or other counts.
    """
    task = task or clips.task
    if task not in clips.labels:
        raise ValueError(f"unknown task {task!r}; these clips have {', '.join(clips.labels)}")
    if len(inputs) != len(clips):
        raise ValueError(f"{len(inputs)} inputs for {len(clips)} clips")
    label, group = clips.labels[task], clips.groups.get(task)
    index = (label >= 0).nonzero().flatten()
    present, targets = label[index].unique(return_inverse=True)
    return Labelled(
        inputs[index],
        targets,
        tuple(clips.class_names[task][i] for i in present.tolist()),
        None if lengths is None else lengths[index],
        None if group is None else group[index],
        tuple(clips.names[i] for i in index.tolist()),
    )


def check_learnable(train: Labelled, **others: Labelled) -> None:
    """Raise ValueError naming the classes that other data hold but no training clip has, or groups in two parts.

    Also for fewer than two training clips, or data of other classes.
    """
    if len(train) < 2:
        raise ValueError(f"training needs at least two clips, got {len(train)}")
    heard = train.shares().sum(0) > 0
    for name, other in others.items():
        if other.class_names != train.class_names or other.multi_label != train.multi_label:
            raise ValueError(f"training and {name} data are not of the same task and classes")
        missing = ((other.shares().sum(0) > 0) & ~heard).nonzero().flatten().tolist()
        if missing:
            named = [train.class_names[i] for i in missing[:8]]
            raise ValueError(
                f"no training clip has the classes {named}, which the {name} data hold"
            )
    for (one, a), (other, b) in combinations({"training": train, **others}.items(), 2):
        if a.groups is not None and b.groups is not None:
            both = sorted(set(a.groups.tolist()) & set(b.groups.tolist()))
            if both:
                raise ValueError(
                    f"groups {both[:8]} lie in the {one} and the {other} data; part the data by group"
                )
