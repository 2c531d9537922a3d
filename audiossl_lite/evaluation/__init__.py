"""Evaluation: what frozen features can do. An encoder is known here only as a callable."""

from audiossl_lite.evaluation.baselines import log_mel_statistics, mfcc_statistics
from audiossl_lite.evaluation.embed import embed_clips, embed_with
from audiossl_lite.evaluation.few_shot import (
    Episodes,
    FewShotResult,
    draw_episodes,
    few_shot_accuracy,
    score_episodes,
)

__all__ = [
    "Episodes",
    "FewShotResult",
    "draw_episodes",
    "embed_clips",
    "embed_with",
    "few_shot_accuracy",
    "log_mel_statistics",
    "mfcc_statistics",
    "score_episodes",
]
