"""BYOL: what the loss is, where the gradient goes, what the teacher does, and what the switches break."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from audiossl_lite.losses import byol_loss
from audiossl_lite.methods import BYOL


class TinyEncoder(nn.Module):
    """Flatten and project: as small as an encoder can be."""

    embed_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(20, 6)

    def forward(self, spec):
        return self.linear(spec.flatten(1))


def method(**options) -> BYOL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        byol = BYOL(TinyEncoder(), hidden_dim=16, projection_dim=8, **options)
        with torch.no_grad():  # a teacher that differs from the student
            for p in byol.teacher.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return byol


def views(b: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(b, 5, 4, generator=generator), torch.randn(b, 5, 4, generator=generator) + 1


def head(network: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """The projector or predictor in train mode, written out: Linear, batch-norm, ReLU, Linear."""
    first, norm, _, last = network
    x = x @ first.weight.T + (0 if first.bias is None else first.bias)
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
    x = x.clamp_min(0)
    return x @ last.weight.T + (0 if last.bias is None else last.bias)


def naive_loss(byol: BYOL, first, second, joint: bool) -> torch.Tensor:
    def run(network, *parts):
        x = torch.cat(parts)
        return head(network["projector"], network["encoder"](x))

    if joint:
        b = len(first)
        z = run(byol.student, first, second)
        p = head(byol.predictor, z)
        t = run(byol.teacher, first, second)
        p1, p2, t1, t2 = p[:b], p[b:], t[:b], t[b:]
    else:
        p1, p2 = (head(byol.predictor, run(byol.student, view)) for view in (first, second))
        t1, t2 = (run(byol.teacher, view) for view in (first, second))
    return byol_loss(p1, t2) + byol_loss(p2, t1)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_symmetric_over_crossed_views(joint, bias, reduction):
    byol = method(joint_views=joint, head_bias=bias, reduction=reduction)
    first, second = views()
    expected = naive_loss(byol, first, second, joint)
    if reduction == "mean":
        expected = expected / 2
    torch.testing.assert_close(byol(first, second)["loss"], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(byol(second, first)["loss"], expected, atol=1e-5, rtol=1e-5)


def test_joint_and_separate_views_differ_by_what_batch_norm_sees():
    first, second = views()
    joint, separate = method(joint_views=True), method(joint_views=False)
    assert (joint(first, second)["loss"] - separate(first, second)["loss"]).abs() > 1e-3


@pytest.mark.parametrize("joint", [False, True])
def test_the_gradient_reaches_the_student_and_never_the_teacher(joint):
    byol = method(joint_views=joint)
    byol(*views())["loss"].backward()
    for name, p in byol.student.named_parameters():
        if name != "projector.0.bias":  # batch-norm takes away what a bias adds
            assert p.grad is not None and p.grad.abs().sum() > 0, name
    for name, p in byol.predictor.named_parameters():
        if name != "0.bias":
            assert p.grad.abs().sum() > 0, name
    for name, p in byol.teacher.named_parameters():
        assert not p.requires_grad and p.grad is None, name


def test_the_gradient_is_that_of_constant_targets():
    byol = method()
    first, second = views()
    byol(first, second)["loss"].backward()
    ours = byol.student["encoder"].linear.weight.grad.clone()
    byol.zero_grad()
    naive_loss(byol, first, second, joint=False).backward()
    torch.testing.assert_close(
        ours, byol.student["encoder"].linear.weight.grad, atol=1e-5, rtol=1e-4
    )


def test_without_stop_gradient_the_student_is_its_own_target():
    byol = method(stop_gradient=False)
    first, second = views()
    z1, z2 = (head(byol.student["projector"], byol.student["encoder"](v)) for v in (first, second))
    p1, p2 = head(byol.predictor, z1), head(byol.predictor, z2)
    expected = byol_loss(p1, z2) + byol_loss(p2, z1)
    out = byol(first, second)["loss"]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    weight = byol.student["encoder"].linear.weight
    (full,) = torch.autograd.grad(out, weight, retain_graph=True)
    (expected_grad,) = torch.autograd.grad(expected, weight, retain_graph=True)
    stopped = byol_loss(p1, z2.detach()) + byol_loss(p2, z1.detach())
    (half,) = torch.autograd.grad(stopped, weight)
    torch.testing.assert_close(full, expected_grad, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(full, half, atol=1e-4)


def test_without_a_predictor_the_projection_itself_is_compared():
    byol = method(predictor=False)
    assert not list(byol.predictor.parameters())
    first, second = views()
    z1, z2 = (head(byol.student["projector"], byol.student["encoder"](v)) for v in (first, second))
    t1, t2 = (head(byol.teacher["projector"], byol.teacher["encoder"](v)) for v in (first, second))
    expected = byol_loss(z1, t2) + byol_loss(z2, t1)
    torch.testing.assert_close(byol(first, second)["loss"], expected, atol=1e-5, rtol=1e-5)


def test_the_teacher_starts_equal_and_follows_by_the_momentum():
    byol = BYOL(TinyEncoder(), hidden_dim=16, projection_dim=8)
    for ours, theirs in zip(byol.student.parameters(), byol.teacher.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    start = copy.deepcopy(byol.teacher)
    with torch.no_grad():
        for p in byol.student.parameters():
            p.add_(1.0)
    byol.update_teacher(0.75)
    for old, new in zip(start.parameters(), byol.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)
    byol.update_teacher(0.0)
    for ours, theirs in zip(byol.student.parameters(), byol.teacher.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_teacher_runs_in_train_mode_and_keeps_its_own_statistics():
    byol = method().train()
    assert byol.teacher.training
    byol(*views())
    teacher, student = (n["projector"][1].running_mean for n in (byol.teacher, byol.student))
    assert teacher.abs().sum() > 0
    assert not torch.allclose(teacher, student)


def test_the_kept_network_comes_first():
    byol = method()
    assert list(byol.encoders) == ["teacher", "student"]
    assert byol.encoders["teacher"] is byol.teacher["encoder"]
    assert byol.encoders["student"] is byol.student["encoder"]
    assert list(method(stop_gradient=False).encoders) == ["student", "teacher"]


def test_the_heads_have_the_published_sizes():
    """Small: projector 2,629,632, predictor 2,105,344; BYOL-A (with biases): 3,158,272 and 2,109,696."""

    class Wide(nn.Linear):
        embed_dim = 384

    def count(module):
        return sum(p.numel() for p in module.parameters())

    with torch.device("meta"):
        atst = BYOL(Wide(1, 384), head_bias=False)
        Wide.embed_dim = 512
        byola = BYOL(Wide(1, 512))
    assert count(atst.student["projector"]) == 2_629_632
    assert count(atst.predictor) == 2_105_344
    assert count(byola.student["projector"]) == 3_158_272
    assert count(byola.predictor) == 2_109_696


def test_the_monitors_are_numbers_without_gradient():
    out = method()(*views())
    for name, value in out.items():
        assert value.dim() == 0 and torch.isfinite(value), name
        assert value.requires_grad == (name == "loss"), name
    assert -1 <= out["student_teacher_cosine"] <= 1


def test_nan_outputs_reach_the_loss_instead_of_raising():
    byol = method()
    with torch.no_grad():
        byol.student["encoder"].linear.weight.fill_(float("nan"))
    assert byol(*views())["loss"].isnan()


def test_another_reduction_is_refused():
    with pytest.raises(ValueError, match=r"'sum' .* or 'mean' .*, got 'max'"):
        method(reduction="max")
