"""Names, labels, groups and skips of clips on disk: read when first asked for, training needs none of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from audiossl_lite.data.clips import Skip
from audiossl_lite.data.labelling import Labelling, number_labels


@dataclass
class Description:
    """What is known of n clips besides their sound: labels and groups by name, one mapping a clip."""

    data: str
    tasks: tuple[str, ...]
    class_order: Mapping[str, Sequence[str]]
    names: list[str] = field(default_factory=list)
    labels: list[dict[str, str]] = field(default_factory=list)
    groups: list[dict[str, str]] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)


class Described:
    """Properties of clips on disk, as `Clips` has them; a subclass says how its description is read."""

    form = "clips"

    def _describe(self) -> Description:
        raise TypeError(f"{type(self).__name__} does not say how its description is read")

    @functools.cached_property
    def _description(self) -> Description:
        return self._describe()

    @functools.cached_property
    def _labelling(self) -> Labelling:
        known = self._description
        return number_labels(
            known.tasks, known.class_order, known.names, known.labels, known.groups
        )

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The unique name of each clip."""
        return tuple(self._description.names)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the clips have labels for, the default first."""
        return self._description.tasks

    @property
    def labels(self) -> dict[str, Tensor]:
        """Class index of each clip by task, `(n,)` long."""
        return self._labelling.labels

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes by task."""
        return self._labelling.class_names

    @property
    def groups(self) -> dict[str, Tensor]:
        """What must not straddle support and query, by task, `(n,)` long."""
        return self._labelling.groups

    @functools.cached_property
    def splits(self) -> tuple[str, ...] | None:
        """The split of each clip, None when no clip has one."""
        splits = tuple(split or "" for split in self._description.splits)
        return splits if any(splits) else None

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """Files that were left out, and why."""
        return tuple(self._description.skipped)

    @property
    def clipped(self) -> tuple[str, ...]:
        """Clips with samples beyond full scale, which 16 bits cannot hold."""
        return tuple(self._description.clipped)

    @property
    def source(self) -> str:
        """One line that a page can print: which data, how many clips."""
        known = self._description
        note = f", {len(known.skipped)} skipped" if known.skipped else ""
        note += f", {len(known.clipped)} clipped" if known.clipped else ""
        classes = ""
        if known.tasks:
            classes = f", {len(self.class_names[known.tasks[0]])} classes ({known.tasks[0]})"
        return f"{known.data}: {len(known.names)} clips{classes}{note}, {self.form}"
