"""Mean and 95 % interval of accuracies over seeds or episodes, and what a difference allows to say."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

Scores = dict[str, dict[str, np.ndarray]]  # by features and column


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of the 95 % interval of `values (seeds, episodes)` or `(seeds,)`.

    With two seeds or more: Student's t over the means of the seeds, all scored on the same episodes. With one seed:
    1.96 population std / sqrt(episodes), which says nothing about another seed; for one value alone it is NaN. A
    difference of two features on the same episodes goes in as one array. Raises ValueError for an empty array.

    Where: Ericsson et al. 2021; chapter 09
    """
    values = np.asarray(values, dtype=float)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"values are (seeds, episodes) or (seeds,), got shape {values.shape}")
    if values.ndim == 1:
        values = values[:, None]
    n_seeds, n_episodes = values.shape
    mean = float(values.mean())
    if n_seeds > 1:
        spread = values.mean(1).std(ddof=1) / math.sqrt(n_seeds)
        return mean, float(stats.t.ppf(0.975, n_seeds - 1) * spread)
    if n_episodes == 1:
        return mean, math.nan
    return mean, float(1.96 * values.std() / math.sqrt(n_episodes))


def difference(scores: Scores, a: str, b: str, column: str) -> np.ndarray:
    """Features a minus features b on the same episodes; a baseline without seeds stands against every seed."""
    return np.asarray(scores[a][column]) - np.asarray(scores[b][column])


def verdict(gap: float, half_width: float) -> str:
    """What an interval allows to say of a difference, both to the tenth that `as_text` prints."""
    gap, half_width = round(gap, 1), round(half_width, 1)
    if not abs(gap) > half_width:  # also when there is no interval
        return "unclear"
    return "better" if gap > 0 else "worse"


def judged(values: np.ndarray) -> str:
    """A paired difference (seeds, episodes) as text, with what its interval allows to say: `+1.2 ± 0.4: better`.

    Without an interval there is a number and no word.
    """
    gap, half_width = mean_interval(values)
    text = as_text(gap, half_width, signed=True)
    return f"{text}: {verdict(gap, half_width)}" if math.isfinite(half_width) else text


def as_text(mean: float, half_width: float, *, signed: bool = False) -> str:
    """`52.1 ± 0.9`, or the mean alone where there is no interval."""
    mean = round(mean, 1) + 0.0  # no minus zero
    text = f"{mean:+.1f}" if signed else f"{mean:.1f}"
    return text if math.isnan(half_width) else f"{text} ± {half_width:.1f}"
