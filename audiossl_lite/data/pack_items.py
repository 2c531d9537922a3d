"""What is to be packed: the clips of a data root, their sizes before decoding, and the decoding itself."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from audiossl_lite.data.audio import LONGEST_S, SAMPLE_RATE_HZ, AudioError, central, load_audio
from audiossl_lite.data.clips import Skip
from audiossl_lite.data.layouts import find_listing
from audiossl_lite.data.recipes import Recipe, bytes_per_second, encode
from audiossl_lite.data.sounds import POOLS, synthetic_clips
from audiossl_lite.data.store_format import StoreError

ITEMS_PER_JOB = 4
JOBS_AHEAD = 4  # for each worker: enough to keep it busy, not so many that results fill the memory
SAMPLED_FILES = 64


@dataclass(frozen=True)
class Item:
    """One clip to be packed, from a file or (embedded sounds) from memory; `n_bytes` tells a changed file."""

    name: str
    sound: Path | Tensor
    labels: dict[str, str]
    groups: dict[str, str] = field(default_factory=dict)
    split: str | None = None

    @property
    def n_bytes(self) -> int:
        """Size of the file, -1 when there is none."""
        if isinstance(self.sound, Tensor):
            return self.sound.nbytes
        try:
            return self.sound.stat().st_size
        except OSError:
            return -1


@dataclass(frozen=True)
class Material:
    """All clips of a data root in a fixed order, with tasks (default first), classes and early skips."""

    data: str
    tasks: tuple[str, ...]
    items: tuple[Item, ...]
    class_order: dict[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[Skip, ...] = ()


@dataclass(frozen=True)
class Packed:
    """Raw data of one clip, `(S,)` int16 or `(T, F)` float16; `reason` instead when it could not be used."""

    raw: np.ndarray | None = None
    clipped: bool = False
    reason: str = ""


def find_material(data_root: str | Path, pool: str = "event") -> Material:
    """The clips that `load_clips(data_root, pool=pool)` would read; raises as it does."""
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}; use one of {', '.join(map(repr, POOLS))}")
    root = str(data_root).strip()
    listing = None if root in ("", "synthetic") else find_listing(Path(root).expanduser(), pool)
    if listing is not None:
        items = tuple(Item(e.name, e.path, e.labels, e.groups, e.split) for e in listing.entries)
        return Material(listing.kind, listing.tasks, items, listing.class_order, listing.skipped)
    note = "" if root in ("", "synthetic") else f" (the data given has no pool {pool!r})"
    clips = synthetic_clips(pool)
    tasks = tuple(clips.labels)
    items = tuple(
        Item(
            name,
            clips.waveforms[row],
            {task: clips.class_names[task][clips.labels[task][row]] for task in tasks},
            {task: str(int(clips.groups[task][row])) for task in tasks},
        )
        for row, name in enumerate(clips.names)
    )
    return Material(f'embedded sounds, pool "{pool}"{note}', tasks, items, clips.class_names)


def estimate_bytes(items: Sequence[Item], recipe: Recipe) -> int:
    """About how much disk the clips will need, from the headers of some of them, evenly spaced."""
    seconds = []
    for item in items[:: max(len(items) // SAMPLED_FILES, 1)]:
        if isinstance(item.sound, Tensor):
            seconds.append(len(item.sound) / SAMPLE_RATE_HZ)
        elif item.sound.is_file():
            try:
                length = soundfile.info(item.sound).duration
                seconds += [length] if length <= LONGEST_S else []  # unknown, wrong, or too long
            except (soundfile.SoundFileError, OSError, RuntimeError, ValueError):
                continue  # it will be skipped
    if not seconds:
        return 0
    longest = recipe["max_s"] or max(seconds)
    mean_s = sum(min(length, longest) for length in seconds) / len(seconds)
    return round(len(items) * mean_s * bytes_per_second(recipe))


def pack_sound(sound: Path | Tensor, recipe: Recipe) -> Packed:
    """Decode, cut and encode one clip; what is wrong with a file becomes a reason, never an exception."""
    try:
        waveform = load_audio(sound) if isinstance(sound, Path) else sound
        raw, clipped = encode(central(waveform, recipe["max_s"]), recipe)
    except AudioError as error:
        return Packed(reason=error.reason)
    except (ValueError, RuntimeError, OSError) as error:
        return Packed(reason=f"cannot be packed: {str(error).splitlines()[0]}")
    return Packed(raw.numpy(), clipped)


def _pack_job(sounds: list[Path | Tensor], recipe: Recipe) -> list[Packed]:
    return [pack_sound(sound, recipe) for sound in sounds]


def _start_worker() -> None:
    """One thread for each process, and an end when the packer is killed: it cannot say so itself."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def pack_sounds(items: Sequence[Item], recipe: Recipe, workers: int) -> Iterator[Packed]:
    """The packed clips in order, decoded by so many processes (0: in this one).

    Raises StoreError when a process dies.
    """
    if workers < 1 or len(items) <= ITEMS_PER_JOB:
        for item in items:
            yield pack_sound(item.sound, recipe)
        return
    # A fresh interpreter for each: a fork would inherit the threads' locks and the packer's lock file.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    waiting: deque[Future[list[Packed]]] = deque()
    try:
        for first in range(0, len(items), ITEMS_PER_JOB):
            sounds = [item.sound for item in items[first : first + ITEMS_PER_JOB]]
            waiting.append(pool.submit(_pack_job, sounds, recipe))
            if len(waiting) >= JOBS_AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise StoreError(
            "a decoding process died (out of memory, or killed); start again with fewer --workers, "
            "whole parts are kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
