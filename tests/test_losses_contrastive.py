"""Eq. 1 and Eq. 4 of uaMix-MAE against loops over their sums, and the sign that Eq. 4 prints."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from audiossl_lite.losses import info_nce, mixture_loss, nnclr_loss
from audiossl_lite.mixing import t_cutmix, virtual_labels

shapes = {"b": st.integers(1, 7), "d": st.integers(1, 9), "seed": st.integers(0, 2**31 - 2)}
temperatures = st.sampled_from([0.1, 0.15, 0.5, 2.0])


def pair(b: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, b, d, generator=generator, dtype=torch.float64)
    return 4 * first, 0.3 * second  # lengths that must not matter


def soft_labels(b: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, b, generator=generator, dtype=torch.float64).softmax(1)


def contrastive(neighbours, predictions, i: int, target: int, temperature: float) -> float:
    """Eq. 1 by hand: the neighbour of clip i, the prediction of clip `target`, and all of the batch below."""

    def similarity(j: int) -> float:
        a, b = neighbours[i].tolist(), predictions[j].tolist()
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)) / temperature

    total = sum(math.exp(similarity(j)) for j in range(len(predictions)))
    return -math.log(math.exp(similarity(target)) / total)


@settings(max_examples=60, deadline=None)
@given(**shapes, temperature=temperatures)
def test_nnclr_is_equation_1_averaged_over_the_batch(b, d, seed, temperature):
    neighbours, predictions = pair(b, d, seed)
    expected = sum(contrastive(neighbours, predictions, i, i, temperature) for i in range(b)) / b
    loss = nnclr_loss(neighbours, predictions, temperature)
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    assert loss.item() >= 0


@settings(max_examples=60, deadline=None)
@given(**shapes, temperature=temperatures)
def test_the_mixture_loss_is_equation_4_without_its_printed_minus(b, d, seed, temperature):
    neighbours, predictions = pair(b, d, seed)
    labels = soft_labels(b, seed + 1)
    total = 0.0
    for i in range(b):
        for target in range(b):
            total += labels[i, target].item() * contrastive(
                neighbours, predictions, i, target, temperature
            )
    loss = mixture_loss(neighbours, predictions, labels, temperature)
    assert loss.item() == pytest.approx(total / b, abs=1e-9)
    # L_CL is -log of a probability already: the minus in front would make the loss at most 0
    assert loss.item() >= 0


def test_the_printed_sign_would_reward_the_wrong_clip():
    """A step down the printed loss moves the predictions away from the clips they belong to."""
    neighbours, predictions = pair(6, 8, 3)
    labels = torch.eye(6, dtype=torch.float64)
    predictions.requires_grad_()
    printed = -mixture_loss(neighbours, predictions, labels)
    (gradient,) = torch.autograd.grad(printed, predictions)
    with torch.no_grad():
        moved = predictions - 0.01 * gradient
        before = F.cosine_similarity(neighbours, predictions).mean()
        assert F.cosine_similarity(neighbours, moved).mean() < before
        assert nnclr_loss(neighbours, moved) > nnclr_loss(neighbours, predictions)


@settings(max_examples=60, deadline=None)
@given(**shapes, temperature=temperatures, lam=st.floats(0, 1))
def test_two_weighted_terms_equal_the_soft_labels(b, d, seed, temperature, lam):
    """lam CE(own clip) + (1 - lam) CE(partner), the form of Un-Mix, is Eq. 4 with the labels of Eq. 3."""
    neighbours, predictions = pair(b, d, seed)
    mixture = t_cutmix(torch.zeros(b, 40, 2), lam=lam, start=0)
    logits = F.normalize(neighbours) @ F.normalize(predictions).T / temperature
    own, partner = torch.arange(b), torch.arange(b - 1, -1, -1)
    weight = mixture.weight[0].double()
    two = weight * F.cross_entropy(logits, own) + (1 - weight) * F.cross_entropy(logits, partner)
    loss = mixture_loss(neighbours, predictions, virtual_labels(mixture).double(), temperature)
    assert loss.item() == pytest.approx(two.item(), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(**shapes, temperature=temperatures)
def test_unit_labels_give_nnclr(b, d, seed, temperature):
    neighbours, predictions = pair(b, d, seed)
    labels = torch.eye(b, dtype=torch.float64)
    torch.testing.assert_close(
        mixture_loss(neighbours, predictions, labels, temperature),
        nnclr_loss(neighbours, predictions, temperature),
    )


@settings(max_examples=30, deadline=None)
@given(**shapes, temperature=temperatures)
def test_info_nce_is_nnclr_where_every_clip_is_its_own_neighbour(b, d, seed, temperature):
    first, second = pair(b, d, seed)
    both = 0.5 * (nnclr_loss(first, second, temperature) + nnclr_loss(second, first, temperature))
    torch.testing.assert_close(info_nce(first, second, temperature), both)


def test_the_landmarks():
    basis = torch.eye(8)
    assert nnclr_loss(basis, basis, 0.05).item() == pytest.approx(0.0, abs=1e-6)
    assert nnclr_loss(torch.ones(8, 3), torch.ones(8, 3)).item() == pytest.approx(math.log(8))
    # a perfect answer to a soft question still costs the entropy of its labels
    labels = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    loss = mixture_loss(torch.ones(2, 3), torch.ones(2, 3), labels)
    assert loss.item() == pytest.approx(math.log(2))


def test_the_default_temperature_is_the_papers():
    neighbours, predictions = pair(5, 4, 0)
    labels = soft_labels(5, 1)
    assert nnclr_loss(neighbours, predictions) == nnclr_loss(neighbours, predictions, 0.15)
    assert mixture_loss(neighbours, predictions, labels) == mixture_loss(
        neighbours, predictions, labels, 0.15
    )


def test_negatives_are_the_predictions_of_the_batch():
    """The softmax runs over predictions: a change of one prediction moves the loss of every clip."""
    neighbours, predictions = pair(4, 6, 1)
    predictions.requires_grad_()
    logits = F.normalize(neighbours) @ F.normalize(predictions).T / 0.15
    only_first = F.cross_entropy(logits[:1], torch.tensor([0]))
    (gradient,) = torch.autograd.grad(only_first, predictions, retain_graph=True)
    assert (gradient.norm(dim=1) > 0).all()
    mean = torch.stack([F.cross_entropy(logits[i : i + 1], torch.tensor([i])) for i in range(4)])
    torch.testing.assert_close(nnclr_loss(neighbours, predictions), mean.mean())


@pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
def test_a_temperature_not_above_zero_is_refused(temperature):
    for loss, more in ((info_nce, ()), (nnclr_loss, ()), (mixture_loss, (soft_labels(3, 0),))):
        with pytest.raises(ValueError, match="temperature must be positive"):
            loss(*pair(3, 4, 0), *more, temperature)


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(2, 4\)"):
        nnclr_loss(torch.ones(3, 4), torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"labels are \(batch, batch\) \(3, 3\), got \(3, 2\)"):
        mixture_loss(torch.ones(3, 4), torch.ones(3, 4), torch.ones(3, 2))
    with pytest.raises(ValueError, match="labels are"):
        mixture_loss(torch.ones(3, 4), torch.ones(3, 4), torch.arange(3))
