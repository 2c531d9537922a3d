"""Signs of collapse, at values that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from audiossl_lite.methods.health import effective_rank, spread_and_rank


def normal(b: int, d: int) -> torch.Tensor:
    return torch.randn(b, d, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_equal_directions_count_one_each(rank):
    """Plus and minus each of `rank` orthogonal directions: centred, equal variances."""
    directions = torch.linalg.qr(normal(16, rank)).Q.T  # (rank, 16)
    x = torch.cat([directions, -directions]) + 3.0
    assert effective_rank(x).item() == pytest.approx(rank, rel=1e-3)


def test_unequal_directions_count_by_entropy():
    x = torch.diag(torch.tensor([3.0, 1.0]))
    x = torch.cat([x, -x])
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert effective_rank(x).item() == pytest.approx(math.exp(entropy), rel=1e-4)


def test_collapse_has_no_spread_and_no_rank():
    same = normal(1, 32).expand(20, -1)
    spread, rank = spread_and_rank(same)
    assert spread.item() == pytest.approx(0, abs=1e-6)
    assert rank.item() == 0
    spread, rank = spread_and_rank(torch.zeros(20, 32))
    assert (spread.item(), rank.item()) == (0, 0)


def test_vectors_all_over_the_sphere_spread_by_one_over_the_root_of_the_width():
    spread, rank = spread_and_rank(1000 * normal(4000, 256))
    assert spread.item() == pytest.approx(1 / math.sqrt(256), rel=0.02)
    assert 200 < rank <= 256


def test_the_rank_stays_below_the_number_of_rows():
    assert effective_rank(normal(5, 64)) <= 4.001


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_give_nan(value):
    x = normal(6, 4)
    x[2, 1] = value
    assert effective_rank(x).isnan()
    assert not torch.isfinite(spread_and_rank(x)[0])
