"""Pin: the two sides of every benchmark compute the same thing, so that their ratio means something."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.benchmarks.pairs import Pair, arithmetic_pair, crop_pair, few_shot_pair


@pytest.mark.parametrize(
    "make",
    [
        lambda: few_shot_pair(n_episodes=20, n_clips=600, width=32),
        lambda: arithmetic_pair(n_episodes=20, n_clips=600, width=32),
        lambda: crop_pair(n_clips=6),
    ],
    ids=["few-shot", "few-shot arithmetic", "crop"],
)
def test_both_sides_agree(make: Callable[[], Pair]) -> None:
    pair = make()
    assert pair.fast().shape == pair.obvious().shape
    assert pair.difference() <= pair.tolerance


def test_the_few_shot_problem_is_neither_chance_nor_solved() -> None:
    accuracy = float(few_shot_pair(n_episodes=50).fast().mean())
    assert 0.35 < accuracy < 0.95
