"""ATST's ablations as one job: the rows of Table 1 and the segment lengths of Fig. 2, each row run once and kept.

A row is a name and the settings of one run. `Job` pretrains and scores rows, and with an `output_dir` an interrupted
job goes on where it stopped: finished rows are read, the row in progress resumes from its last checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.encoders.atst import ATSTEncoder, chunk_average
from audiossl_lite.evaluation import few_shot_accuracy, log_mel_statistics, mfcc_statistics
from audiossl_lite.evaluation.few_shot import FewShotResult
from audiossl_lite.experiments import TrainTest, few_shot_of, make_encoder, pretrain
from audiossl_lite.presets import Pretraining
from audiossl_lite.results import config_hash, record
from audiossl_lite.training import save_checkpoint

SHORT_SHARE, LONG_SHARE = 0.1, 0.6  # ATST: 1 s and 6 s of clips of 10 s
MAX_CLIP_S = 10.0  # the position table ends there


@dataclass(frozen=True)
class Row:
    """One line of a table or point of a figure: a name and the settings of its run.

    Where: ATST Table 1; chapter 05
    """

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
    """The four view strategies of Table 1 for one set of settings: one or two segments, short or long.

    Where: ATST Table 1; chapter 05
    """
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

    `config`, `byola`: settings of both at the same scale. BYOL-A gets one short segment and as many steps of the same
    batch size as the others; `clip_s` sets the segment lengths.

    Where: ATST Table 1; chapter 05
    """
    short_s, _ = segment_lengths(clip_s)
    first = replace(
        byola,
        segments="one",
        segment_s=short_s,
        steps=config.steps,
        batch_size=config.batch_size,
        log_every=config.log_every,
        warmup_steps=min(byola.warmup_steps, config.warmup_steps),
    )
    return [Row(f"BYOL-A, one, {short_s:g} s", first), *view_rows(config, clip_s)]


def segment_sweep(
    config: Pretraining, clip_s: float, shares: Sequence[float] = (0.1, 0.3, 0.6, 0.9)
) -> list[Row]:
    """The runs of ATST's Fig. 2: two segments, each length a share of the clip.

    Where: ATST Fig. 2; chapter 05
    """
    return [
        Row(
            f"transformer, two, {segment_s:g} s",
            replace(config, segments="two", segment_s=segment_s),
        )
        for segment_s in segment_lengths(clip_s, shares)
    ]


def clip_embedding(encoder: nn.Module, spec: Tensor, lengths: Tensor, chunk_frames: int) -> Tensor:
    """One embedding per clip, `(B, T, F) -> (B, D)`: a transformer works in chunks of the length it was trained on.

    Its CLS tokens are averaged over the chunks, as ATST splits clips downstream; positions beyond the training length
    have never been trained. A CNN takes the whole clip.

    Where: ATST Sec. 3.3; chapter 05
    """
    if not isinstance(encoder, ATSTEncoder):
        return encoder(spec, lengths)
    return chunk_average(
        lambda part, left: encoder(part, left.clamp(max=part.shape[1])),
        spec,
        lengths.to(spec.device),
        chunk_frames,
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
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def key(self, row: Row) -> str:
        """Twelve hex digits that change with the settings, the data, the seed and the protocol.

        Where: this project; chapter 05
        """
        return config_hash(
            {
                "config": asdict(row.config),
                "train": self.data.train.fingerprint(),
                "test": self.data.test.fingerprint(),
                "protocol": [self.seed, self.n_way, self.n_episodes],
            }
        )

    def run(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The results of these rows, in order; a row that ran before is not run again.

        Where: ATST Table 1, Fig. 2; chapter 05
        """
        return [self._result(row) | {"name": row.name} for row in rows]

    def _result(self, row: Row) -> dict[str, Any]:
        key = self.key(row)
        if key not in self.results:
            folder = Path(self.output_dir) / key if self.output_dir else None
            kept = folder / "row.json" if folder else None
            if kept and kept.is_file():
                self.results[key] = json.loads(kept.read_text())
            else:
                self.results[key] = self._run(row, folder)
        return self.results[key]

    def _run(self, row: Row, folder: Path | None) -> dict[str, Any]:
        config = row.config
        trained = pretrain(
            self.data.train,
            config,
            seed=self.seed,
            device=self.device,
            output_dir=folder,
            description=row.name,
        )
        began = time.perf_counter()
        networks = {"untrained": make_encoder(config, self.seed), **trained.method.encoders}
        scores = {
            name: self._score(network, trained.frontend, config)
            for name, network in networks.items()
        }
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
            _keep(folder, result, trained.method.encoders)
        return result

    def _score(self, network: nn.Module, frontend: nn.Module, config: Pretraining) -> FewShotResult:
        frames = round(config.segment_s / frontend.hop_s) + 1
        return few_shot_of(
            network,
            frontend,
            self.data.test,
            features=lambda spec, lengths: clip_embedding(network, spec, lengths, frames),
            n_way=self.n_way,
            n_episodes=self.n_episodes,
            seed=self.seed,
        )

    def baselines(self) -> list[dict[str, Any]]:
        """Accuracy of log-mel and MFCC statistics on the episodes of the rows.

        Where: this project; chapter 05
        """
        test = self.data.test
        rows = []
        for name, statistics in (
            ("log-mel statistics", log_mel_statistics),
            ("MFCC statistics", mfcc_statistics),
        ):
            score = few_shot_accuracy(
                statistics(test.waveforms, test.lengths),
                test.labels[test.task],
                groups=test.groups.get(test.task),
                n_way=self.n_way,
                n_episodes=self.n_episodes,
                seed=self.seed,
            )
            rows.append({"name": name, "mean": score.mean, "ci95": score.ci95})
        return rows

    def record(
        self, path: str | Path, rows: Sequence[Row], scale: str, note: str = ""
    ) -> dict[str, Any]:
        """Write the results of rows and the baselines as a recorded run (`results.record`).

        Where: this project; chapter 05
        """
        done = self.run(rows)
        values = [{k: v for k, v in result.items() if k != "history"} for result in done]
        return record(
            path,
            experiment=Path(path).stem,
            scale=scale,
            data=f"{self.data.test.source}; {self.data.note}",
            data_fingerprint=self.data.test.fingerprint(),
            device=_device_name(self.device),
            seeds=[self.seed],
            seconds=sum(result["seconds"] for result in done),
            config={row.name: asdict(row.config) for row in rows},
            values=values + self.baselines(),
            note=note,
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


def _keep(folder: Path, result: dict[str, Any], encoders: dict[str, nn.Module]) -> None:
    """The result and the encoders stay; the checkpoint with optimiser and mixup memory is no longer needed."""
    save_checkpoint(
        folder / "encoders.pt", {name: encoder.state_dict() for name, encoder in encoders.items()}
    )
    aside = folder / "row.part"
    aside.write_text(json.dumps(result, indent=1) + "\n")
    aside.replace(folder / "row.json")
    (folder / "last.pt").unlink(missing_ok=True)


def _device_name(device: str) -> str:
    if device in ("cuda", "auto") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
