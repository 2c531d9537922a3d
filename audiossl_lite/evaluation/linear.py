"""Linear evaluation: features of a frozen encoder, computed once, and linear classifiers on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.encoders.atst import ATSTEncoder
from audiossl_lite.evaluation.embed import centre_crop, embed_clips
from audiossl_lite.evaluation.folds import divide_for_choice, fold_parts
from audiossl_lite.evaluation.heads import train_heads
from audiossl_lite.evaluation.labelled import Labelled
from audiossl_lite.evaluation.metrics import score
from audiossl_lite.evaluation.settings import LinearEvaluation
from audiossl_lite.evaluation.statistics import mean_interval


def frozen_features(
    encoder: nn.Module,
    frontend: nn.Module,
    waveforms: Tensor,
    lengths: Tensor | None = None,
    *,
    config: LinearEvaluation,
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
    compute = None
    if isinstance(encoder, ATSTEncoder):
        compute = partial(
            encoder.linear_features, chunk_frames=config.chunk_frames, mean_over=config.mean_over
        )
    return embed_clips(encoder, frontend, waveforms, lengths, features=compute, device=device)


@dataclass(frozen=True)
class LinearResult:
    """Score of the chosen classifier on the test data, and how it was chosen.

    `score` and `selection_score` are shares in [0, 1]; `outputs (n, K)` of the test clips; `curve (E, R)` the scores on
    the selecting data by epoch, of `epochs`, and rate. Chosen on the test data, `score` is too good.
    """

    score: float
    outputs: Tensor
    head: nn.Sequential
    selection_score: float
    learning_rate: float
    epoch: int
    epochs: tuple[int, ...]
    curve: Tensor
    n_train: int


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

    Which data choose learning rate and epoch, and errors: see `divide_for_choice`. With `config.refit` that rate is
    then trained for that many epochs on training and validation data together.

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
        score=float(score(outputs, test.targets)),
        outputs=outputs,
        head=head,
        selection_score=best.score,
        learning_rate=best.learning_rate,
        epoch=best.epoch,
        epochs=best.epochs,
        curve=best.scores,
        n_train=n_train,
    )


@dataclass(frozen=True)
class FoldResult:
    """A `LinearResult` for every fold, and the mean score with the half width of its 95 % interval over folds.

    Folds share training clips, so the interval is narrower than that of independent repetitions.
    """

    folds: tuple[LinearResult, ...]
    mean: float
    half_width: float


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

    `folds (n,)` long; what the other folds are for: see `fold_parts` and `linear_evaluation`. Errors name the fold.

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
