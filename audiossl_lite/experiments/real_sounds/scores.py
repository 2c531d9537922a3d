"""What every encoder of stage 5 is scored on: few-shot episodes of all tasks of the corpus, drawn once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.data.corpus import Sound, tasks
from audiossl_lite.data.resident import Joined
from audiossl_lite.encoders.atst import in_chunks
from audiossl_lite.evaluation.embed import embed_clips
from audiossl_lite.evaluation.few_shot import Episodes
from audiossl_lite.evaluation.grids import Column, draw_column
from audiossl_lite.evaluation.statistics import Scores
from audiossl_lite.training import load_checkpoint, save_checkpoint

START = "log-mel statistics"  # what gains are measured from
BATCH = 128  # clips of 10 s: a convolution network keeps 2 GB of each layer


@dataclass
class TaskScores:
    """Columns of scores, each on episodes over some clips of the corpus; `pool` of a column numbers `clips`.

    `baselines`: accuracy `(1, episodes)` by name and column of what needs no training. `left_out` says why a column
    is missing.
    """

    columns: list[Column]
    clips: list[Tensor]
    baselines: Scores = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def used(self) -> Tensor:
        """The clips of the corpus that any column looks at, ascending."""
        return torch.cat(self.clips).unique()

    def of(self, features: Tensor) -> dict[str, np.ndarray]:
        """Accuracy in percent of every episode, `(1, episodes)` by column, from features of the `used` clips `(m, D)`.

        Where: uaMix-MAE Sec. 4.1; chapter 10
        """
        sets = [features[torch.searchsorted(self.used, clips)] for clips in self.clips]
        return {c.name: c.score(sets)[None] for c in self.columns}

    def ways(self) -> dict[str, int]:
        """How many classes an episode of each column has; chance is one over that."""
        return {c.name: c.n_way for c in self.columns}

    def save(self, path: Path) -> None:
        """Write episodes and baselines to a file of tensors and plain values."""
        state: dict[str, Any] = {
            "columns": [[c.name, c.pool, c.n_way, c.episodes.support, c.episodes.query] for c in self.columns],
            "clips": self.clips,
            "left_out": self.left_out,
            "baselines": {
                name: {c: torch.from_numpy(v) for c, v in row.items()}
                for name, row in self.baselines.items()
            },
        }  # fmt: skip
        save_checkpoint(path, state)


def load_scores(path: Path) -> TaskScores:
    """What `TaskScores.save` wrote."""
    state = load_checkpoint(path)
    return TaskScores(
        columns=[
            Column(name, pool, n_way, Episodes(support, query))
            for name, pool, n_way, support, query in state["columns"]
        ],
        clips=state["clips"],
        baselines={
            name: {c: v.numpy() for c, v in row.items()} for name, row in state["baselines"].items()
        },
        left_out=state["left_out"],
    )


def draw_scores(sounds: list[Sound], n_episodes: int, *, heard: bool = True) -> TaskScores:
    """Two columns a task: on what training heard, for choices, and on what it never heard, to be reported.

    With `heard=False` only the latter, and no other clip is looked at.
    """
    scores = TaskScores([], [])
    for pool, task in enumerate(tasks(sounds)):
        of_use = torch.ones_like(task.never) if heard else task.never
        rows = of_use.nonzero().flatten()
        scores.clips.append(task.clips[rows])
        for kind, never in (("heard", False), ("never heard", True)):
            if not (heard or never):
                continue
            name = f"{task.name}, {kind}"
            labels = task.labels_of(never=never)[rows]
            column = draw_column(name, pool, labels, task.groups[rows], n_episodes)
            if isinstance(column, Column):
                scores.columns.append(column)
            else:
                scores.left_out[name] = column
    return scores


def embed_all(waveforms: Joined, embed: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`embed(clips (b, s), lengths (b,)) -> (b, D)` of all clips, by length: `(n, D)` on the CPU."""
    rows: list[Tensor] = [torch.empty(0)] * len(waveforms)
    for index, clips, lengths in waveforms.by_length(BATCH):
        for i, row in zip(index.tolist(), embed(clips, lengths).float().cpu(), strict=True):
            rows[i] = row
    return torch.stack(rows)


def embed_network(
    encoder: nn.Module, frontend: nn.Module, waveforms: Joined, chunk_frames: int
) -> Tensor:
    """Embeddings `(n, D)` of all clips by an encoder where they are, in chunks of so many frames (0: whole)."""
    features = in_chunks(encoder, chunk_frames)

    def embed(clips: Tensor, lengths: Tensor) -> Tensor:
        return embed_clips(
            encoder, frontend, clips, lengths,
            batch_size=BATCH, features=features, device=waveforms.data.device,
        )  # fmt: skip

    return embed_all(waveforms, embed)
