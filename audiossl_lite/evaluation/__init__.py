"""Evaluation: what features can do, frozen or tuned. An encoder is known here by its outputs and blocks alone."""

from audiossl_lite.evaluation.baselines import log_mel_statistics, mfcc_statistics
from audiossl_lite.evaluation.conditioning import CONDITIONS, conditioned, share_of_spread
from audiossl_lite.evaluation.embed import centre_crop, embed_clips, embed_with, spectrograms
from audiossl_lite.evaluation.few_shot import (
    Episodes,
    draw_episodes,
    few_shot_accuracy,
    score_episodes,
)
from audiossl_lite.evaluation.finetune import FineTuneResult, fine_tune
from audiossl_lite.evaluation.finetune_network import Classifier, drop_path
from audiossl_lite.evaluation.folds import check_folds, fold_parts, hold_out, make_folds
from audiossl_lite.evaluation.labelled import Labelled, labelled
from audiossl_lite.evaluation.layer_decay import layer_scales
from audiossl_lite.evaluation.linear import cross_validation, frozen_features, linear_evaluation
from audiossl_lite.evaluation.metrics import (
    average_precision,
    classes_without_positives,
    mean_average_precision,
)

__all__ = [
    "CONDITIONS",
    "Classifier",
    "Episodes",
    "FineTuneResult",
    "Labelled",
    "average_precision",
    "centre_crop",
    "check_folds",
    "classes_without_positives",
    "conditioned",
    "cross_validation",
    "draw_episodes",
    "drop_path",
    "embed_clips",
    "embed_with",
    "few_shot_accuracy",
    "fine_tune",
    "fold_parts",
    "frozen_features",
    "hold_out",
    "labelled",
    "layer_scales",
    "linear_evaluation",
    "log_mel_statistics",
    "make_folds",
    "mean_average_precision",
    "mfcc_statistics",
    "score_episodes",
    "share_of_spread",
    "spectrograms",
]
