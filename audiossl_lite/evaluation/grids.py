"""Few-shot scores on classes that training heard and never heard, over numbers of classes and of examples.

A `Column` holds its episodes, drawn once, so that every feature is scored on the same ones. `Scoring` has one column a
pool of classes, `Grid` one for every number of ways and shots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.held_out import split_heard
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.conditioning import conditioned
from audiossl_lite.evaluation.few_shot import (
    Episodes,
    draw_episodes,
    score_episodes,
    usable_classes,
)
from audiossl_lite.evaluation.labelled import plain_array, with_label

PLURALS = {
    "event": "events",
    "speaker": "speakers",
    "instrument": "instruments",
    "digit": "digits",
    "word": "words",
}
SPOKEN = ("digit", "word")  # what a voice says: a second task of the same clips
# What the groups of a task are, when no other task has them as classes.
SAME_THING = dict.fromkeys(("event", "events", "urban scenes", "kitchen scenes"), "recordings") | {
    "note families": "instruments", "instruments": "pitches", "actors": "sentences",
    "speakers": "words", "words": "speakers",
}  # fmt: skip
# What may be done to features before the protocol: as in `conditioned`, and then to unit length or not.
TREATMENTS = {
    "raw": ("raw", False),
    "L2": ("raw", True),
    "centred": ("centred", False),
    "centred, L2": ("centred", True),
    "standardised": ("standardised", False),
    "whitened": ("whitened", False),
}


@dataclass(frozen=True)
class Pool:
    """Classes to draw from: `labels (n,)` of set number `clips`, -1 or "" for clips that take no part.

    `groups (n,)` may not straddle support and query; `apart` says what they are (recordings, speakers).
    """

    name: str
    clips: int
    labels: Tensor | Sequence
    groups: Tensor | Sequence | None = None
    apart: str = "groups"

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        labels = plain_array(self.labels)
        return len(np.unique(labels[with_label(labels)]))

    @property
    def leaks(self) -> bool:
        """Whether two clips share a group, so that groups apart and mixed differ."""
        if self.groups is None:
            return False
        groups = plain_array(self.groups)[with_label(self.labels)]
        return len(np.unique(groups)) < len(groups)


def heard_pools(part: Clips, index: int = 0) -> list[Pool]:
    """The classes of set number `index` that training heard and those that it never heard, two pools of one task.

    Which are which stands in the fixed list of `data.held_out`.
    """
    what = PLURALS.get(part.task, part.task)
    return [
        _pool(f"{what}, {kind}", part, index, part.task, clips)
        for kind, clips in zip(("heard", "never heard"), split_heard(part), strict=True)
    ]


def class_pools(clips: Sequence[Clips]) -> list[Pool]:
    """The pools of every set: all classes, those heard in training, those never heard, and what voices say.

    Words and digits are the same in all voices; there it is the voices that were heard or not. Pools of fewer than
    two classes are left out.

    Where: uaMix-MAE Table 2; chapter 10
    """
    pools = []
    for index, part in enumerate(clips):
        voices = PLURALS.get(part.task, part.task)
        pools += [_pool(voices, part, index, part.task), *heard_pools(part, index)]
        for task in (t for t in part.labels if t in SPOKEN and t != part.task):
            name = f"{PLURALS[task]}, {apart_of(part, task)} apart"
            never = split_heard(part)[1]
            pools.append(_pool(name, part, index, task))
            pools.append(_pool(f"{name}, {voices} never heard", part, index, task, never))
    return [pool for pool in pools if pool.n_classes > 1]


def _pool(name: str, part: Clips, index: int, task: str, clips: Tensor | None = None) -> Pool:
    """The classes of a task, of all clips or of those at the indices `clips` alone."""
    labels = part.labels[task]
    if clips is not None:
        labels = torch.full_like(labels, -1)
        labels[clips] = part.labels[task][clips]
    return Pool(name, index, labels, part.groups.get(task), apart_of(part, task))


def apart_of(clips: Clips, task: str) -> str:
    """What the groups of a task are called: the plural of the task whose classes they are."""
    groups = clips.groups.get(task)
    for other, labels in clips.labels.items():
        if groups is not None and other != task:
            pairs = torch.stack([groups, labels]).unique(dim=1).shape[1]
            if pairs == groups.unique().numel() == labels.unique().numel():
                return PLURALS.get(other, other)
    return SAME_THING.get(task, "groups")


@dataclass(frozen=True, eq=False)
class Column:
    """One score: the episodes over clips of set number `pool`, no group (recording, word) on both sides of one.

    `of`: the classes that the episodes were drawn from. `mixed`: groups are on both sides after all.
    """

    name: str
    pool: int
    n_way: int
    episodes: Episodes
    of: Pool | None = None
    mixed: bool = False

    @property
    def k_shot(self) -> int:
        """How many examples of a class an episode shows."""
        return self.episodes.support.shape[2]

    @property
    def n_classes(self) -> int:
        """How many classes of the pool have enough clips to be drawn."""
        return usable_classes(self.of.labels, self.k_shot, self.of.groups)

    def score(self, sets: Sequence[Tensor]) -> np.ndarray:
        """Accuracy in percent of every episode `(E,)`, from the features `(n, D)` of each set.

        Raises ValueError for features of other clips than the episodes are drawn from.
        """
        features = sets[self.pool]
        if self.of is not None and len(features) != len(self.of.labels):
            raise ValueError(
                f"{len(features)} features for the {len(self.of.labels)} clips of {self.name}"
            )
        return 100.0 * score_episodes(features, self.episodes).numpy()


def draw_column(
    name: str,
    pool: int,
    labels: Tensor | Sequence,
    groups: Tensor | Sequence | None,
    n_episodes: int,
    *,
    n_way: int | None = None,
    k_shot: int = 1,
    seed: int = 0,
) -> Column | str:
    """Episodes with `n_way` classes, by default five or as many as classes and groups allow; or why there are none."""
    of, reason = Pool(name, pool, labels, groups), "fewer than two classes"
    for ways in [n_way] if n_way else range(min(5, of.n_classes), 1, -1):
        try:
            episodes = draw_episodes(
                labels, n_way=ways, k_shot=k_shot, n_episodes=n_episodes, seed=seed, groups=groups
            )
            return Column(name, pool, ways, episodes, of)
        except ValueError as error:
            reason = str(error)
    return reason


@dataclass
class Scoring:
    """Episodes on the clips of each set, drawn once: for classes heard in training, and for those never heard.

    `left_out` says why a score is missing, where the classes or groups of a set do not allow one.
    """

    clips: Sequence[Clips]
    n_episodes: int = 600
    left_out: dict[str, str] = field(default_factory=dict)

    @cached_property
    def columns(self) -> list[Column]:
        """One column for each set and kind of classes that can be scored."""
        columns = []
        for pool in [p for index, part in enumerate(self.clips) for p in heard_pools(part, index)]:
            column = draw_column(pool.name, pool.clips, pool.labels, pool.groups, self.n_episodes)
            if isinstance(column, Column):
                columns.append(column)
            else:
                self.left_out[pool.name] = column
        return columns

    def names(self, pool: int) -> list[str]:
        """The columns of one set."""
        return [c.name for c in self.columns if c.pool == pool]

    def ways(self) -> dict[str, int]:
        """How many classes an episode of each column has; chance is one over that."""
        return {c.name: c.n_way for c in self.columns}

    def score(self, features: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """Accuracy in percent of every episode, `(1, episodes)` by column, from features `(n, D)` of the first sets."""
        return {c.name: c.score(features)[None] for c in self.columns if c.pool < len(features)}

    def baselines(self) -> dict[str, dict[str, np.ndarray]]:
        """What needs no training, by name and column."""
        return {
            name: self.score([features_of(part.waveforms, part.lengths) for part in self.clips])
            for name, features_of in BASELINES.items()
        }


@dataclass
class Grid:
    """Every pool with every number of ways and shots that its clips allow, as `cells` by name.

    A number of ways above the number of classes becomes that number. Groups are kept apart; with `mixed` there is a
    second cell beside each whose groups matter (see `mix_groups`). `left_out` names the reason for every cell that
    the clips cannot fill.

    Where: uaMix-MAE Fig. 3 to 5; chapter 10
    """

    pools: Sequence[Pool]
    ways: Sequence[int] = (5,)
    shots: Sequence[int] = (1, 5)
    n_episodes: int = 600
    n_query: int = 15
    seed: int = 0
    mixed: bool = False
    cells: dict[str, Column] = field(default_factory=dict, init=False)
    left_out: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for pool in self.pools:
            for n_way in sorted({min(n, pool.n_classes) for n in self.ways}):
                for k_shot in self.shots:
                    self._fill(pool, n_way, k_shot)

    def _fill(self, pool: Pool, n_way: int, k_shot: int) -> None:
        name = f"{pool.name}, {n_way}-way {k_shot}-shot"
        try:
            episodes = draw_episodes(
                pool.labels, n_way=n_way, k_shot=k_shot, n_query=self.n_query,
                n_episodes=self.n_episodes, seed=self.seed, groups=pool.groups,
            )  # fmt: skip
        except ValueError as error:
            self.left_out[name] = str(error)
            return
        self.cells[name] = Column(name, pool.clips, n_way, episodes, pool)
        if self.mixed and pool.leaks:
            mixed = f"{pool.apart} mixed"
            told = pool.name.replace(f"{pool.apart} apart", mixed)
            told = told if mixed in told else f"{told}, {mixed}"
            name = f"{told}, {n_way}-way {k_shot}-shot"
            drawn = mix_groups(episodes, pool.labels, self.n_query, self.seed)
            self.cells[name] = Column(name, pool.clips, n_way, drawn, pool, mixed=True)

    def of_pool(self, pool: str) -> list[Column]:
        """The cells of one pool whose groups are kept apart, by name."""
        return [c for c in self.cells.values() if c.of.name == pool and not c.mixed]

    def scores(
        self,
        features: Mapping[str, Sequence[Sequence[Tensor]]],
        *,
        cells: Sequence[str] | None = None,
        treatment: str = "raw",
        fit: Sequence[Tensor] | None = None,
    ) -> dict[str, dict[str, np.ndarray]]:
        """Accuracy in percent of every episode, `(seeds, episodes)` by features and cell.

        `features[name][seed][set]` is `(n, D)`; `treatment`, `fit`: as in `treated_features`. Raises ValueError for
        features of other clips than the episodes are drawn from.
        """
        scores: dict[str, dict[str, np.ndarray]] = {}
        for name, seeds in features.items():
            treated = [treated_features(sets, treatment, fit) for sets in seeds]
            try:
                scores[name] = {
                    column: np.stack([self.cells[column].score(sets) for sets in treated])
                    for column in cells or self.cells
                }
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return scores


def treated_features(
    sets: Sequence[Tensor], treatment: str, fit: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The features `(n, D)` of each set after one of `TREATMENTS`; KeyError names the others.

    Mean and deviation come from all clips of the set, the queries included; `fit` names others: one index of clips for
    each set.

    Where: Ericsson et al. 2021; chapter 10
    """
    if treatment not in TREATMENTS:
        raise KeyError(f"unknown treatment {treatment!r}; known: {', '.join(TREATMENTS)}")
    how, unit = TREATMENTS[treatment]
    fits = sets if fit is None else [x[index] for x, index in zip(sets, fit, strict=True)]
    treated = [conditioned(x, how, y) for x, y in zip(sets, fits, strict=True)]
    return [normalize(x, dim=1) for x in treated] if unit else treated


def mix_groups(
    episodes: Episodes, labels: Tensor | Sequence, n_query: int = 15, seed: int = 0
) -> Episodes:
    """Episodes of the same classes in the same order, their clips drawn without regard to groups.

    A difference between the two, episode by episode, owes nothing to which classes met. The query count is lowered
    to what the smallest class allows.
    """
    labels = plain_array(labels)
    classes = labels[episodes.support[:, :, 0].numpy()]  # (E, way)
    k_shot = episodes.support.shape[2]
    members = {c: np.flatnonzero(labels == c) for c in np.unique(classes)}
    n_query = min(n_query, min(len(clips) for clips in members.values()) - k_shot)
    rng = np.random.default_rng([seed, 1])
    drawn = np.stack(
        [rng.permutation(members[c])[: k_shot + n_query] for c in classes.flatten()]
    ).reshape(*classes.shape, -1)
    drawn = torch.from_numpy(drawn)
    return Episodes(drawn[..., :k_shot], drawn[..., k_shot:])
