"""A step of training asks a GPU for nothing: shown on a pretended one, which knows shapes and no values.

The backward pass is left out (autograd wants a driver); nothing of this library runs in it.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from audiossl_lite.data.sources import InMemory
from audiossl_lite.encoders.windows import WindowBlock
from audiossl_lite.experiments_mae import make_mae
from audiossl_lite.experiments_uamix import make_tuning
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend
from audiossl_lite.methods.mae import MaskedViews
from audiossl_lite.presets import preset
from audiossl_lite.training import Run, TrainConfig, make_optimizer, step_views, training_step
from audiossl_lite.training.feed import batches
from audiossl_lite.tuning_views import MIXINGS, TuningViews
from audiossl_lite.views import ViewMaker
from tests.training.parallel_run import METHODS
from tests.training.pretend_gpu import GPU, Waited, pretended_gpu, put, put_module

CONFIG = TrainConfig(steps=4, batch_size=8, learning_rate=1e-3)


def take_steps(mode, method, views, clips, lengths, n_steps: int = 3) -> None:
    """Steps of `training_step` that are not logged, from the source to the teacher."""
    source = InMemory(clips, lengths)
    source._on_device[GPU] = put(mode, clips)  # sent once, before the first step
    put_module(mode, method), put_module(mode, views)

    def backward(loss) -> None:
        assert loss.device == GPU and loss.dtype == torch.float32 and loss.requires_grad
        for p in method.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None

    optimizer = make_optimizer(method, learning_rate=1e-3)
    fabric = SimpleNamespace(global_rank=0, backward=backward)
    run = Run(fabric, method, method, views, optimizer, CONFIG)

    def chosen(step: int):
        return torch.arange(8) + step

    for step, batch in enumerate(batches(source, GPU, range(n_steps), chosen)):
        training_step(run, step, step_views(run, step, *batch))


def tuning(mixing: str, step: int, **changes) -> tuple:
    _, views, data = METHODS[f"uaMix-MAE, step {step}"]()
    config = preset("uamix", "lite", {"queue_size": 64} | changes)
    encoder = make_mae(preset("audiomae", "lite", {"n_frames": 96, "decoder_depth": 1}), 0).encoder
    rule = changes.pop("rule", "paper")
    views = TuningViews(mixing, rule=rule, augmentation="spec_augment" if step == 1 else "resized_crop")
    return make_tuning(encoder, config, step=step), views, data


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_every_method_waits_for_nothing(name, padded, autocast, monkeypatch):
    method, views, (clips, lengths) = METHODS[name]()
    with (
        pretended_gpu(monkeypatch) as mode,
        torch.autocast("cuda", torch.bfloat16, enabled=autocast),
    ):
        take_steps(mode, method, views, clips, lengths if padded else None)
        assert mode.sent > 3
