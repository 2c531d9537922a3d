"""Training: one step, the loop around it on one screen, and the folder of a run."""

from audiossl_lite.training.checkpoint import (
    forget_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from audiossl_lite.training.compute import Compute
from audiossl_lite.training.loop import (
    CollapseError,
    NotFiniteError,
    TrainConfig,
    TrainingResult,
    train,
)
from audiossl_lite.training.optim import cosine, make_optimizer, set_schedule, warmup_cosine
from audiossl_lite.training.step import Run, start_run, step_views, training_step

__all__ = [
    "CollapseError",
    "Compute",
    "NotFiniteError",
    "Run",
    "TrainConfig",
    "TrainingResult",
    "cosine",
    "forget_checkpoints",
    "load_checkpoint",
    "make_optimizer",
    "save_checkpoint",
    "set_schedule",
    "start_run",
    "step_views",
    "train",
    "training_step",
    "warmup_cosine",
]
