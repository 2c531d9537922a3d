"""Few-shot scores over numbers of classes and of examples, for several pools of classes, on episodes drawn once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.held_out import split_heard
from audiossl_lite.evaluation.few_shot import (
    Episodes,
    draw_episodes,
    score_episodes,
    usable_classes,
)
from audiossl_lite.evaluation.heard import PLURALS

SPOKEN = ("digit", "word")  # what a voice says: a second task of the same clips
SAME_THING = {
    "event": "recordings"
}  # what the groups of a task are, when no other task has them as classes
SMALLEST_SCALE = 1e-6

# What may be done to features before the protocol. `fit` holds the clips that mean and deviation are taken from.
TREATMENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "raw": lambda x, fit: x,
    "L2": lambda x, fit: normalize(x, dim=1),
    "centred": lambda x, fit: x - fit.mean(0),
    "centred, L2": lambda x, fit: normalize(x - fit.mean(0), dim=1),
    "z-score": lambda x, fit: (x - fit.mean(0)) / fit.std(0).clamp_min(SMALLEST_SCALE),
}


@dataclass(frozen=True)
class Pool:
    """Classes to draw from: `labels (n,)` of set number `clips`, -1 for clips that take no part.

    `groups (n,)` may not straddle support and query; `apart` says what they are (recordings, speakers).
    """

    name: str
    clips: int
    labels: Tensor
    groups: Tensor | None = None
    apart: str = "groups"

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return int(self.labels[self.labels >= 0].unique().numel())

    @property
    def leaks(self) -> bool:
        """Whether two clips share a group, so that groups apart and mixed differ."""
        if self.groups is None:
            return False
        groups = self.groups[self.labels >= 0]
        return bool(groups.unique().numel() < groups.numel())


def class_pools(clips: Sequence[Clips]) -> list[Pool]:
    """The pools of every set: all classes, those heard in training, those never heard, and what voices say.

    Words and digits are the same in all voices; there it is the voices that were heard or not. Pools of fewer than
    two classes are left out.

    Where: uaMix-MAE Table 2; chapter 10
    """
    pools = []
    for index, part in enumerate(clips):
        heard, never = split_heard(part)
        for task in [part.task, *(t for t in part.labels if t in SPOKEN and t != part.task)]:
            apart, what = _apart(part, task), _plural(task)
            kinds: dict[str, Tensor | None] = {what: None, f"{what}, heard": heard}
            kinds[f"{what}, never heard"] = never
            if task != part.task:
                voices = _plural(part.task)
                kinds = {f"{what}, {apart} apart": None}
                kinds[f"{what}, {apart} apart, {voices} never heard"] = never
            for name, chosen in kinds.items():
                labels = part.labels[task]
                if chosen is not None:
                    labels = torch.full_like(labels, -1)
                    labels[chosen] = part.labels[task][chosen]
                pool = Pool(name, index, labels, part.groups.get(task), apart)
                pools += [pool] if pool.n_classes > 1 else []
    return pools


def _plural(task: str) -> str:
    return f"{task}s" if task in SPOKEN else PLURALS.get(task, task)


def _apart(clips: Clips, task: str) -> str:
    """What the groups of a task are called: the plural of the task whose classes they are."""
    groups = clips.groups.get(task)
    for other, labels in clips.labels.items():
        if groups is not None and other != task:
            pairs = torch.stack([groups, labels]).unique(dim=1).shape[1]
            if pairs == groups.unique().numel() == labels.unique().numel():
                return _plural(other)
    return SAME_THING.get(task, "groups")


@dataclass(frozen=True)
class Cell:
    """One score of a grid: a pool, N ways, K shots, and whether its groups are kept apart or mixed.

    Where: uaMix-MAE Fig. 3; chapter 10
    """

    pool: Pool = field(compare=False)
    n_way: int
    k_shot: int
    mixed: bool = False

    @property
    def name(self) -> str:
        """What a table calls it."""
        pool, apart = self.pool.name, self.pool.apart
        if self.mixed:
            before = pool.replace(f"{apart} apart", f"{apart} mixed")
            pool = before if before != pool else f"{pool}, {apart} mixed"
        return f"{pool}, {self.n_way}-way {self.k_shot}-shot"


@dataclass
class Grid:
    """Every pool with every number of ways and shots that its clips allow; `cells` holds the episodes, drawn once.

    A number of ways above the number of classes becomes that number. Groups are kept apart; with `mixed` there is a
    second cell beside each whose groups matter (see `mix_groups`). `left_out` names the reason for every cell that
    the clips cannot fill, `n_classes` how many classes a cell draws from.

    Where: uaMix-MAE Fig. 3 to 5; chapter 10
    """

    pools: Sequence[Pool]
    ways: Sequence[int] = (5,)
    shots: Sequence[int] = (1, 5)
    n_episodes: int = 600
    n_query: int = 15
    seed: int = 0
    mixed: bool = False
    cells: dict[str, tuple[Cell, Episodes]] = field(default_factory=dict, init=False)
    left_out: dict[str, str] = field(default_factory=dict, init=False)
    n_classes: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for pool in self.pools:
            for n_way in sorted({min(n, pool.n_classes) for n in self.ways}):
                for k_shot in self.shots:
                    cell = Cell(pool, n_way, k_shot)
                    episodes = self._draw(cell)
                    if episodes is None:
                        continue
                    self.cells[cell.name] = cell, episodes
                    if self.mixed and pool.leaks:
                        twin = Cell(pool, n_way, k_shot, mixed=True)
                        drawn = mix_groups(episodes, pool.labels, self.n_query, self.seed)
                        self.cells[twin.name] = twin, drawn

    def _draw(self, cell: Cell) -> Episodes | None:
        try:
            episodes = draw_episodes(
                cell.pool.labels,
                n_way=cell.n_way,
                k_shot=cell.k_shot,
                n_query=self.n_query,
                n_episodes=self.n_episodes,
                seed=self.seed,
                groups=cell.pool.groups,
            )
        except ValueError as error:
            self.left_out[cell.name] = str(error)
            return None
        self.n_classes[cell.name] = usable_classes(cell.pool.labels, cell.k_shot, cell.pool.groups)
        return episodes

    def of_pool(self, pool: str, *, mixed: bool = False) -> list[Cell]:
        """The cells of one pool, by name."""
        return [c for c, _ in self.cells.values() if c.pool.name == pool and c.mixed == mixed]

    def scores(
        self,
        features: Mapping[str, Sequence[Sequence[Tensor]]],
        *,
        cells: Iterable[str] | None = None,
        treatment: str = "raw",
        fit: Sequence[Tensor] | None = None,
    ) -> dict[str, dict[str, np.ndarray]]:
        """Accuracy in percent of every episode, `(seeds, episodes)` by features and cell.

        `features[name][seed][set]` is `(n, D)`. Mean and deviation of a treatment come from all clips of the set,
        the queries included; `fit` names others: one index of clips for each set.

        Raises ValueError for features of other clips than the episodes are drawn from.

        Where: uaMix-MAE Fig. 3; chapter 10
        """
        chosen = list(cells or self.cells)
        found = {}
        for name, seeds in features.items():
            treated = [treated_features(sets, treatment, fit) for sets in seeds]
            found[name] = {c: self._score(c, name, treated) for c in chosen}
        return found

    def _score(self, name: str, features: str, seeds: Sequence[Sequence[Tensor]]) -> np.ndarray:
        cell, episodes = self.cells[name]
        rows = []
        for sets in seeds:
            x = sets[cell.pool.clips]
            if len(x) != len(cell.pool.labels):
                raise ValueError(
                    f"{features}: {len(x)} features for the {len(cell.pool.labels)} clips of {name}"
                )
            rows.append(100.0 * score_episodes(x, episodes).numpy())
        return np.stack(rows)


def treated_features(
    sets: Sequence[Tensor], treatment: str, fit: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The features `(n, D)` of each set after one of `TREATMENTS`; KeyError names the others.

    Where: Ericsson et al. 2021; chapter 10
    """
    if treatment not in TREATMENTS:
        raise KeyError(f"unknown treatment {treatment!r}; known: {', '.join(TREATMENTS)}")
    fits = sets if fit is None else [x[index] for x, index in zip(sets, fit, strict=True)]
    return [TREATMENTS[treatment](x, y) for x, y in zip(sets, fits, strict=True)]


def mix_groups(episodes: Episodes, labels: Tensor, n_query: int = 15, seed: int = 0) -> Episodes:
    """Episodes of the same classes in the same order, their clips drawn without regard to groups.

    A difference between the two, episode by episode, owes nothing to which classes met. The query count is lowered
    to what the smallest class allows.

    Where: Ericsson et al. 2021; chapter 10
    """
    labels = np.asarray(labels)
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
