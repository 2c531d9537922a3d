"""The teacher: exact arithmetic, parameters only, no gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from audiossl_lite.methods.teacher import cosine_momentum, ema_update, make_teacher


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.99, 0.9995, 1.0])
def test_the_update_is_a_weighted_mean_of_every_parameter(momentum):
    student, teacher = network(0), make_teacher(network(1))
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    wanted = {
        name: momentum * before[name].double() + (1 - momentum) * p.detach().double()
        for name, p in student.named_parameters()
    }
    kept = {name: p.clone() for name, p in student.named_parameters()}
    ema_update(teacher, student, momentum)
    for name, p in teacher.named_parameters():
        torch.testing.assert_close(p.double(), wanted[name], atol=1e-7, rtol=1e-6)
    for name, p in student.named_parameters():
        assert torch.equal(p, kept[name]), f"the update changed the student's {name}"


def test_ten_updates_are_a_geometric_series():
    student, teacher = network(0), make_teacher(network(1))
    start, goal = teacher[0].weight.clone(), student[0].weight.detach()
    for _ in range(10):
        ema_update(teacher, student, 0.9)
    torch.testing.assert_close(teacher[0].weight, goal + 0.9**10 * (start - goal))


def test_batch_norm_buffers_are_left_alone():
    student = network(0)
    teacher = make_teacher(student)
    student(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))
    assert student[1].running_mean.abs().sum() > 0
    ema_update(teacher, student, 0.0)
    assert torch.equal(teacher[1].running_mean, torch.zeros(3))
    assert torch.equal(teacher[1].running_var, torch.ones(3))
    assert teacher[1].num_batches_tracked == 0


def test_the_teacher_is_a_separate_copy_without_gradient():
    student = network(0)
    teacher = make_teacher(student)
    for ours, theirs in zip(student.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
        assert ours.requires_grad
        assert not theirs.requires_grad


@pytest.mark.parametrize("momentum", [-0.1, 1.01, math.nan])
def test_a_momentum_outside_0_1_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum lies in"):
        ema_update(network(0), network(1), momentum)


def test_different_networks_are_refused_by_name():
    with pytest.raises(ValueError, match=r"2\.weight"):
        ema_update(network(0)[:2], network(1), 0.9)


def test_the_momentum_rises_along_half_a_cosine():
    values = [cosine_momentum(step, 100, 0.99) for step in range(101)]
    assert values[0] == pytest.approx(0.99)
    assert values[50] == pytest.approx(0.995)
    assert values[100] == pytest.approx(1.0)
    assert values == sorted(values)
    for step, value in enumerate(values):
        official = 1 + 0.5 * (0.99 - 1) * (1 + math.cos(math.pi * step / 100))
        assert value == pytest.approx(official, abs=1e-12)
    assert cosine_momentum(500, 100, 0.99) == 1.0
    assert cosine_momentum(3, 10, 0.9, final=0.9) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="at least 1"):
        cosine_momentum(0, 0, 0.99)
