"""uaMix-MAE's settings: the paper's numbers, a source for every one, and the same strictness as elsewhere."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from audiossl_lite.experiments.settings.presets import SCALES, preset
from audiossl_lite.experiments.settings.uamix import Tuning
from audiossl_lite.mixing import RULES
from audiossl_lite.views.mixtures import MIXINGS, TuningViews

AUDIOSET_20K = 20_550  # clips, Table 1
FIELDS = {field.name: field for field in dataclasses.fields(Tuning)}
# uaMix-MAE Sec. 3 and 4, and where it is silent the method that it follows
PAPER = {
    "head_steps": 1_600, "head_batch_size": 512, "head_learning_rate": 1e-4, "steps": 25_600,
    "batch_size": 128, "learning_rate": 1e-4, "temperature": 0.15, "k": 1, "layer_decay": 0.65,
    "mixing": "t_cutmix", "rule": "paper", "alpha": 1.0, "per_sample": False, "symmetric": False,
    "hidden_dim": 2048, "predictor_dim": 4096, "projection_dim": 256, "ema_projector": True,
    "momentum": 0.99, "weight_decay": 0.05, "warmup_share": 0.2, "n_frames": 1024,
}  # fmt: skip


def test_the_paper_values_are_the_papers():
    config = dataclasses.asdict(preset("uamix", "paper"))
    for name, value in PAPER.items():
        expected = pytest.approx(value) if isinstance(value, float) else value
        assert config[name] == expected, name
    assert config["weight_decay"] * config["head_decay_scale"] == pytest.approx(1e-5)
    assert config["checkpoint"].endswith(".pth")


def test_the_steps_are_the_epochs_of_the_paper():
    config = preset("uamix", "paper")
    assert config.head_steps == 40 * (AUDIOSET_20K // config.head_batch_size)
    assert config.steps == 160 * (AUDIOSET_20K // config.batch_size)
    # stale entries: the queue is turned over within an epoch
    assert config.queue_size <= AUDIOSET_20K
    assert config.queue_size % config.head_batch_size == config.queue_size % config.batch_size == 0


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_consistent(scale):
    config = preset("uamix", scale)
    for name, field in FIELDS.items():
        assert type(getattr(config, name)).__name__ == field.type, name
    assert config.mixing in MIXINGS and config.rule in RULES
    assert config.n_frames % 16 == 0
    assert max(config.head_batch_size, config.batch_size) <= config.queue_size
    assert config.batch_size % 2 == 0, "the middle clip of an odd batch is mixed with itself"
    assert 0 <= config.warmup_share < 1 and 0 < config.layer_decay <= 1
    assert 1 <= config.k <= config.queue_size and 0 <= config.momentum <= 1


def test_lite_is_smaller_than_workshop_is_smaller_than_paper():
    lite, workshop, paper = (preset("uamix", scale) for scale in ("lite", "workshop", "paper"))
    for name in ("steps", "head_steps"):
        assert getattr(lite, name) < getattr(workshop, name) < getattr(paper, name)
    for name in ("batch_size", "head_batch_size", "hidden_dim", "predictor_dim", "n_frames"):
        assert getattr(lite, name) <= getattr(workshop, name) <= getattr(paper, name)
    assert lite.checkpoint == workshop.checkpoint == ""


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mixing", MIXINGS)
def test_every_mixing_is_a_setting_that_builds_its_views(scale, mixing):
    config = preset("uamix", scale, {"mixing": mixing})
    assert config.mixing == mixing
    assert dataclasses.replace(config, mixing="t_cutmix") == preset("uamix", scale)
    views = TuningViews(
        config.mixing, rule=config.rule, alpha=config.alpha, augmentation=config.augmentation
    )
    out = views(torch.zeros(4, 32, 16), torch.Generator().manual_seed(0), ids=torch.arange(4))
    assert out[0].shape == (4, 32, 16)
