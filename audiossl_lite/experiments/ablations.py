"""ATST's ablations: the five rows of Table 1 and the segment lengths of Fig. 2, each pretrained and scored once.

With a folder an interrupted study goes on where it stopped: finished rows are read, the row in progress resumes from
its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.encoders.atst import in_chunks
from audiossl_lite.evaluation import few_shot_accuracy, spectrograms
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.few_shot import FewShotResult
from audiossl_lite.experiments.build import (
    TrainTest,
    make_encoder,
    prepare,
    pretrain,
    trained_frames,
)
from audiossl_lite.experiments.settings.presets import Pretraining
from audiossl_lite.experiments.studies import Finished, record_study

SHORT_SHARE, LONG_SHARE = 0.1, 0.6  # ATST: 1 s and 6 s of clips of 10 s
SWEEP = (0.1, 0.3, 0.6, 0.8)
MAX_CLIP_S = 10.0  # the position table ends there
HISTORY = ("step", "loss", "spread", "rank")


@dataclass(frozen=True)
class Row:
    """One line of a table or point of a figure: a name and the settings of its run."""

    name: str
    config: Pretraining


def segment_lengths(
    clip_s: float, shares: Sequence[float] = (SHORT_SHARE, LONG_SHARE)
) -> list[float]:
    """Segment lengths in seconds that are the given shares of a clip; clips count as at most 10 s.

    ATST's 1 s and 6 s are 0.1 and 0.6 of its clips. At least 0.2 s, rounded to 0.01 s. Raises ValueError for a
    share outside (0, 1] or a clip too short to be cut.

    Where: ATST Sec. 3.1, 3.3; chapter 05
    """
    if not all(0.0 < share <= 1.0 for share in shares):
        raise ValueError(f"a segment is a share in (0, 1] of its clip, got {list(shares)}")
    if clip_s < 0.4:
        raise ValueError(
            f"clips of {clip_s:.2f} s are too short for segments; use clips of at least 0.4 s"
        )
    return [round(max(share * min(clip_s, MAX_CLIP_S), 0.2), 2) for share in shares]


def view_rows(config: Pretraining, clip_s: float, prefix: str = "transformer") -> list[Row]:
    """The four view strategies of Table 1 for one set of settings: one or two segments, short or long."""
    return [
        Row(
            f"{prefix}, {segments}, {segment_s:g} s",
            replace(config, segments=segments, segment_s=segment_s),
        )
        for segment_s in segment_lengths(clip_s)
        for segments in ("one", "two")
    ]


def table_1_rows(config: Pretraining, byola: Pretraining, clip_s: float) -> list[Row]:
    """The five rows of ATST's Table 1: BYOL-A's network and views, then four view strategies of the transformer.

    `config`, `byola`: settings of both at the same scale. BYOL-A gets one short segment and sees as many
    clips as the others, in batches of its own size; `clip_s` sets the segment lengths.

    Where: ATST Table 1; chapter 05
    """
    short_s, _ = segment_lengths(clip_s)
    first = replace(
        byola,
        segments="one",
        segment_s=short_s,
        steps=max(config.steps * config.batch_size // byola.batch_size, 1),
    )
    return [Row(f"BYOL-A, one, {short_s:g} s", first), *view_rows(config, clip_s)]


def segment_sweep(config: Pretraining, clip_s: float, prefix: str = "transformer") -> list[Row]:
    """The runs of ATST's Fig. 2: two segments, each length one of `SWEEP` of the clip.

    Where: ATST Fig. 2; chapter 05
    """
    return [
        Row(
            f"{prefix}, two, {segment_s:g} s",
            replace(config, segments="two", segment_s=segment_s),
        )
        for segment_s in segment_lengths(clip_s, SWEEP)
    ]


@dataclass(frozen=True)
class Protocol:
    """How rows are trained and scored, and `finished`, where their results are."""

    data: TrainTest
    seed: int = 0
    device: str = "auto"
    n_way: int = 5
    n_episodes: int = 600
    finished: Finished = field(default_factory=Finished)

    def settings(self, row: Row) -> dict[str, Any]:
        """What decides the result of a row: its settings, the data, the seed and the protocol."""
        return {
            "config": asdict(row.config),
            "train": self.data.train.fingerprint(),
            "test": self.data.test.fingerprint(),
            "protocol": [self.seed, self.n_way, self.n_episodes],
        }

    def score(self, features: Tensor) -> FewShotResult:
        """N-way 1-shot accuracy of features `(n, D)` of the test clips."""
        test = self.data.test
        return few_shot_accuracy(
            features,
            test.labels[test.task],
            groups=test.groups.get(test.task),
            n_way=self.n_way,
            n_episodes=self.n_episodes,
            seed=self.seed,
        )


def run_rows(protocol: Protocol, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The results of these rows, in order; a row that ran before is not run again.

    A result is a plain dictionary: the row's name and view strategy, 1-shot accuracy of the untrained encoder and of
    each trained network (`mean`, `ci95`: the one that the method keeps), the gain over the untrained encoder on the
    same episodes, and the loss along the run. Rows are told apart by settings, data and seed, not by name.
    """
    return [
        protocol.finished("row", protocol.settings(row), partial(_run, protocol, row))
        | {"name": row.name}
        for row in rows
    ]


def _run(protocol: Protocol, row: Row, folder: Path | None) -> dict[str, Any]:
    config, data, once = row.config, protocol.data, protocol.finished.once
    # Rows share what they can: clips, test spectrograms, the score of the random start.
    prepared = once((config.frontend, config.crop_from), lambda: prepare(data.train, config))
    frontend = prepared.frontend
    chunk_frames = trained_frames(config, frontend)
    trained = pretrain(
        data.train,
        config,
        prepared=prepared,
        seed=protocol.seed,
        device=protocol.device,
        output_dir=folder,
        slim=True,
        description=row.name,
    )
    began = time.perf_counter()
    clips = data.test.waveforms, data.test.lengths
    spec, frames = once(frontend, lambda: spectrograms(frontend, *clips))

    def score(network: nn.Module) -> FewShotResult:
        return protocol.score(_embed(network, spec, frames, chunk_frames))

    start = ("untrained", config.encoder, chunk_frames, frontend)
    untrained = once(start, lambda: score(make_encoder(config, protocol.seed)))
    networks = trained.method.encoders.items()
    scores = {"untrained": untrained} | {name: score(network) for name, network in networks}
    return {
        "method": config.method,
        "segments": config.segments,
        "segment_s": config.segment_s,
        "encoder": config.encoder,
        "steps": config.steps,
        "seconds": round(trained.result.seconds + time.perf_counter() - began, 1),
        "train_seconds": round(trained.result.seconds, 1),
        **_numbers(scores),
        "history": [
            [line[name] for name in HISTORY] for line in trained.result.history if "loss" in line
        ],
    }


@torch.no_grad()
def _embed(network: nn.Module, spec: Tensor, frames: Tensor, chunk_frames: int) -> Tensor:
    """Embeddings `(n, D)`; a transformer works in chunks of the length it was trained on, a CNN on the whole clip."""
    device = next(network.parameters()).device
    embed = in_chunks(network.eval(), chunk_frames)
    parts = zip(spec.split(32), frames.split(32), strict=True)
    return torch.cat(
        [embed(part[:, : int(n.max())].to(device), n.to(device)).cpu() for part, n in parts]
    )


def baseline_rows(protocol: Protocol) -> list[dict[str, Any]]:
    """Accuracy of log-mel and MFCC statistics on the episodes of the rows."""
    test, rows = protocol.data.test, []
    for name, features in BASELINES.items():
        score = protocol.score(features(test.waveforms, test.lengths))
        rows.append({"name": name, "mean": score.mean, "ci95": score.ci95})
    return rows


def record_rows(
    protocol: Protocol, path: str | Path, rows: Sequence[Row], scale: str
) -> dict[str, Any]:
    """Write the results of rows and the baselines as a recorded run (`records.record`)."""
    results, hidden = run_rows(protocol, rows), ("history", "settings")
    values = [{k: v for k, v in result.items() if k not in hidden} for result in results]
    return record_study(
        path,
        scale,
        [protocol.data.test],
        about=[protocol.data.note],
        device=protocol.device,
        seeds=[protocol.seed],
        seconds=sum(result["seconds"] for result in results),
        config={row.name: asdict(row.config) for row in rows},
        values=values + baseline_rows(protocol),
    )


def _numbers(scores: dict[str, FewShotResult]) -> dict[str, float]:
    """Mean and interval of every network, and its gain over the untrained one, episode by episode."""
    untrained = scores["untrained"].per_episode
    numbers: dict[str, float] = {}
    for name, score in scores.items():
        numbers |= {name: score.mean, f"{name}_ci95": score.ci95}
        if name != "untrained":
            gain = score.per_episode - untrained
            numbers |= {
                f"{name}_gain": float(gain.mean()),
                f"{name}_gain_ci95": float(1.96 * gain.std() / np.sqrt(len(gain))),
            }
    result = scores[
        next(name for name in scores if name != "untrained")
    ]  # the network that is kept
    return {"mean": result.mean, "ci95": result.ci95, **numbers}
