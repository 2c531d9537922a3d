"""Labels and groups by name become numbers: one rule for clips in memory and in a packed store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Labelling:
    """Labels and groups of n clips, `(n,)` long for each task, and the names of the classes."""

    labels: dict[str, Tensor]
    class_names: dict[str, tuple[str, ...]]
    groups: dict[str, Tensor]


def number_labels(
    tasks: Sequence[str],
    class_order: Mapping[str, Sequence[str]],
    names: Sequence[str],
    labels: Sequence[Mapping[str, str]],
    groups: Sequence[Mapping[str, str]],
) -> Labelling:
    """Number the labels and groups of each task, which every clip gives by name.

    Classes come in the order of `class_order[task]`, else sorted, without those that no clip has. Groups are
    numbered as they appear; a clip that names no group is a recording of its own.
    """
    numbered: dict[str, Tensor] = {}
    class_names: dict[str, tuple[str, ...]] = {}
    grouped: dict[str, Tensor] = {}
    for task in tasks:
        present = {label[task] for label in labels}
        order = class_order.get(task) or sorted(present)
        class_names[task] = tuple(name for name in order if name in present)
        index = {name: number for number, name in enumerate(class_names[task])}
        numbered[task] = torch.tensor([index[label[task]] for label in labels], dtype=torch.long)
        keys = [
            ("g", group[task]) if task in group else ("n", name)
            for name, group in zip(names, groups)
        ]
        number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        grouped[task] = torch.tensor([number_of[key] for key in keys], dtype=torch.long)
    return Labelling(numbered, class_names, grouped)
