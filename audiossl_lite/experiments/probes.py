"""Linear evaluation and fine-tuning of all encoders over seeds and tasks; an interruption costs little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiossl_lite.evaluation import (
    FineTuneResult,
    cross_validation,
    fine_tune,
    frozen_features,
    linear_evaluation,
    spectrograms,
)
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.statistics import Scores
from audiossl_lite.experiments.networks import UNTRAINED, Network
from audiossl_lite.experiments.probe_tasks import probe_tasks
from audiossl_lite.experiments.records import record_row
from audiossl_lite.experiments.settings.evaluation import FineTuning, LinearEvaluation
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.studies import by_seed, named, record_study
from audiossl_lite.experiments.zoo import EncoderSet
from audiossl_lite.training import forget_checkpoints

LOG_MEL = "log-mel statistics"
RECIPES = {"BYOL-A": "finetune_atst", "ATST": "finetune_atst", "uaMix-MAE": "finetune_audiomae"}
WAYS = ("linear probe", "fine-tuned", "from scratch")
NEVER, ON_TEST = ", never heard", ", chosen on test data"


def tuning_settings(scale: str) -> dict[str, FineTuning]:
    """Settings of fine-tuning by method; BYOL-A, for which nobody published any, takes ATST's for its embedding.

    Where: ATST Sec. 3.2; uaMix-MAE Table 4; chapter 11
    """
    settings = {name: preset(recipe, scale) for name, recipe in RECIPES.items()}
    settings["BYOL-A"] = replace(settings["BYOL-A"], head="embedding", drop_path=0.0)
    return settings


@dataclass
class Probes:
    """Probes and tunes the encoders of a set as these settings say, each once; scores are in per cent.

    Folds and divisions are those of the seed, the same for all features, so that differences are paired. `tasks`: what
    the clips allow, by column; a task that cannot be divided is named in `left_out`.

    Where: ATST Tables 2 and 3; uaMix-MAE Table 4; chapter 11
    """

    encoders: EncoderSet
    linear: LinearEvaluation
    tuning: dict[str, FineTuning]

    def __post_init__(self) -> None:
        self.clips, self.finished = self.encoders.scored, self.encoders.finished
        tasks, self.left_out = probe_tasks(self.clips)
        self.tasks = {task.column: task for task in tasks}
        heard = [clips.fingerprint() for clips in self.encoders.heard]
        scored = [clips.fingerprint() for clips in self.clips]
        self._base = [self.encoders.settings(), heard, scored]

    def probed(self, network: Network) -> LinearEvaluation:
        """The settings of the probe; ATST's chunks have the length that it was trained on."""
        if not network.chunk_frames:
            return self.linear
        return replace(self.linear, chunk_frames=network.chunk_frames)

    def features(self, name: str, seed: int) -> list[Tensor]:
        """What linear classifiers see, `(n, D)` by pool; of one encoder at a time they stay in memory."""
        if name in BASELINES:
            make = BASELINES[name]
            return self.finished.once(
                name, lambda: [make(c.waveforms, c.lengths) for c in self.clips]
            )
        runs = self.finished.runs
        if (name, seed) != runs.get("probed"):
            network = self.encoders.network(name, seed)
            runs["features"] = [
                frozen_features(
                    network.encoder, network.frontend, clips.waveforms, clips.lengths,
                    config=self.probed(network), device=self._place,
                )
                for clips in self.clips
            ]  # fmt: skip
            runs["probed"] = (name, seed)
        return runs["features"]

    @property
    def _place(self) -> str:
        usable = "cuda" if torch.cuda.is_available() else "cpu"
        return usable if self.encoders.device in ("auto", "gpu") else self.encoders.device

    def labelled(self, column: str, name: str, seed: int):
        """The clips of a task with their features."""
        task = self.tasks[column]
        return task.data(self.clips[task.pool], self.features(name, seed)[task.pool])

    def probe(
        self, name: str, column: str, seed: int, *, select_on: str = "validation"
    ) -> dict[str, Any]:
        """Accuracy of linear classifiers in cross-validation: `score`, `by_fold`, `never` (heard), rates and epochs.

        `never` is the accuracy on clips of classes that training of the encoder never heard, None if there are none.
        """
        settings = [name, column, seed, select_on, asdict(self.linear), self._base]

        def compute(_: Path | None) -> dict[str, Any]:
            task, data = self.tasks[column], self.labelled(column, name, seed)
            folds = task.folds(seed)
            result = cross_validation(
                data,
                folds,
                self.linear,
                select_on=select_on,
                seed=seed,
                device=self._place,
            )
            right = torch.zeros(len(data), dtype=torch.bool)
            for number, fold in zip(folds.unique().tolist(), result.folds, strict=True):
                inside = folds == number
                right[inside] = fold.outputs.argmax(1) == data.targets[inside]
            never = right[~task.heard].double()
            return {
                "score": 100 * result.mean,
                "by_fold": [100 * fold.score for fold in result.folds],
                "never": 100 * float(never.mean()) if len(never) else None,
                "learning_rate": [fold.learning_rate for fold in result.folds],
                "epoch": [fold.epoch for fold in result.folds],
                "n": len(data),
            }

        return self.finished("linear", settings, compute)

    def linear_scores(self, seeds: Sequence[int], names: Sequence[str] = ()) -> Scores:
        """Accuracy `(seeds,)` by features and column: each task, its never-heard part, the choice on test data.

        Chosen on test data: the events alone, the kind of data for which the official code does it.
        """

        def score(name: str, seed: int) -> dict[str, list[float]]:
            row = {}
            for column, task in self.tasks.items():
                result = self.probe(name, column, seed)
                row[column] = [result["score"]]
                if result["never"] is not None:
                    row[column + NEVER] = [result["never"]]
                if task.pool == 0:
                    result = self.probe(name, column, seed, select_on="test")
                    row[column + ON_TEST] = [result["score"]]
            return row

        return by_seed(score, names or [*BASELINES, *self.encoders.names()], seeds)

    def tuned(self, name: str, way: str, column: str, seed: int) -> dict[str, Any]:
        """One run: `score` of the epoch chosen on validation data, its `epoch`, and the `curve` of the run.

        `way` is `"fine-tuned"`, `"from scratch"` (the same network and settings, from its random start), or `"linear
        probe"`: linear classifiers on the same division, chosen on the same validation data.
        """
        if way == "linear probe":
            config: Any = replace(self.linear, refit=False)
        else:
            config = self.tuning[name]
        settings = [name, way, column, seed, asdict(config), self._base]

        def compute(folder: Path | None) -> dict[str, Any]:
            if way == "linear probe":
                task, data = self.tasks[column], self.labelled(column, name, seed)
                train, validation, test = task.split(data, seed)
                found = linear_evaluation(
                    train,
                    test,
                    config,
                    validation=validation,
                    seed=seed,
                    device=self._place,
                )
                return {"score": 100 * found.score, "selection": 100 * found.selection_score}
            result = self.fine_tuned(name, way, column, seed, output_dir=folder)
            if folder:
                forget_checkpoints(folder)
            return {
                "score": 100 * result.score,
                "last_epoch": 100 * result.last_score,
                "selection": 100 * result.selection_score,
                "epoch": result.epoch,
                "curve": result.history,
            }

        return self.finished("tuned", settings, compute)

    def fine_tuned(
        self,
        name: str,
        way: str,
        column: str,
        seed: int,
        *,
        output_dir: Path | None = None,
        **changes,
    ) -> FineTuneResult:
        """Fine-tune an encoder, or its random start, on the division of a seed; `changes` replace settings."""
        start = f"{name}{UNTRAINED}".replace("uaMix-MAE", "AudioMAE")
        network = self.encoders.network(name if way == "fine-tuned" else start, seed)
        config = replace(self.tuning[name], **changes)
        if network.chunk_frames:
            config = replace(config, chunk_frames=network.chunk_frames)
        task = self.tasks[column]
        clips = self.clips[task.pool]
        specs, frames = spectrograms(
            network.frontend, clips.waveforms, clips.lengths, max_s=config.max_s
        )
        train, validation, test = task.split(task.data(clips, specs, frames), seed)
        return fine_tune(
            network.encoder, network.frontend, train, test, config,
            validation=validation, seed=seed, device=self.encoders.device, output_dir=output_dir,
            description=f"{name}, {way}, seed {seed}",
        )  # fmt: skip

    def tuning_scores(
        self, seeds: Sequence[int], names: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> Scores:
        """Accuracy `(seeds,)` by row ("ATST, fine-tuned") and column; a probe of log-mel statistics comes first."""
        columns = list(columns or self.tuned_columns)
        rows = {f"{LOG_MEL}, linear probe": (LOG_MEL, "linear probe")}
        rows |= {f"{name}, {way}": (name, way) for name in names or RECIPES for way in WAYS}

        def score(row: str, seed: int) -> dict[str, list[float]]:
            return {c: [self.tuned(*rows[row], c, seed)["score"]] for c in columns}

        return by_seed(score, list(rows), seeds)

    @property
    def tuned_columns(self) -> list[str]:
        """What is fine-tuned on: every task but that of speakers."""
        some = [column for column, task in self.tasks.items() if task.task != "speaker"]
        return some or list(self.tasks)

    def record(
        self, path: str | Path, scores: Scores, seeds: Sequence[int], scale: str, note: str = ""
    ) -> dict[str, Any]:
        """Write scores as a record; the gain of every row is that over log-mel statistics."""
        first = next(iter(scores))
        columns = sorted(scores[first], key=lambda c: (c.endswith(NEVER), c.endswith(ON_TEST)))
        tuned = first.endswith("linear probe")
        config = self.encoders.settings() | {
            "linear": asdict(self.linear),
            "finetune": {name: asdict(c) for name, c in self.tuning.items()} if tuned else {},
            "ways": {c: task.n_classes for c, task in self.tasks.items() if c in columns},
            "folds": {c: task.n_folds for c, task in self.tasks.items() if c in columns},
            "shown": [c for c in columns if not c.endswith(ON_TEST)][:6],
        }
        return record_study(
            path,
            scale,
            self.clips,
            about=self.encoders.about_training(),
            device=self.encoders.device,
            seeds=seeds,
            seconds=self.finished.seconds,
            config=config,
            values=[record_row(name, row, scores[first]) for name, row in scores.items()],
            notes=[note, *named("left out", self.left_out)],
        )
