"""A run small enough to repeat many times: 40 short clips, a linear encoder with dropout, BYOL, mixup.

As a program, `python -m tests.training.tiny_run FOLDER STEP...` trains in a process of its own for each STEP, into
FOLDER/STEP; it kills itself in the middle of that step, and its exit status is printed.
"""

from __future__ import annotations

import os
import signal
import sys

import torch
from torch import nn

from audiossl_lite.methods import BYOL
from audiossl_lite.training import TrainConfig, TrainingResult, train
from audiossl_lite.views.segments import ViewMaker

STEPS = 23


class TinyEncoder(nn.Module):
    """Mean over frames, linear, dropout: the dropout makes the run depend on the global random state."""

    embed_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(8, 12), nn.Dropout(0.2)

    def forward(self, spec, lengths=None):
        return self.dropout(self.linear(spec.mean(1)))


def make_data(n: int = 40) -> torch.Tensor:
    return torch.randn(n, 30, 8, generator=torch.Generator().manual_seed(11))


def make_config(**changes) -> TrainConfig:
    settings = {
        "steps": STEPS, "batch_size": 16, "learning_rate": 3e-3, "warmup_steps": 4,
        "weight_decay": 0.04, "final_weight_decay": 0.4, "momentum": 0.9, "log_every": 3,
        "save_every": 5, "seed": 3, "on_collapse": "continue",
    }  # fmt: skip
    return TrainConfig(**settings | changes)


def make_method(**options) -> BYOL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BYOL(TinyEncoder(), hidden_dim=16, projection_dim=8, **options)


def make_views(**options) -> ViewMaker:
    return ViewMaker(12, crop_from="spectrogram", memory_size=50, **options)


def run(
    output_dir=None, *, method=None, views=None, data=None, config=None, **options
) -> TrainingResult:
    return train(
        method or make_method(),
        views or make_views(),
        make_data() if data is None else data,
        config or make_config(),
        device="cpu",
        output_dir=output_dir,
        **options,
    )


def kill_at(byol: BYOL, step: int) -> BYOL:
    """The same method, but its process ends in the middle of this step, without a chance to clean up."""
    calls = 0

    def count(*_) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)

    byol.register_forward_pre_hook(count)
    return byol


if __name__ == "__main__":
    torch.set_num_threads(1)
    for step in sys.argv[2:]:
        if not (child := os.fork()):
            run(f"{sys.argv[1]}/{step}", method=kill_at(make_method(), int(step)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
