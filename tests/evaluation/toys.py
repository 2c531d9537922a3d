"""Small tasks whose answers are known: clouds of features, and spectrograms whose class is a place in time."""

from __future__ import annotations

import torch

from audiossl_lite.data.clips import Clips
from audiossl_lite.evaluation import Labelled
from audiossl_lite.experiments.settings.presets import preset

# Linear evaluation of a few seconds.
QUICK_LINEAR = preset(
    "linear", "lite",
    {"epochs": 12, "batch_size": 16, "learning_rates": (0.1, 1.0), "evaluate_every": 1,
     "refit": False},
)  # fmt: skip


def seeded(maker, seed: int = 0):
    """What the maker makes from the seed, the global state left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return maker()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def names(k: int) -> tuple[str, ...]:
    return tuple(["cat", "dog", "rain", "wind", "horn", "bell", "door", "siren"][:k])


def clouds(n_per_class: int = 12, k: int = 4, dim: int = 8, *, spread: float = 0.3, seed: int = 0):
    """Well separated classes in `dim` dimensions; the class centres are the same for every seed."""
    centres = 3.0 * torch.randn(k, dim, generator=torch.Generator().manual_seed(99))
    targets = torch.arange(k).repeat_interleave(n_per_class)
    noise = torch.randn(len(targets), dim, generator=torch.Generator().manual_seed(seed))
    return Labelled(centres[targets] + spread * noise, targets, names(k))


def silent_clips(labels, class_names, groups) -> Clips:
    """Clips of zeros with these labels, classes and groups by task."""
    n_clips = len(next(iter(labels.values())))
    names = tuple(f"clip {i}" for i in range(n_clips))
    lengths = torch.full((n_clips,), 10)
    return Clips(torch.zeros(n_clips, 10), lengths, labels, class_names, groups, names)


def several(n: int = 60, k: int = 4, dim: int = 8, seed: int = 0) -> Labelled:
    """A multi-label task: class c is present where dimension c is positive."""
    inputs = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return Labelled(inputs, (inputs[:, :k] > 0.3).float(), names(k))


def spectrograms(n: int = 32, *, n_mels: int = 64, frames: int = 48, seed: int = 0) -> Labelled:
    """Noise with a bump in one of four bands: rising in two classes, falling in the others."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 4
    spec = 0.5 * torch.randn(n, frames, n_mels, generator=generator)
    ramp = torch.linspace(0, 1, frames)
    for i, c in enumerate(targets.tolist()):
        low = n_mels // 4 if c < 2 else n_mels // 2
        spec[i, :, low : low + 12] += 1.5 * (ramp if c % 2 else ramp.flip(0))[:, None]
    return Labelled(spec, targets, names(4), lengths=torch.full((n,), frames))
