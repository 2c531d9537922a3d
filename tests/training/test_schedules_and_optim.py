"""Schedules against the official formulas, parameter groups, and one AdamW step by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from audiossl_lite.encoders import atst_small
from audiossl_lite.methods import BYOL
from audiossl_lite.training import TrainConfig, cosine, make_optimizer, set_schedule, warmup_cosine
from audiossl_lite.training.optim import parameter_groups


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (50, 2), (39, 13)])
def test_the_learning_rate_follows_the_official_table(steps, warmup):
    peak, final = 3e-3, 1e-6
    k = np.arange(steps - warmup)
    down = final + 0.5 * (peak - final) * (1 + np.cos(np.pi * k / (steps - warmup)))
    official = np.concatenate([np.linspace(0, peak, warmup), down])
    ours = [warmup_cosine(step, steps, warmup, peak, final) for step in range(steps)]
    np.testing.assert_allclose(ours, official, rtol=1e-9, atol=1e-12)
    assert ours[0] == 0
    assert ours[warmup - 1] == pytest.approx(peak)
    assert warmup_cosine(steps, steps, warmup, peak, final) == pytest.approx(final)


def test_without_warm_up_the_peak_comes_first():
    assert warmup_cosine(0, 10, 0, 0.5) == 0.5
    assert warmup_cosine(10, 10, 0, 0.5) == pytest.approx(0)


@pytest.mark.parametrize("warmup", [-1, 10, 11])
def test_a_warm_up_as_long_as_the_run_is_refused(warmup):
    with pytest.raises(ValueError, match=f"got {warmup} of 10 steps"):
        warmup_cosine(0, 10, warmup, 1.0)


def test_the_cosine_goes_from_start_to_end_and_stays():
    assert cosine(0, 10, 0.04, 0.4) == pytest.approx(0.04)
    assert cosine(5, 10, 0.04, 0.4) == pytest.approx(0.22)
    assert cosine(10, 10, 0.04, 0.4) == pytest.approx(0.4)
    assert cosine(99, 10, 0.04, 0.4) == pytest.approx(0.4)
    assert cosine(-3, 10, 0.04, 0.4) == pytest.approx(0.04)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        cosine(0, 0, 1.0, 2.0)


def test_the_groups_of_the_small_student_are_the_official_ones():
    with torch.device("meta"):
        byol = BYOL(atst_small(), head_bias=False)
    decayed, plain = parameter_groups(byol)
    assert (len(decayed["params"]), len(plain["params"])) == (56, 91)
    assert plain["weight_decay"] == 0
    names = {id(p): name for name, p in byol.named_parameters()}
    groups = [{names[id(p)] for p in group["params"]} for group in (decayed, plain)]
    assert {"student.encoder.cls_token", "student.encoder.pos_embed"} <= groups[0]
    assert "student.encoder.mask_embed" in groups[0]
    assert "predictor.1.weight" in groups[1]
    assert not any(name.startswith("teacher") for name in groups[0] | groups[1])
    trainable = {name for name, p in byol.named_parameters() if p.requires_grad}
    assert groups[0] | groups[1] == trainable


def config(**changes) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "steps": 100, "warmup_steps": 10, "learning_rate": 0.1, "final_learning_rate": 1e-6,
            "weight_decay": 0.04, "final_weight_decay": 0.4, "schedule": "cosine",
        }
        | changes
    )  # fmt: skip


def test_set_schedule_touches_the_decay_of_the_decayed_group_only():
    optimizer = make_optimizer(nn.Linear(3, 2), learning_rate=9.0, weight_decay=9.0)
    for step in (0, 9, 40, 100):
        values = set_schedule(optimizer, step, config())
        decayed, plain = optimizer.param_groups
        assert decayed["lr"] == plain["lr"] == values["learning_rate"]
        assert values["learning_rate"] == warmup_cosine(step, 100, 10, 0.1, 1e-6)
        assert decayed["weight_decay"] == values["weight_decay"] == cosine(step, 100, 0.04, 0.4)
        assert plain["weight_decay"] == 0


def test_a_constant_schedule_is_constant():
    optimizer = make_optimizer(nn.Linear(3, 2), learning_rate=9.0)
    decay = {"weight_decay": 0.0, "final_weight_decay": 0.0}
    constant = config(schedule="constant", warmup_steps=0, **decay)
    for step in (0, 50, 99):
        assert set_schedule(optimizer, step, constant)["learning_rate"] == 0.1
    warm = config(schedule="constant", warmup_steps=11)
    rates = [set_schedule(optimizer, step, warm)["learning_rate"] for step in (0, 5, 10, 60)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.1])


@pytest.mark.parametrize("name", ["schedule", "on_collapse"])
def test_a_misspelt_choice_is_refused(name):
    with pytest.raises(ValueError, match=f"^{name} is '[a-z]+' or '[a-z]+', got 'cosin'$"):
        TrainConfig(steps=1, batch_size=2, learning_rate=0.1, **{name: "cosin"})


def test_adamw_steps_equal_the_formula():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = make_optimizer(model, learning_rate=0.01, weight_decay=0.5, eps=1e-6)
    state = {name: [p.detach().double().clone(), 0.0, 0.0] for name, p in model.named_parameters()}
    for t in range(1, 6):
        model.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        for name, p in model.named_parameters():
            value, m, v = state[name]
            grad = p.grad.double()
            m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
            decay = 0.5 if name == "weight" else 0.0
            value = value * (1 - 0.01 * decay)
            value = value - 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-6)
            state[name] = [value, m, v]
        optimizer.step()
        for name, p in model.named_parameters():
            torch.testing.assert_close(p.double(), state[name][0], atol=1e-6, rtol=1e-5)


def test_the_drop_of_the_cosine_is_steepest_in_the_middle():
    values = [warmup_cosine(step, 101, 1, 1.0) for step in range(1, 101)]
    drops = [a - b for a, b in pairwise(values)]
    assert abs(drops.index(max(drops)) - 49) <= 1
    assert math.isclose(values[50], 0.5, abs_tol=1e-6)
