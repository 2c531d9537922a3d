"""Losses against slow, obvious re-derivations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiossl_lite.losses import byol_loss, info_nce, masked_reconstruction_loss


def pair(b: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(b, d, generator=generator), 3 * torch.randn(b, d, generator=generator)


def dot(u: list[float], v: list[float]) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True))


def cosine(u: list[float], v: list[float]) -> float:
    return dot(u, v) / math.sqrt(dot(u, u) * dot(v, v))


def naive_byol(first: torch.Tensor, second: torch.Tensor) -> float:
    """Squared distance of the normalised vectors, clip by clip."""
    total = 0.0
    for u, v in zip(first.tolist(), second.tolist(), strict=True):
        length_u, length_v = math.sqrt(dot(u, u)), math.sqrt(dot(v, v))
        total += sum((a / length_u - b / length_v) ** 2 for a, b in zip(u, v, strict=True))
    return total / len(first)


def naive_info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    total, n = 0.0, len(first)
    for anchors, others in ((first, second), (second, first)):
        for i, anchor in enumerate(anchors.tolist()):
            scores = [math.exp(cosine(anchor, other) / temperature) for other in others.tolist()]
            total += -math.log(scores[i] / sum(scores)) / n
    return total / 2


shapes = {"b": st.integers(1, 9), "d": st.integers(2, 12), "seed": st.integers(0, 2**31)}


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_byol_loss_is_the_squared_distance_of_unit_vectors(b, d, seed):
    first, second = pair(b, d, seed)
    assert byol_loss(first, second).item() == pytest.approx(naive_byol(first, second), abs=1e-5)


def test_byol_loss_at_its_landmarks():
    x = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    turned = torch.stack([-x[:, 1], x[:, 0]], dim=1)
    assert byol_loss(x, 5 * x).item() == pytest.approx(0, abs=1e-6)
    assert byol_loss(x, turned).item() == pytest.approx(2, abs=1e-6)
    assert byol_loss(x, -x).item() == pytest.approx(4, abs=1e-6)


def test_byol_loss_stops_no_gradient_itself():
    first, second = (x.requires_grad_() for x in pair(4, 6, 0))
    byol_loss(first, second).backward()
    assert first.grad.abs().sum() > 0
    assert second.grad.abs().sum() > 0


@settings(max_examples=60, deadline=None)
@given(**shapes, temperature=st.sampled_from([0.07, 0.15, 0.5, 1.0, 3.0]))
def test_info_nce_is_cross_entropy_over_all_clips(b, d, seed, temperature):
    first, second = pair(b, d, seed)
    expected = naive_info_nce(first, second, temperature)
    assert info_nce(first, second, temperature).item() == pytest.approx(expected, abs=1e-4)


def test_info_nce_at_its_landmarks():
    same = torch.ones(7, 5)
    assert info_nce(same, same).item() == pytest.approx(math.log(7), abs=1e-5)
    apart = torch.eye(8)
    assert info_nce(apart, apart, temperature=0.05).item() < 1e-6
    first, second = pair(6, 4, 1)
    assert info_nce(first, second).item() == pytest.approx(info_nce(second, first).item(), abs=1e-6)
    # the order of the clips does not matter, which clip belongs to which does
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert info_nce(first[order], second[order]).item() == pytest.approx(
        info_nce(first, second).item(), abs=1e-5
    )
    assert info_nce(first, first).item() < info_nce(first, first[order]).item()


@pytest.mark.parametrize("loss", [byol_loss, info_nce])
def test_unequal_shapes_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\)"):
        loss(torch.ones(4, 3), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"\(batch, dim\)"):
        loss(torch.ones(3), torch.ones(3))


def test_masked_reconstruction_is_a_loop_over_hidden_patches():
    draw = torch.Generator().manual_seed(3)
    predicted, patches = torch.randn(2, 3, 7, 16, generator=draw, dtype=torch.float64)
    mask = (torch.rand(3, 7, generator=draw) < 0.6).double()
    errors = []
    for b in range(3):
        for n in range(7):
            if mask[b, n]:
                x = patches[b, n]
                mean = sum(x) / len(x)
                variance = sum((cell - mean) ** 2 for cell in x) / (len(x) - 1)
                target = (x - mean) / torch.sqrt(variance + 1e-6)
                errors.append(sum((predicted[b, n] - target) ** 2) / len(x))
    loss = masked_reconstruction_loss(predicted, patches, mask)
    assert loss.item() == pytest.approx(float(sum(errors) / len(errors)), rel=1e-5)
    raw = masked_reconstruction_loss(patches, patches, mask, norm_patches=False)
    assert raw == 0.0, "without normalisation a perfect copy costs nothing"
    with pytest.raises(ValueError, match="no patch is hidden"):
        masked_reconstruction_loss(predicted, patches, torch.zeros(3, 7))
