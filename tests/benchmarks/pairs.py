"""The pairs: each makes its inputs and returns the fast function, the obvious one, and how they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor
from torch.nn.functional import interpolate, pad

from audiossl_lite.evaluation.few_shot import Episodes, draw_episodes, score_episodes
from audiossl_lite.views.augmentations import RandomResizedCrop, resized_crop


@dataclass(frozen=True)
class Pair:
    """Two functions that compute the same thing; `tolerance` is the largest allowed difference."""

    name: str
    fast: Callable[[], Tensor]
    obvious: Callable[[], Tensor]
    tolerance: float

    def difference(self) -> float:
        """The largest absolute difference between the two results."""
        return float((self.fast() - self.obvious()).abs().max())


@dataclass(frozen=True)
class Problem:
    """Features `(n, D)` of twenty classes and the episodes that ask for them."""

    features: Tensor
    episodes: Episodes

    def scored(self) -> Tensor:
        """What the library says."""
        return score_episodes(self.features, self.episodes)


def few_shot_problem(n_episodes: int, n_clips: int, width: int) -> Problem:
    """5-way 5-shot episodes on classes that overlap."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n_clips) % 20
    centres = torch.randn(20, width, generator=generator)
    features = centres[labels] + 5.0 * torch.randn(n_clips, width, generator=generator)
    return Problem(features, draw_episodes(labels, k_shot=5, n_episodes=n_episodes))


# One query in an episode may fall on the other side of a tie: 1 / 75 of an accuracy.
ONE_QUERY = 1 / 75 + 1e-6


def few_shot_pair(n_episodes: int = 600, n_clips: int = 2000, width: int = 768) -> Pair:
    """The library against a loop over scikit-learn's `NearestCentroid`."""
    problem = few_shot_problem(n_episodes, n_clips, width)
    features = problem.features.numpy()

    def loop() -> Tensor:
        accuracies = []
        for support, query in zip(problem.episodes.support, problem.episodes.query):
            n_way, k_shot = support.shape
            way = np.arange(n_way)
            classifier = NearestCentroid()
            classifier.fit(features[support.flatten()], np.repeat(way, k_shot))
            asked = query >= 0
            truth = np.repeat(way, asked.sum(1).numpy())
            accuracies.append(classifier.score(features[query[asked]], truth))
        return torch.tensor(accuracies, dtype=torch.float64)

    name = f"few-shot: {n_episodes} episodes on {n_clips} x {width} features"
    return Pair(name, problem.scored, loop, ONE_QUERY)


def arithmetic_pair(n_episodes: int = 600, n_clips: int = 2000, width: int = 768) -> Pair:
    """The bare matrix arithmetic, on features that somebody has laid out by episode, against the library."""
    problem = few_shot_problem(n_episodes, n_clips, width)
    features, episodes = problem.features, problem.episodes
    shown = features[episodes.support]  # (E, way, shot, D): laid out before the clock runs
    asked = features[episodes.query].flatten(1, 2)  # (E, way * query, D)
    truth = torch.arange(shown.shape[1]).repeat_interleave(episodes.query.shape[2])

    def arithmetic() -> Tensor:
        prototypes = shown.mean(2)
        distance = prototypes.square().sum(2)[:, None] - 2 * asked @ prototypes.transpose(1, 2)
        return (distance.argmin(2) == truth).double().mean(1)

    return Pair(
        "few-shot: the library beside its bare arithmetic", arithmetic, problem.scored, ONE_QUERY
    )


def crop_pair(n_clips: int = 128, n_frames: int = 96, n_bands: int = 64) -> Pair:
    """Batched random resized crop against one bicubic `interpolate` per clip."""
    generator = torch.Generator().manual_seed(0)
    spec = torch.rand(n_clips, n_frames, n_bands, generator=generator)
    window = RandomResizedCrop().draw(n_clips, n_frames, n_bands, generator)

    def one_by_one() -> Tensor:
        cropped = []
        for index, clip in enumerate(spec):
            top, left, bands, frames = (
                int(window[name][index]) for name in ("top", "left", "bands", "frames")
            )
            canvas = pad(clip, (0, n_bands, n_frames, n_frames))
            piece = canvas[n_frames + left : n_frames + left + frames, top : top + bands]
            resized = interpolate(
                piece[None, None], size=(n_frames, n_bands), mode="bicubic", align_corners=True
            )
            cropped.append(resized[0, 0])
        return torch.stack(cropped)

    return Pair(
        f"random resized crop, {n_clips} clips",
        lambda: resized_crop(spec, **window),
        one_by_one,
        1e-3,
    )


PAIRS: tuple[Callable[[], Pair], ...] = (few_shot_pair, arithmetic_pair, crop_pair)
