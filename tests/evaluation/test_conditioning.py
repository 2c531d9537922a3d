"""Conditioned features and the spread over directions, against plain recomputations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiossl_lite.evaluation.conditioning import CONDITIONS, conditioned, share_of_spread
from audiossl_lite.methods.health import directions, effective_rank
from tests.evaluation.toys import noise


def stretched(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    """Correlated dimensions of very different spread around a common offset."""
    return noise(n, dim, seed=seed) @ noise(dim, dim, seed=1) * torch.logspace(-1, 1, dim) + 5


@settings(deadline=None, max_examples=20)
@given(n=st.integers(12, 40), dim=st.integers(2, 10), seed=st.integers(0, 99))
def test_statistics_are_those_of_the_part_that_they_are_fitted_on(n, dim, seed):
    x, fit = stretched(n, dim, seed), stretched(30, dim, seed + 1)
    rows, part = x.double().numpy(), fit.double().numpy()
    mean, deviation = part.mean(0), part.std(0, ddof=1)
    expected = {"raw": rows, "centred": rows - mean, "standardised": (rows - mean) / deviation}
    for how, values in expected.items():
        np.testing.assert_allclose(conditioned(x, how, fit), values, rtol=1e-3, atol=1e-4)
    # whitened: Mahalanobis distances, whatever the axes
    inverse = np.linalg.inv(np.cov(part.T).reshape(dim, dim))
    gaps = rows[:, None] - rows
    distances = np.sqrt(np.einsum("ijd,de,ije->ij", gaps, inverse, gaps).clip(0))
    white = conditioned(x, "whitened", fit).double()
    np.testing.assert_allclose(torch.cdist(white, white), distances, rtol=1e-2, atol=2e-2)


def test_whitened_training_clips_are_uncorrelated_and_lost_directions_are_left_out():
    x = stretched(50, 6)
    white = conditioned(x, "whitened")
    torch.testing.assert_close(torch.cov(white.T), torch.eye(6), atol=1e-3, rtol=0)
    flat = torch.cat([x, x[:, :2] @ noise(2, 3)], 1)  # three dimensions say nothing new
    assert conditioned(flat, "whitened").shape == (50, 6)
    few = conditioned(stretched(5, 8), "whitened")
    gaps = torch.cdist(few, few)[~torch.eye(5, dtype=torch.bool)]
    assert few.shape == (5, 4)
    torch.testing.assert_close(gaps, torch.full((20,), gaps[0].item()), atol=1e-3, rtol=1e-3)


def test_constant_dimensions_stay_finite_and_other_words_are_refused():
    x = torch.ones(4, 3)
    assert torch.equal(conditioned(x, "raw"), x) and "whitened" in CONDITIONS
    assert not conditioned(x, "standardised").any() and not conditioned(x, "centred").any()
    assert conditioned(x, "whitened").shape == (4, 0)
    with pytest.raises(ValueError, match="raw, centred, standardised, whitened, got 'zca'"):
        conditioned(x, "zca")


@settings(deadline=None, max_examples=20)
@given(n=st.integers(3, 40), dim=st.integers(2, 12), seed=st.integers(0, 99))
def test_directions_are_those_of_the_covariance_matrix(n, dim, seed):
    x = stretched(n, dim, seed)
    shares = np.linalg.eigvalsh(np.cov(x.double().numpy().T))[::-1].clip(0)
    shares = shares / shares.sum()
    share, rank = directions(x)
    assert share.item() == pytest.approx(shares[0], rel=1e-3)
    entropy = -sum(p * np.log(p) for p in shares if p > 1e-12)
    assert rank.item() == pytest.approx(np.exp(entropy), rel=1e-2)
    assert torch.equal(rank, effective_rank(x))


def test_a_collapse_has_one_direction_or_none():
    line = noise(20, 1) * noise(1, 8, seed=1)
    assert [v.item() for v in directions(line)] == pytest.approx([1.0, 1.0], abs=1e-4)
    assert [v.item() for v in directions(torch.ones(5, 3))] == [1.0, 0.0]
    broken = torch.tensor([[1.0, torch.inf], [0.0, 1.0]])
    assert all(v.isnan() for v in directions(broken))
    # standardising hides that one dimension held most of the variance
    x = torch.cat([100 * noise(60, 1), noise(60, 5, seed=1)], 1)
    raw, even = (directions(conditioned(x, how))[0] for how in ("centred", "standardised"))
    assert raw > 0.99 and even < 0.5


def test_the_share_of_some_directions_is_that_of_a_covariance():
    x = stretched(40, 6)
    variances = np.linalg.eigvalsh(np.cov(x.double().numpy().T))[::-1]
    for n in (1, 2, 6):
        expected = variances[:n].sum() / variances.sum()
        assert share_of_spread(x, n) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(share_of_spread(torch.ones(5, 3)))
