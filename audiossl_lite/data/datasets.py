"""`load_clips`: one call for embedded sounds and for real audio, with bad files as counted skips."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from audiossl_lite.common.parameters import user_path
from audiossl_lite.common.progress import progress
from audiossl_lite.common.ranges import check_range
from audiossl_lite.data.audio import SAMPLE_RATE_HZ, AudioError, central, read_audio
from audiossl_lite.data.clips import MEMORY_LIMIT_GIB, Clips, Skip
from audiossl_lite.data.layouts import Entry, Listing, find_listing
from audiossl_lite.data.sounds import check_pool, synthetic_clips

DECODING_THREADS = 4


def load_clips(
    data_root: str | Path = "",
    *,
    pool: str = "event",
    clips_per_class: int | None = None,
    max_s: float | None = None,
    seed: int = 0,
) -> Clips:
    """All clips of a data set in memory.

    `data_root` "" or "synthetic" gives embedded sounds; else it names an ESC-50, FSDD or class/clip folder, a
    folder of such data sets, or a CSV manifest. When it has nothing for `pool`, embedded sounds are used and
    `.source` says so. `clips_per_class` keeps that many readable clips of each class of the first task,
    drawn by `seed`; `max_s` keeps the central seconds. Bad files become `.skipped`, never an exception.
    Raises ValueError for an unknown pool, a bad limit, or when no clip is left; FileNotFoundError.
    """
    check_pool(pool)
    check_range("clips_per_class", clips_per_class)
    if max_s is not None and max_s <= 0:
        raise ValueError(f"max_s must be positive, found {max_s}")
    root = str(data_root)
    listing = None if root.strip() in ("", "synthetic") else find_listing(user_path(root), pool)
    if listing is not None:
        return _read(listing, root, clips_per_class, max_s, seed)
    clips = synthetic_clips(pool, clips_per_class=clips_per_class or 20, seed=seed)
    if max_s is not None and round(max_s * SAMPLE_RATE_HZ) < clips.waveforms.shape[1]:
        cropped = torch.stack([central(waveform, max_s) for waveform in clips.waveforms])
        clips = replace(
            clips, waveforms=cropped, lengths=torch.full_like(clips.lengths, cropped.shape[1])
        )
    if root.strip() not in ("", "synthetic"):
        clips = replace(clips, source=f"{clips.source} (the data given has no pool {pool!r})")
    return clips


def _read(
    listing: Listing, root: str, clips_per_class: int | None, max_s: float | None, seed: int
) -> Clips:
    task = listing.tasks[0]
    kept: list[tuple[Entry, Tensor]] = []
    skipped, cut_off = list(listing.skipped), set()
    per_class: dict[str, int] = {}
    with ThreadPoolExecutor(DECODING_THREADS) as threads:
        for wave in _waves(listing.entries, task, clips_per_class, seed, per_class):
            decoded = threads.map(lambda entry: _decode(entry, max_s), wave)
            for entry, result in progress(zip(wave, decoded), "reading audio", total=len(wave)):
                if isinstance(result, Skip):
                    skipped.append(result)
                else:
                    kept.append((entry, result[0]))
                    if result[1]:
                        cut_off.add(entry.name)
                    per_class[entry.labels[task]] = per_class.get(entry.labels[task], 0) + 1
    if not kept:
        reasons = ", ".join(sorted({skip.reason for skip in skipped})) or "no audio file found"
        raise ValueError(
            f"data_root {root}: no clip left ({listing.kind}, {len(skipped)} skipped: {reasons}); "
            "use WAV, FLAC, OGG or MP3 files in an ESC-50, FSDD or class/clip folder, or a CSV manifest"
        )
    _check_memory([(entry.name, len(waveform)) for entry, waveform in kept])
    place = {entry.name: number for number, entry in enumerate(listing.entries)}
    kept.sort(key=lambda pair: place[pair[0].name])
    clips = _assemble(listing, kept, tuple(skipped))
    return replace(clips, cut_off=tuple(name for name in clips.names if name in cut_off))


def _check_memory(lengths: list[tuple[str, int]]) -> None:
    """Raise ValueError when padding every clip to the longest one would need too much memory."""
    name, longest = max(lengths, key=lambda pair: pair[1])
    needed_gib = len(lengths) * longest * 4 / 2**30
    if needed_gib > MEMORY_LIMIT_GIB:
        raise ValueError(
            f"{len(lengths)} clips padded to the longest ({name}, {longest / SAMPLE_RATE_HZ:.0f} s) need "
            f"{needed_gib:.0f} GiB, more than {MEMORY_LIMIT_GIB:g}; pass max_s or clips_per_class"
        )


def _waves(
    entries: Sequence[Entry], task: str, limit: int | None, seed: int, per_class: dict[str, int]
):
    """Entries to decode, wave by wave: all of them, or what each class still lacks, in seeded order."""
    if limit is None:
        yield list(entries)
        return
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(entries), generator=generator).tolist()
    waiting: dict[str, list[Entry]] = {}
    for position in order:
        waiting.setdefault(entries[position].labels[task], []).append(entries[position])
    while True:
        wave = []
        for label in sorted(waiting):
            lacking = limit - per_class.get(label, 0)
            wave += waiting[label][:lacking]
            waiting[label] = waiting[label][lacking:]
        if not wave:
            return
        yield wave


def _decode(entry: Entry, max_s: float | None) -> tuple[Tensor, bool] | Skip:
    """The central seconds of a clip, and whether its file has lost its end."""
    try:
        waveform, cut_off = read_audio(entry.path)
    except AudioError as error:
        return Skip(entry.name, error.reason)
    return central(waveform, max_s), cut_off


def _assemble(
    listing: Listing, kept: list[tuple[Entry, Tensor]], skipped: tuple[Skip, ...]
) -> Clips:
    entries = [entry for entry, _ in kept]
    lengths = torch.tensor([len(waveform) for _, waveform in kept])
    waveforms = torch.zeros(len(kept), int(lengths.max()))
    for row, (_, waveform) in zip(waveforms, kept):
        row[: len(waveform)] = waveform
    names = tuple(entry.name for entry in entries)
    labels, class_names, groups = {}, {}, {}
    for task in listing.tasks:
        labels[task], class_names[task] = _numbered(listing, entries, task)
        # A clip that names no group is a recording of its own.
        keys = [
            ("group", e.groups[task]) if task in e.groups else ("clip", e.name) for e in entries
        ]
        number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        groups[task] = torch.tensor([number_of[key] for key in keys])
    splits = (
        tuple(entry.split or "" for entry in entries) if any(e.split for e in entries) else None
    )
    note = f", {len(skipped)} skipped" if skipped else ""
    first = listing.tasks[0]
    return Clips(
        waveforms=waveforms,
        lengths=lengths,
        labels=labels,
        class_names=class_names,
        groups=groups,
        names=names,
        splits=splits,
        skipped=skipped,
        source=f"{listing.kind}: {len(kept)} clips, {len(class_names[first])} classes ({first}){note}",
    )


def _numbered(
    listing: Listing, entries: Sequence[Entry], task: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels `(n,)` of a task and its classes: in their given order, else sorted, without those that no clip has."""
    names = [entry.labels[task] for entry in entries]
    order = listing.class_order.get(task) or sorted(set(names))
    class_names = tuple(name for name in order if name in names)
    index = {name: number for number, name in enumerate(class_names)}
    return torch.tensor([index[name] for name in names]), class_names
