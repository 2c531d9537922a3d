"""Accuracy and average precision against definition and scikit-learn, with ties and with classes that nobody has."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score

from audiossl_lite.evaluation.metrics import (
    accuracy,
    average_precision,
    classes_without_positives,
    mean_average_precision,
    score,
)


def drawn(n: int, k: int, seed: int, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with `levels` different values, so with many ties, and random targets."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (n, k), generator=generator).float() - levels / 2
    return scores, (torch.rand(n, k, generator=generator) < 0.3).float()


def by_definition(targets: torch.Tensor, scores: torch.Tensor) -> float:
    """The precision at every threshold, times the share of the positive clips that enter there."""
    total = 0.0
    for threshold in scores.unique().tolist():
        shown = scores >= threshold
        precision = targets[shown].double().mean()
        total += float(targets[scores == threshold].double().sum() / targets.sum() * precision)
    return total


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 40), k=st.integers(1, 6), seed=st.integers(0, 999), levels=st.integers(1, 50)
)
def test_average_precision_equals_its_definition(n, k, seed, levels):
    scores, targets = drawn(n, k, seed, levels)
    ours = average_precision(scores, targets).numpy()
    for c in range(k):
        if targets[:, c].sum() == 0:
            assert math.isnan(ours[c])
        else:
            theirs = by_definition(targets[:, c], scores[:, c])
            assert ours[c] == pytest.approx(theirs, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(4, 30), k=st.integers(2, 5), seed=st.integers(0, 999))
def test_the_macro_mean_equals_scikit_learn(n, k, seed):
    scores, targets = drawn(n, k, seed, 1000)
    targets[0] = 1.0  # every class has a clip
    theirs = average_precision_score(targets.numpy(), scores.numpy(), average="macro")
    assert float(mean_average_precision(scores, targets)) == pytest.approx(theirs, abs=1e-12)
    squashed = mean_average_precision((scores.double() / 100).sigmoid(), targets)
    assert float(squashed) == pytest.approx(theirs, abs=1e-12), "only the order counts"


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), k=st.integers(2, 6), seed=st.integers(0, 999))
def test_accuracy_equals_scikit_learn(n, k, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, k, generator=generator)
    labels = torch.randint(k, (n,), generator=generator)
    theirs = accuracy_score(labels.numpy(), scores.argmax(1).numpy())
    assert float(accuracy(scores, labels)) == pytest.approx(theirs, abs=1e-12)


def test_many_score_sets_at_once_equal_one_by_one():
    scores = torch.stack([drawn(20, 4, seed, 7)[0] for seed in range(3)])
    targets = drawn(20, 4, 0, 7)[1]
    labels = targets.argmax(1)
    for together, truth in ((mean_average_precision, targets), (accuracy, labels)):
        alone = torch.stack([together(one, truth) for one in scores])
        torch.testing.assert_close(together(scores, truth), alone, atol=0, rtol=0)


def test_a_class_without_positives_is_left_out_of_the_mean_and_named():
    scores, targets = drawn(20, 4, 1, 1000)
    targets[0], targets[:, 2] = 1.0, 0.0
    kept = [0, 1, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.mean([average_precision_score(targets[:, c], scores[:, c]) for c in kept])
    assert float(mean_average_precision(scores, targets)) == pytest.approx(theirs, abs=1e-12)
    assert classes_without_positives(targets, ("cat", "dog", "rain", "wind")) == ("rain",)
    assert classes_without_positives(targets) == ("2",)
    with pytest.raises(ValueError, match="no class has a positive clip"):
        mean_average_precision(scores, torch.zeros_like(targets))


def test_equal_scores_give_the_share_of_positives():
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    expected = torch.tensor([0.25, 0.75], dtype=torch.float64)
    torch.testing.assert_close(average_precision(torch.zeros(4, 2), targets), expected)


def test_the_targets_tell_which_metric_is_meant():
    scores, targets = drawn(12, 3, 2, 100)
    targets[0] = 1.0
    assert torch.equal(score(scores, targets), mean_average_precision(scores, targets))
    labels = targets.argmax(1)
    assert torch.equal(score(scores, labels), accuracy(scores, labels))


def test_bad_input_is_refused_with_a_reason():
    scores, targets = drawn(6, 3, 0, 10)
    broken = scores.clone()
    broken[4, 1] = torch.nan
    with pytest.raises(ValueError, match=r"clips \[4\] are not finite"):
        accuracy(broken, targets.argmax(1))
    with pytest.raises(ValueError, match=r"clips \[4\] are not finite"):
        average_precision(torch.stack([scores, broken]), targets)
    with pytest.raises(ValueError, match="one label per clip"):
        accuracy(scores, torch.zeros(5))
    with pytest.raises(ValueError, match=r"need targets .* got \(6, 2\)"):
        average_precision(scores, targets[:, :2])
    with pytest.raises(ValueError, match="0 or 1"):
        average_precision(scores, targets * 0.5)
    with pytest.raises(ValueError, match=r"\(clips, classes\), got \(0, 3\)"):
        accuracy(torch.zeros(0, 3), torch.zeros(0))
