"""Few-shot scores on classes that training heard and on classes that it never heard, for one or more pools of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.held_out import split_heard
from audiossl_lite.evaluation.baselines import log_mel_statistics, mfcc_statistics
from audiossl_lite.evaluation.few_shot import Episodes, draw_episodes, score_episodes

PLURALS = {"event": "events", "speaker": "speakers", "instrument": "instruments"}


@dataclass(frozen=True)
class Column:
    """One score: the episodes over clips of one pool, no group (recording, word) on both sides of an episode."""

    name: str
    pool: int
    n_way: int
    episodes: Episodes


def draw_column(
    name: str, pool: int, labels: Tensor, groups: Tensor | None, n_episodes: int
) -> Column | str:
    """1-shot episodes with five ways, or as many as classes and groups allow; the reason for fewer than two."""
    reason = "fewer than two classes"
    for n_way in range(min(5, len(labels[labels >= 0].unique())), 1, -1):
        try:
            episodes = draw_episodes(labels, n_way=n_way, n_episodes=n_episodes, groups=groups)
        except ValueError as error:
            reason = str(error)
            continue
        return Column(name, pool, n_way, episodes)
    return reason


@dataclass
class Scoring:
    """Episodes on the clips of each pool, drawn once: for classes heard in training, and for those never heard.

    Which are which stands in the fixed list of `data.held_out`. `left_out` says why a score is missing, where the
    classes or groups of a pool do not allow one.
    """

    pools: Sequence[Clips]
    n_episodes: int = 600
    left_out: dict[str, str] = field(default_factory=dict)

    @cached_property
    def columns(self) -> list[Column]:
        """One column for each pool and kind of classes that can be scored."""
        columns = []
        for index, clips in enumerate(self.pools):
            name = PLURALS.get(clips.task, clips.task)
            label = clips.labels[clips.task]
            for kind, chosen in zip(("heard", "never heard"), split_heard(clips), strict=True):
                labels = torch.full_like(label, -1)
                labels[chosen] = label[chosen]
                groups = clips.groups.get(clips.task)
                column = draw_column(f"{name}, {kind}", index, labels, groups, self.n_episodes)
                if isinstance(column, Column):
                    columns.append(column)
                else:
                    self.left_out[f"{name}, {kind}"] = column
        return columns

    def names(self, pool: int | None = None) -> list[str]:
        """The columns of one pool, or of all."""
        return [c.name for c in self.columns if pool is None or c.pool == pool]

    def ways(self) -> dict[str, int]:
        """How many classes an episode of each column has; chance is one over that."""
        return {c.name: c.n_way for c in self.columns}

    def score(self, features: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """Accuracy in percent of every episode, `(1, episodes)` by column, from features `(n, D)` of each pool.

        Columns of pools beyond the given ones are left out.

        Where: uaMix-MAE Sec. 4.1; chapter 09
        """
        return {
            c.name: 100.0 * score_episodes(features[c.pool], c.episodes).numpy()[None]
            for c in self.columns
            if c.pool < len(features)
        }

    def baselines(self) -> dict[str, dict[str, np.ndarray]]:
        """What needs no training: statistics of log-mel and of MFCC, by name and column."""
        return {
            name: self.score([features_of(p.waveforms, p.lengths) for p in self.pools])
            for name, features_of in (
                ("log-mel statistics", log_mel_statistics),
                ("MFCC statistics", mfcc_statistics),
            )
        }
