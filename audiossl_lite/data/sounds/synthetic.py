"""The embedded sounds, so that nothing must be downloaded: pools "event", "voice" and "note", made from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.common.ranges import check_range
from audiossl_lite.data.clips import MEMORY_LIMIT_GIB, Clips
from audiossl_lite.data.sounds.events import EVENTS
from audiossl_lite.data.sounds.notes import FAMILIES, INSTRUMENTS, PITCH_NAMES, play_notes
from audiossl_lite.data.sounds.recording import Recording, record
from audiossl_lite.data.sounds.synthesis import SAMPLE_RATE_HZ, Scene
from audiossl_lite.data.sounds.voices import SPEAKERS, WORDS, say

POOLS = {"event": "event", "voice": "speaker", "note": "instrument"}  # pool: its default task
_EVENT_FAMILIES = tuple(dict.fromkeys(family for family, _, _ in EVENTS.values()))
_MILD = Recording(colour_db=4.0, tilt_db=1.0, snr_db=(12.0, 32.0))


@dataclass(frozen=True)
class ClassDescription:
    """One row of a chapter's table of classes."""

    name: str
    family: str
    text: str


def describe(pool: str = "event") -> tuple[ClassDescription, ...]:
    """Name, family and one line for every class of the pool's default task.

    Raises ValueError for an unknown pool.
    """
    check_pool(pool)
    if pool == "event":
        return tuple(ClassDescription(name, fam, text) for name, (fam, _, text) in EVENTS.items())
    if pool == "voice":
        return tuple(ClassDescription(who.name, "speaker", who.text) for who in SPEAKERS)
    return tuple(ClassDescription(one.name, one.family, one.text) for one in INSTRUMENTS)


def synthetic_clips(
    pool: str = "event", *, clips_per_class: int = 20, seed: int = 0, duration_s: float = 4.0
) -> Clips:
    """Embedded clips (n, S) of one pool, `clips_per_class` for each class of its default task.

    Tasks: "event" and "family"; "speaker" and "word"; "instrument", "family" and "pitch". Clip i of a class
    depends on pool, seed, class, i and duration only, not on how many clips are made.
    Raises ValueError for an unknown pool, fewer than one clip, less than 0.5 s, or more than fits into memory.
    """
    check_pool(pool)
    check_range("clips_per_class", clips_per_class)
    if duration_s < 0.5:
        raise ValueError(f"duration_s must be at least 0.5 s, found {duration_s}")
    rows = describe(pool)
    n_samples = round(duration_s * SAMPLE_RATE_HZ)
    if (needed_gib := len(rows) * clips_per_class * n_samples * 4 / 2**30) > MEMORY_LIMIT_GIB:
        size = f"{clips_per_class} clips of {duration_s:g} s for each of {len(rows)} classes"
        raise ValueError(
            f"{size} need {needed_gib:.0f} GiB, more than {MEMORY_LIMIT_GIB:g}; lower clips_per_class"
        )
    waveforms = torch.zeros(len(rows) * clips_per_class, n_samples)
    second, third, names = [], [], []
    for kind, row in enumerate(rows):
        for take in range(clips_per_class):
            key = np.random.SeedSequence([seed, list(POOLS).index(pool), kind, take])
            scene = Scene(np.random.Generator(np.random.SFC64(key)), duration_s)
            # Words, like pitches, go round in turn, so that every pair occurs equally often.
            if pool == "event":
                EVENTS[row.name][1](scene)
                second.append(_EVENT_FAMILIES.index(row.family))
            elif pool == "voice":
                second.append((take + kind) % len(WORDS))
                say(scene, WORDS[second[-1]], SPEAKERS[kind])
            else:
                second.append(FAMILIES.index(row.family))
                third.append((take + kind) % len(PITCH_NAMES))
                play_notes(scene, INSTRUMENTS[kind], third[-1])
            samples = record(scene, None if pool == "event" else _MILD)
            waveforms[len(names)] = torch.from_numpy(samples)
            names.append(f"{pool}-{row.name}-{take:04d}-s{seed}")
    first = torch.arange(len(rows)).repeat_interleave(clips_per_class)
    labels, class_names, groups = _tasks(pool, first, torch.tensor(second), torch.tensor(third))
    return Clips(
        waveforms=waveforms,
        lengths=torch.full((len(names),), n_samples),
        labels=labels,
        class_names=class_names,
        groups=groups,
        names=tuple(names),
        source=f'embedded sounds, pool "{pool}": {len(names)} clips of {duration_s:g} s,'
        f" {len(rows)} classes ({POOLS[pool]}), seed {seed}",
        sample_rate_hz=SAMPLE_RATE_HZ,
    )


def _tasks(pool: str, first: Tensor, second: Tensor, third: Tensor):
    """Labels, class names and groups of the pool from its two or three columns of indices."""
    kinds = tuple(row.name for row in describe(pool))
    alone = torch.arange(len(first))  # every clip is a recording of its own
    if pool == "event":
        labels = {"event": first, "family": second}
        names = {"event": kinds, "family": _EVENT_FAMILIES}
        return labels, names, {"event": alone, "family": first}
    if pool == "voice":
        labels = {"speaker": first, "word": second}
        return labels, {"speaker": kinds, "word": WORDS}, {"speaker": second, "word": first}
    labels = {"instrument": first, "family": second, "pitch": third}
    names = {"instrument": kinds, "family": FAMILIES, "pitch": PITCH_NAMES}
    return labels, names, {"instrument": third, "family": first, "pitch": first}


def check_pool(pool: str) -> None:
    """Raise ValueError, with those that there are, for an unknown pool."""
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}; use one of {', '.join(map(repr, POOLS))}")
