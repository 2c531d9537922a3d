"""N-way k-shot classification with frozen features: the nearest class mean, over many random episodes.

Drawing the episodes and scoring features on them are two functions, so that every feature is scored on the same
episodes. The protocol is that of Ericsson et al. (2021), which uaMix-MAE follows: raw features, squared Euclidean
distance to the mean of the support clips, mean accuracy over 600 episodes, 1.96 population std / sqrt(600).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.evaluation.labelled import numbered, plain_array, with_label
from audiossl_lite.evaluation.statistics import mean_interval

MAX_TRIES = 200


@dataclass(frozen=True)
class Episodes:
    """`support (E, way, shot)` and `query (E, way, query)` clip indices; -1 fills up classes with fewer queries."""

    support: Tensor
    query: Tensor

    def __len__(self) -> int:
        return len(self.support)


@dataclass(frozen=True)
class FewShotResult:
    """Accuracy in percent: `mean`, half width `ci95`, and `per_episode (E,)`."""

    mean: float
    ci95: float
    per_episode: np.ndarray
    n_way: int
    k_shot: int
    n_query: int

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.ci95:.1f} %"

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the 95 % interval."""
        return self.mean - self.ci95, self.mean + self.ci95


def draw_episodes(
    labels: Tensor | Sequence,
    *,
    n_way: int = 5,
    k_shot: int = 1,
    n_query: int = 15,
    n_episodes: int = 600,
    seed: int = 0,
    groups: Tensor | Sequence | None = None,
) -> Episodes:
    """Random episodes over `labels (n,)`, numbers or strings; clips of label -1 or "" have none and are left out.

    Without `groups`, the query count is lowered to what the smallest class allows. With `groups (n,)` (source
    recording, speaker), no group has clips on both sides of an episode, whatever the class: an episode shuffles the
    groups, each class takes its support from its first ones, and queries come from groups that no class took; a class
    may then have fewer queries. Classes too small to be drawn are left out. Raises ValueError, with the counts, when
    fewer than `n_way` classes remain or the groups cannot be kept apart.

    Where: uaMix-MAE Sec. 4.1; Ericsson et al. 2021; chapter 10
    """
    if min(n_way, k_shot, n_query, n_episodes) < 1 or n_way < 2:
        raise ValueError(
            f"need n_way >= 2 and k_shot, n_query, n_episodes >= 1, got {(n_way, k_shot, n_query, n_episodes)}"
        )
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"one group per clip: {len(labels)} labels but {len(groups)} groups")
    groups = None if groups is None else numbered(groups)
    members = _members(labels)
    usable = [c for c, clips in members.items() if _can_be_drawn(clips, k_shot, groups)]
    if len(usable) < n_way:
        raise ValueError(
            f"{n_way}-way {k_shot}-shot needs {n_way} classes with more than {k_shot} clips"
            f"{' from two or more groups' if groups is not None else ''}; "
            f"only {len(usable)} of {len(members)} have them"
        )
    rng = np.random.default_rng(seed)
    if groups is None:
        n_query = min(n_query, min(len(members[c]) for c in usable) - k_shot)
    support = np.empty((n_episodes, n_way, k_shot), dtype=np.int64)
    query = np.full((n_episodes, n_way, n_query), -1, dtype=np.int64)
    in_groups = {c: _by_group(members[c], groups) for c in usable} if groups is not None else {}
    for episode in range(n_episodes):
        classes = rng.choice(usable, n_way, replace=False).tolist()
        if groups is None:
            for way, label in enumerate(classes):
                order = rng.permutation(members[label])
                support[episode, way] = order[:k_shot]
                query[episode, way] = order[k_shot : k_shot + n_query]
        else:
            drawn = [in_groups[label] for label in classes]
            support[episode], queries = _grouped_episode(rng, drawn, k_shot, n_query)
            for way, chosen in enumerate(queries):
                query[episode, way, : len(chosen)] = chosen
    return Episodes(torch.from_numpy(support), torch.from_numpy(query))


def usable_classes(
    labels: Tensor | Sequence, k_shot: int, groups: Tensor | Sequence | None = None
) -> int:
    """How many classes of `labels (n,)` have clips for `k_shot` and a query, from two `groups (n,)` or more."""
    groups = None if groups is None else numbered(groups)
    return sum(_can_be_drawn(clips, k_shot, groups) for clips in _members(labels).values())


def _members(labels: Tensor | Sequence) -> dict[int, np.ndarray]:
    """The clips of every class, classes numbered in their sorted order; those without a label have no class."""
    labelled = np.flatnonzero(with_label(labels))
    codes = numbered(plain_array(labels)[labelled])
    return {code: labelled[codes == code] for code in range(codes.max(initial=-1) + 1)}


def _can_be_drawn(clips: np.ndarray, k_shot: int, groups: np.ndarray | None) -> bool:
    if groups is None:
        return len(clips) > k_shot
    _, counts = np.unique(groups[clips], return_counts=True)
    return len(counts) > 1 and len(clips) - counts.min() >= k_shot


def _by_group(clips: np.ndarray, groups: np.ndarray) -> dict[int, list[int]]:
    """The clips of each group, groups in ascending order, clips in the given one."""
    by_group: dict[int, list[int]] = {int(group): [] for group in np.unique(groups[clips])}
    for clip in clips.tolist():
        by_group[int(groups[clip])].append(clip)
    return by_group


def _grouped_episode(
    rng, classes: list[dict[int, list[int]]], k_shot: int, n_query: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Support and queries of one episode, no group on both sides; `classes` hold the clips of their groups."""
    present = np.array(sorted(set().union(*classes)))
    for _ in range(MAX_TRIES):
        rank = dict(zip(rng.permutation(present).tolist(), range(len(present)), strict=True))
        support, taken = [], set()
        for members in classes:
            pool: dict[int, int] = {}  # clip -> group
            for group in sorted(members, key=rank.__getitem__):
                pool |= dict.fromkeys(members[group], group)
                if len(pool) >= k_shot:
                    break
            chosen = rng.choice(list(pool), k_shot, replace=False)
            support.append(chosen)
            taken.update(pool[clip] for clip in chosen.tolist())
        free = [
            sorted(c for group, clips in members.items() if group not in taken for c in clips)
            for members in classes
        ]
        if all(free):
            return np.stack(support), [rng.permutation(clips)[:n_query] for clips in free]
    raise ValueError(
        f"{len(present)} groups could not be parted into support and query for {len(classes)}-way {k_shot}-shot "
        f"in {MAX_TRIES} tries; lower n_way or k_shot, or use coarser classes"
    )


def score_episodes(features: Tensor, episodes: Episodes, *, chunk: int = 16) -> Tensor:
    """Accuracy of the nearest class mean in each episode, `features (n, D)` -> `(E,)` in [0, 1].

    `chunk` episodes are computed at once. Raises ValueError for features that are not finite or not `(n, D)`.

    Where: uaMix-MAE Sec. 4.1; chapter 10
    """
    features = torch.as_tensor(features).float()
    centre = features.mean(0, dtype=torch.float64)
    if features.dim() != 2 or not torch.isfinite(centre).all():
        raise ValueError(
            f"features must be finite and (clips, dim), got {tuple(features.shape)}, "
            f"{int((~torch.isfinite(features)).sum())} values not finite"
        )
    # No decision depends on a common offset, but float32 does: a large one would drown the distances.
    features = features - centre.float()
    accuracy = []
    for support, query in zip(
        episodes.support.split(chunk), episodes.query.split(chunk), strict=True
    ):
        _, way, n_query = query.shape
        prototypes = features[support].mean(2)  # (E, way, D)
        queries = features[query.clamp_min(0).flatten(1)]  # (E, way * query, D)
        # |q - p|^2 = |q|^2 - 2 q.p + |p|^2, without |q|^2, which is the same for every prototype
        products = queries @ prototypes.transpose(1, 2)
        distance = prototypes.square().sum(2)[:, None] - 2.0 * products
        truth = torch.arange(way).repeat_interleave(n_query)
        asked = (query >= 0).flatten(1)
        right = (distance.argmin(2) == truth) & asked
        accuracy.append(right.sum(1).double() / asked.sum(1))
    return torch.cat(accuracy)


def few_shot_accuracy(
    features: Tensor,
    labels: Tensor | Sequence,
    n_way: int = 5,
    k_shot: int = 1,
    n_query: int = 15,
    n_episodes: int = 600,
    seed: int = 0,
    groups: Tensor | Sequence | None = None,
) -> FewShotResult:
    """Mean accuracy in percent with its 95 % interval, for `features (n, D)` and `labels (n,)`.

    The same arguments always give the same episodes, so features can be compared episode by episode. See
    `draw_episodes` for `labels`, `groups` and errors.

    Where: uaMix-MAE Sec. 4.1, Table 2; chapter 10
    """
    features = torch.as_tensor(features)
    if len(features) != len(labels):
        raise ValueError(f"{len(features)} features but {len(labels)} labels")
    episodes = draw_episodes(
        labels, n_way=n_way, k_shot=k_shot, n_query=n_query,
        n_episodes=n_episodes, seed=seed, groups=groups,
    )  # fmt: skip
    per_episode = 100.0 * score_episodes(features, episodes).numpy()
    mean, half_width = mean_interval(per_episode[None])
    return FewShotResult(mean, half_width, per_episode, n_way, k_shot, episodes.query.shape[2])
