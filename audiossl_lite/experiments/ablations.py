"""Ablation rows as one job: each row is pretrained and scored once, and kept.

With an `output_dir` an interrupted job goes on where it stopped: finished rows are read, the row in progress resumes
from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.encoders.atst import ATSTEncoder, in_chunks
from audiossl_lite.evaluation import few_shot_accuracy, spectrograms
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.few_shot import FewShotResult
from audiossl_lite.experiments.build import Prepared, TrainTest, make_encoder, prepare, pretrain
from audiossl_lite.experiments.settings.presets import Pretraining
from audiossl_lite.experiments.studies import Finished, record_study
from audiossl_lite.experiments.variants import Row
from audiossl_lite.training import forget_checkpoints, save_checkpoint


def clip_embedding(encoder: nn.Module, spec: Tensor, lengths: Tensor, chunk_frames: int) -> Tensor:
    """One embedding per clip, `(B, T, F) -> (B, D)`: a transformer works in chunks of the length it was trained on.

    Its CLS tokens are averaged over the chunks, as ATST splits clips downstream; positions beyond the training length
    have never been trained. A CNN takes the whole clip.

    Where: ATST Sec. 3.3; chapter 05
    """
    return in_chunks(encoder, chunk_frames if isinstance(encoder, ATSTEncoder) else 0)(
        spec, lengths
    )


@dataclass
class Job:
    """Runs rows on one set of data and remembers their results, in memory and under `output_dir`.

    A result is a plain dictionary: the row's name and view strategy, 5-way 1-shot accuracy of the untrained encoder
    and of each trained network (`mean`, `ci95`: the one that the method keeps), the gain over the untrained encoder
    on the same episodes, and the loss along the run. Rows are told apart by settings, data and seed, not by name.

    Where: ATST Sec. 3.3; chapter 05
    """

    data: TrainTest
    seed: int = 0
    device: str = "auto"
    output_dir: str | Path | None = None
    n_way: int = 5
    n_episodes: int = 600
    _prepared: dict[tuple[str, str], Prepared] = field(default_factory=dict, repr=False)
    _tests: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _starts: dict[tuple[str, int, int], FewShotResult] = field(default_factory=dict, repr=False)

    @cached_property
    def finished(self) -> Finished:
        """The results so far."""
        return Finished(self.output_dir)

    def settings(self, row: Row) -> dict[str, Any]:
        """What decides the result of a row: its settings, the data, the seed and the protocol."""
        return {
            "config": asdict(row.config),
            "train": self.data.train.fingerprint(),
            "test": self.data.test.fingerprint(),
            "protocol": [self.seed, self.n_way, self.n_episodes],
        }

    def run(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The results of these rows, in order; a row that ran before is not run again.

        Where: ATST Table 1, Fig. 2; chapter 05
        """
        return [
            self.finished("row", self.settings(row), partial(self._run, row)) | {"name": row.name}
            for row in rows
        ]

    def _run(self, row: Row, folder: Path | None) -> dict[str, Any]:
        config = row.config
        prepared = self._prepare(config)
        trained = pretrain(
            self.data.train,
            config,
            prepared=prepared,
            seed=self.seed,
            device=self.device,
            output_dir=folder,
            description=row.name,
        )
        began = time.perf_counter()
        chunk_frames = round(config.segment_s / prepared.frontend.hop_s) + 1
        scores = {"untrained": self._untrained(config, prepared.frontend, chunk_frames)}
        for name, network in trained.method.encoders.items():
            scores[name] = self._score(self._embed(network, prepared.frontend, chunk_frames))
        result = {
            "method": config.method,
            "segments": config.segments,
            "segment_s": config.segment_s,
            "encoder": config.encoder,
            "steps": config.steps,
            "seconds": round(trained.result.seconds + time.perf_counter() - began, 1),
            "train_seconds": round(trained.result.seconds, 1),
            **_numbers(scores),
            "history": [
                [line["step"], line["loss"], line["spread"]]
                for line in trained.result.history
                if "loss" in line
            ],
        }
        if folder:
            states = {name: net.state_dict() for name, net in trained.method.encoders.items()}
            save_checkpoint(folder / "encoders.pt", states)
            forget_checkpoints(folder)
        return result

    def _prepare(self, config: Pretraining) -> Prepared:
        """Frontend and training data, computed once for all rows that share them."""
        key = (config.frontend, config.crop_from)
        if key not in self._prepared:
            self._prepared[key] = prepare(self.data.train, config)
        return self._prepared[key]

    def _spectrograms(self, frontend: nn.Module) -> tuple[Tensor, Tensor]:
        """Test clips `(n, T, F)` and their valid frames, computed once per frontend."""
        if id(frontend) not in self._tests:
            test = self.data.test
            self._tests[id(frontend)] = spectrograms(frontend, test.waveforms, test.lengths)
        return self._tests[id(frontend)]

    @torch.no_grad()
    def _embed(self, network: nn.Module, frontend: nn.Module, chunk_frames: int) -> Tensor:
        spec, frames = self._spectrograms(frontend)
        device = next(network.parameters()).device
        network.eval()
        return torch.cat(
            [
                clip_embedding(
                    network, part[:, : int(valid.max())].to(device), valid.to(device), chunk_frames
                ).cpu()
                for part, valid in zip(spec.split(32), frames.split(32), strict=True)
            ]
        )

    def _untrained(
        self, config: Pretraining, frontend: nn.Module, chunk_frames: int
    ) -> FewShotResult:
        """The score of the random start, computed once for all rows that share it."""
        key = (config.encoder, chunk_frames, id(frontend))
        if key not in self._starts:
            encoder = make_encoder(config, self.seed)
            self._starts[key] = self._score(self._embed(encoder, frontend, chunk_frames))
        return self._starts[key]

    def _score(self, features: Tensor) -> FewShotResult:
        test = self.data.test
        return few_shot_accuracy(
            features,
            test.labels[test.task],
            groups=test.groups.get(test.task),
            n_way=self.n_way,
            n_episodes=self.n_episodes,
            seed=self.seed,
        )

    def baselines(self) -> list[dict[str, Any]]:
        """Accuracy of log-mel and MFCC statistics on the episodes of the rows."""
        test, rows = self.data.test, []
        for name, features in BASELINES.items():
            score = self._score(features(test.waveforms, test.lengths))
            rows.append({"name": name, "mean": score.mean, "ci95": score.ci95})
        return rows

    def record(
        self, path: str | Path, rows: Sequence[Row], scale: str, note: str = ""
    ) -> dict[str, Any]:
        """Write the results of rows and the baselines as a recorded run (`results.record`)."""
        done = self.run(rows)
        hidden = ("history", "settings")
        values = [{k: v for k, v in result.items() if k not in hidden} for result in done]
        return record_study(
            path,
            scale,
            [self.data.test],
            about=[self.data.note],
            device=self.device,
            seeds=[self.seed],
            seconds=sum(result["seconds"] for result in done),
            config={row.name: asdict(row.config) for row in rows},
            values=values + self.baselines(),
            notes=[note],
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
    kept = "teacher" if "teacher" in scores else "student"
    return {"mean": scores[kept].mean, "ci95": scores[kept].ci95, **numbers}
