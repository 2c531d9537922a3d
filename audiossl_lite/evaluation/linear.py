"""Linear evaluation: features of a frozen encoder, computed once, and linear classifiers on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.evaluation.embed import centre_crop, embed_clips
from audiossl_lite.evaluation.folds import SELECTIONS, divide_for_choice, fold_parts
from audiossl_lite.evaluation.heads import train_heads
from audiossl_lite.evaluation.labelled import Labelled
from audiossl_lite.evaluation.metrics import classes_without_positives, score
from audiossl_lite.evaluation.settings import LinearEvaluation
from audiossl_lite.evaluation.statistics import mean_interval


def frozen_features(
    encoder: nn.Module,
    frontend: nn.Module,
    waveforms: Tensor,
    lengths: Tensor | None = None,
    *,
    config: LinearEvaluation,
    batch_size: int = 32,
    device: str | torch.device | None = None,
) -> Tensor:
    """What the classifiers see of clips `(n, S)`: `(n, D)`, from the encoder in eval mode, without gradient.

    ATST's encoder gives CLS and token mean of every block, averaged over chunks (`encoder.linear_features`); another
    encoder its embedding. Clips are cut to their central `config.max_s` before the frontend.

    Where: ATST Sec. 3.2; chapter 11
    """
    if lengths is None:
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
    waveforms, lengths = centre_crop(waveforms, lengths, config.max_s)
    compute: Callable[[Tensor, Tensor], Tensor] | None = None
    if hasattr(encoder, "linear_features"):

        def compute(spec: Tensor, frames: Tensor) -> Tensor:
            return encoder.linear_features(
                spec, frames, chunk_frames=config.chunk_frames, mean_over=config.mean_over
            )

    return embed_clips(
        encoder, frontend, waveforms, lengths,
        batch_size=batch_size, features=compute, device=device,
    )  # fmt: skip


@dataclass(frozen=True)
class LinearResult:
    """Score of the chosen classifier on the test data, and how it was chosen.

    `score` and `selection_score` are shares in [0, 1]; `outputs (n, K)` of the test clips; `curve (E, R)` the scores on
    the selecting data by epoch and rate. `selected_on="test"` makes `score` too good: the test data chose.

    Where: ATST Sec. 3.2; chapter 11
    """

    metric: str
    score: float
    selected_on: str
    selection_score: float
    learning_rate: float
    epoch: int
    head: nn.Sequential
    outputs: Tensor
    epochs: tuple[int, ...]
    learning_rates: tuple[float, ...]
    curve: Tensor
    without_positives: tuple[str, ...]
    n_train: int
    n_test: int

    def row(self, name: str) -> dict[str, Any]:
        """A line of a record: name, mean, no interval (one run), and how it was chosen."""
        return _row(name, self, self.score, math.nan) | {
            "learning_rate": self.learning_rate,
            "epoch": self.epoch,
            "without_positives": list(self.without_positives),
        }


def linear_evaluation(
    train: Labelled,
    test: Labelled,
    config: LinearEvaluation,
    *,
    validation: Labelled | None = None,
    select_on: str = "validation",
    seed: int = 0,
    device: str | torch.device = "cpu",
    description: str = "linear evaluation",
) -> LinearResult:
    """Train linear classifiers on features `(n, D)` and score the chosen one on the test data.

    Learning rate and epoch are chosen on `validation`, or, where there is none, on `config.validation_share` of the
    training data, held out by group; with `config.refit` that rate is then trained for that many epochs on training and
    validation data together. `select_on="test"` repeats what the official code does where it has no validation
    data: all training data are trained on, and the test data choose. Raises ValueError for bad features, a class that
    no training clip has, or a group on both sides, naming them.

    Where: ATST Sec. 3.2 and official code; chapter 11
    """
    train, validation = divide_for_choice(
        train, test, validation=validation, select_on=select_on,
        share=config.validation_share, seed=seed,
    )  # fmt: skip
    best = train_heads(train, validation, config, seed=seed, device=device, description=description)
    head, n_train = best.head, len(train)
    if config.refit and select_on == "validation":
        once = replace(config, learning_rates=(best.learning_rate,), evaluate_every=config.epochs)
        together = train.joined(validation)
        head = train_heads(
            together, together, once, seed=seed, device=device, stop_at=best.epoch,
            description=f"{description}, again",
        ).head  # fmt: skip
        n_train = len(together)
    with torch.no_grad():
        outputs = head(test.inputs.float())
    return LinearResult(
        metric=test.metric,
        score=float(score(outputs, test.targets)),
        selected_on=select_on,
        selection_score=best.score,
        learning_rate=best.learning_rate,
        epoch=best.epoch,
        head=head,
        outputs=outputs,
        epochs=best.epochs,
        learning_rates=config.learning_rates,
        curve=best.scores,
        without_positives=(
            classes_without_positives(test.targets, test.class_names) if test.multi_label else ()
        ),
        n_train=n_train,
        n_test=len(test),
    )


@dataclass(frozen=True)
class FoldResult:
    """A `LinearResult` for every fold, and the mean score with the half width of its 95 % interval over folds.

    Folds share training clips, so the interval is narrower than that of independent repetitions.

    Where: ATST Sec. 3.2; chapter 11
    """

    folds: tuple[LinearResult, ...]
    mean: float
    half_width: float

    @property
    def metric(self) -> str:
        """`"accuracy"` or `"mAP"`. Where: ATST Sec. 3.2; chapter 11"""
        return self.folds[0].metric

    @property
    def selected_on(self) -> str:
        """Which data chose rate and epoch. Where: ATST Sec. 3.2; chapter 11"""
        return self.folds[0].selected_on

    @property
    def n_test(self) -> int:
        """Clips scored, all folds together. Where: ATST Sec. 3.2; chapter 11"""
        return sum(fold.n_test for fold in self.folds)

    def row(self, name: str) -> dict[str, Any]:
        """A line of a record: name, mean, half width, the score of every fold, and how it was chosen."""
        return _row(name, self, self.mean, self.half_width) | {
            "by_fold": [fold.score for fold in self.folds],
            "learning_rate": [fold.learning_rate for fold in self.folds],
            "epoch": [fold.epoch for fold in self.folds],
        }


def cross_validation(
    data: Labelled,
    folds: Tensor,
    config: LinearEvaluation,
    *,
    select_on: str = "validation",
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> FoldResult:
    """Every fold in turn is the test data: ten folds of UrbanSound8K, five of ESC-50, or `make_folds`.

    `folds (n,)` long. Of the other folds, `config.validation_share` is held out by group as validation data; without
    groups, it is the whole fold after the tested one. With `select_on="test"` all other folds are trained on, as the
    official code does. Raises ValueError, naming the fold, for fewer than three folds, groups that straddle, or a class
    that the training clips lack.

    Where: ATST Sec. 3.2; chapter 11
    """
    results = []
    for fold, train, validation, test in fold_parts(data, folds, select_on=select_on):
        try:
            result = linear_evaluation(
                train, test, config,
                validation=validation, select_on=select_on, seed=seed, device=device,
                description=f"fold {fold}",
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"fold {fold}: {error}") from error
        results.append(result)
    mean, half_width = mean_interval(np.array([result.score for result in results]))
    return FoldResult(tuple(results), mean, half_width)


def _row(name: str, result: LinearResult | FoldResult, mean: float, half: float) -> dict[str, Any]:
    return {
        "name": name,
        "mean": mean,
        "ci95": None if math.isnan(half) else half,
        "metric": result.metric,
        "selected_on": SELECTIONS[result.selected_on],
        "n": result.n_test,
    }
