"""Clips: a small data set in memory, with labels for one or more tasks and the groups that must not leak."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audiossl_lite.common.commands import printable
from audiossl_lite.common.devices import rank

MEMORY_LIMIT_GIB = 8.0  # clips are held in memory, padded to the longest one


@dataclass(frozen=True)
class Skip:
    """A clip that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Clips:
    """Waveforms (n, S) with lengths (n,), labels and groups (n,) by task, names, splits, skips, and who is cut off.

    Waveforms are float32 at `sample_rate_hz`, zero from `lengths` on. A label of -1 means no label. A group is
    what must not straddle support and query: the source recording, the speaker, the word. `held (n,)` says which clips
    training never hears; without it the names of their classes do (`data.held_out`). Raises ValueError naming the
    field that is wrong.
    """

    waveforms: Tensor
    lengths: Tensor
    labels: dict[str, Tensor]
    class_names: dict[str, tuple[str, ...]]
    groups: dict[str, Tensor]
    names: tuple[str, ...]
    splits: tuple[str, ...] | None = None
    skipped: tuple[Skip, ...] = ()
    cut_off: tuple[str, ...] = ()
    source: str = ""
    sample_rate_hz: int = 16_000
    held: Tensor | None = None

    def __post_init__(self) -> None:
        n_clips = len(self.names)
        if self.waveforms.ndim != 2 or self.waveforms.dtype != torch.float32:
            found = f"{tuple(self.waveforms.shape)} {self.waveforms.dtype}"
            raise ValueError(f"Clips.waveforms must be (n, samples) float32, found {found}")
        if self.waveforms.shape[0] != n_clips:
            found = f"{self.waveforms.shape[0]} waveforms for {n_clips} names"
            raise ValueError(f"Clips: {found}; give every clip one name")
        repeated = [name for name, count in Counter(self.names).items() if count > 1]
        if repeated:
            raise ValueError(f"Clips.names must be unique, found {repeated[0]!r} more than once")
        _check_vector("lengths", self.lengths, n_clips, 1, self.waveforms.shape[1])
        if not self.labels:
            raise ValueError("Clips.labels must hold at least one task")
        if set(self.labels) != set(self.class_names):
            found = f"labels {sorted(self.labels)} and class_names {sorted(self.class_names)}"
            raise ValueError(f"Clips: tasks differ between {found}")
        for task, label in self.labels.items():
            _check_vector(f"labels[{task!r}]", label, n_clips, -1, len(self.class_names[task]) - 1)
        for task, group in self.groups.items():
            if task not in self.labels:
                raise ValueError(
                    f"Clips.groups names the unknown task {task!r}; tasks: {list(self.labels)}"
                )
            _check_vector(f"groups[{task!r}]", group, n_clips, 0, None)
        if self.held is not None and (
            self.held.shape != (n_clips,) or self.held.dtype != torch.bool
        ):
            found = f"{tuple(self.held.shape)} {self.held.dtype}"
            raise ValueError(f"Clips.held must be ({n_clips},) bool, found {found}")
        if self.splits is not None and len(self.splits) != n_clips:
            raise ValueError(f"Clips.splits has {len(self.splits)} entries for {n_clips} clips")

    @property
    def task(self) -> str:
        """The default task: the first one."""
        return next(iter(self.labels))

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Tensor | Sequence[int]) -> Clips:
        """The clips at these indices (long or boolean), in this order; class names stay."""
        index = torch.as_tensor(indices)
        index = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        return replace(
            self,
            waveforms=self.waveforms[index],
            lengths=self.lengths[index],
            labels={task: label[index] for task, label in self.labels.items()},
            groups={task: group[index] for task, group in self.groups.items()},
            names=tuple(self.names[i] for i in index.tolist()),
            splits=None if self.splits is None else tuple(self.splits[i] for i in index.tolist()),
            held=None if self.held is None else self.held[index],
        )

    def seconds(self) -> Tensor:
        """Valid length of each clip in seconds, (n,) float32."""
        return self.lengths.float() / self.sample_rate_hz

    def fingerprint(self) -> str:
        """Twelve hex digits over audio, lengths, names, labels, groups and who is held out."""
        digest = hashlib.sha256(f"{self.sample_rate_hz} {tuple(self.waveforms.shape)}".encode())
        digest.update(self.waveforms.contiguous().numpy().tobytes())
        digest.update(self.lengths.contiguous().numpy().tobytes())
        digest.update("\0".join(self.names).encode())
        for kind in (self.labels, self.groups):
            for task in sorted(kind):
                digest.update(task.encode() + kind[task].contiguous().numpy().tobytes())
        digest.update(repr(sorted(self.class_names.items())).encode())
        if self.held is not None:
            digest.update(self.held.numpy().tobytes())
        return digest.hexdigest()[:12]

    def report(self) -> str:
        """Lines for a page: source, counts by task, durations, and the skips by reason."""
        lines = [self.source or "clips of unnamed source"]
        seconds = self.seconds()
        if len(self):
            shortest, longest, total = seconds.min(), seconds.max(), seconds.sum() / 60
            lines.append(f"{len(self)} clips, {shortest:.2f} to {longest:.2f} s, {total:.1f} min")
        for task, label in self.labels.items():
            counts = torch.bincount(label[label >= 0], minlength=1)
            held = int((counts > 0).sum())
            line = f"task {task}: {held} classes, {int(counts[counts > 0].min()) if held else 0}"
            line += f" to {int(counts.max())} clips each"
            if task in self.groups:
                line += f", {len(self.groups[task].unique())} groups"
            lines.append(line)
        if self.cut_off:
            lines.append(
                f"{len(self.cut_off)} clips have lost their end (for example {self.cut_off[0]})"
            )
        if self.skipped:
            lines += [f"{len(self.skipped)} clips skipped:", *by_reason(self.skipped)]
        return "\n".join(lines)


def by_reason(skipped: Sequence[Skip]) -> list[str]:
    """A line for each reason: how many were left out for it, and one of them."""
    lines = []
    for reason, count in sorted(Counter(skip.reason for skip in skipped).items()):
        example = next(skip.name for skip in skipped if skip.reason == reason)
        lines.append(f"  {count} x {reason} (for example {example[:100]})")
    return lines


def tell_left_out(root: str, clips: Clips) -> None:
    """Warn, in process 0, of files of `root` that could not be used, and of those that have lost their end."""
    lines = by_reason(clips.skipped) + [f"  has lost its end: {name}" for name in clips.cut_off]
    if lines and rank() == 0:
        head = f"{root}: {len(clips.skipped)} left out, {len(clips.cut_off)} cut off"
        warnings.warn("\n".join(map(printable, [head, *lines])), stacklevel=3)


def _check_vector(field: str, values: Tensor, n_clips: int, low: int, high: int | None) -> None:
    if values.shape != (n_clips,) or values.dtype != torch.long:
        found = f"{tuple(values.shape)} {values.dtype}"
        raise ValueError(f"Clips.{field} must be ({n_clips},) long, found {found}")
    outside = (values < low) | (values > high if high is not None else values < low)
    if bool(outside.any()):
        span = f"{low} to {high}" if high is not None else f"{low} or more"
        raise ValueError(f"Clips.{field} must lie in {span}, found {int(values[outside][0])}")
