"""The decoded corpus: clips of many data sets in one packed store, and what a device holds of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from audiossl_lite.common.parameters import user_path
from audiossl_lite.data.audio import SAMPLE_RATE_HZ
from audiossl_lite.data.clips import Clips
from audiossl_lite.data.corpus import Sound, tasks
from audiossl_lite.data.pack_items import Item
from audiossl_lite.data.packing import pack_items
from audiossl_lite.data.recipes import make_recipe
from audiossl_lite.data.resident import Joined, digest_of
from audiossl_lite.data.store import PackedStore
from audiossl_lite.data.store_format import HEADER, VERSION, StoreError, read_header

# Stored at half their level: decoders overshoot 1.0, and nothing is clipped. Longer files become several clips of the
# same group.
RECIPE = {"name": "corpus", "gain": 0.5, "piece_s": 10.0}
# Files of a decoded corpus, with the scores that a study keeps there.
OWN = re.compile(rf"{re.escape(HEADER)}|part-\d{{5,}}\.(bin|json)|scores\.pt")


@dataclass(frozen=True)
class Corpus:
    """Decoded clips: `sounds`, the `store` that holds their samples, and where each sounds.

    `spans (n, 2)`: first and last sample that `sounding_span` gives. `key`: see `listing_key`.
    """

    sounds: tuple[Sound, ...]
    store: PackedStore
    spans: Tensor

    @property
    def key(self) -> str:
        """What the corpus was decoded from."""
        return self.store.data

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Name and reason of every file that could not be used."""
        return tuple((skip.name, skip.reason) for skip in self.store.skipped)

    @property
    def lengths(self) -> Tensor:
        """Samples of each clip, `(n,)`."""
        return self.store.lengths

    @property
    def hours(self) -> float:
        """Hours of sound."""
        return int(self.lengths.sum()) / SAMPLE_RATE_HZ / 3600.0


def waveforms_of(
    corpus: Corpus,
    device: torch.device,
    indices: Tensor | None = None,
    *,
    at_least_s: float | None = None,
) -> Joined:
    """The clips with these `indices` (default: all) as waveforms on a device.

    With `at_least_s` only the part of each clip that holds sound, but no less than that many seconds where the clip
    has them. Raises StoreError when the samples are not what was decoded, or do not fit into the device.
    """
    index = torch.arange(len(corpus.sounds)) if indices is None else indices
    data, starts = corpus.store.raw_on(device)
    lengths, starts = corpus.lengths[index], starts[index]
    if at_least_s is not None:
        first, last = corpus.spans[index].T
        needed = torch.minimum(lengths, torch.tensor(round(at_least_s * SAMPLE_RATE_HZ)))
        size = torch.maximum(last - first, needed)
        first = torch.minimum((first - (size - (last - first)) // 2).clamp_min(0), lengths - size)
        starts, lengths = starts + first, size
    return Joined(
        data, starts, lengths, size=int(lengths.max()), scale=corpus.store.scale,
        digest=digest_of(corpus.store.digest(), starts.tolist(), lengths.tolist()),
    )  # fmt: skip


def clips_of_tasks(corpus: Corpus) -> list[Clips]:
    """The labelled clips of each task of the corpus, in memory; the task has the name that scores have."""
    sets = []
    for task in tasks(list(corpus.sounds)):
        joined = waveforms_of(corpus, torch.device("cpu"), task.clips)
        waveforms, lengths = joined.batch(torch.arange(len(joined)))
        names = tuple(corpus.sounds[i].name for i in task.clips.tolist())
        sets.append(
            Clips(
                waveforms, lengths, {task.name: task.labels}, {task.name: task.class_names},
                {task.name: task.groups}, names, source=f"{task.name} of {task.source}", held=task.never,
            )
        )  # fmt: skip
    return sets


def write_corpus(
    folder: Path,
    sounds: Sequence[Sound],
    *,
    key: str,
    read: Callable[[Sound], Tensor] | None = None,
) -> Corpus:
    """Decode the sounds in parallel into `folder`, in place of what has another key, as `read_corpus` returns them.

    `read(sound)` gives `(S,)` float32 at 16 kHz, by default from the sound's file; a file that raises AudioError is
    named and left out. Started again after an interruption it goes on. Raises ValueError when no sound is left, and
    StoreError when anything but a decoded corpus lies in the folder: nothing else is ever deleted.
    """
    items = [
        Item(
            f"{sound.source}/{sound.name}",
            Path(sound.path) if read is None else partial(read, sound),
            {"source": sound.source, "name": sound.name, "values": sound.values},
        )
        for sound in sounds
    ]
    _make_way(folder, key)
    pack_items(items, folder, make_recipe("waveform") | RECIPE, data=key)
    return read_corpus(folder)


def _make_way(folder: Path, key: str) -> None:
    """Delete a decoded corpus of another key, file by file; StoreError where anything else lies there."""
    there = [p for p in folder.iterdir() if p.name[0] != "."] if folder.exists() else []
    header = read_header(folder) if folder / HEADER in there else {"made": {"name": ""}}
    is_corpus = header["made"]["name"] == RECIPE["name"]
    if not there or (is_corpus and header["data"] == key):
        return
    if foreign := sorted(p.name for p in there if not (is_corpus and OWN.fullmatch(p.name))):
        raise StoreError(
            f"{folder}: {foreign[0]} is no part of a decoded corpus, and nothing of yours is deleted; choose another "
            "folder for the results"
        )
    for path in sorted(there, key=lambda p: p.name == HEADER):  # an interruption leaves a corpus
        path.unlink()


def read_corpus(folder: Path, key: str | None = None) -> Corpus | None:
    """What `write_corpus` left in a folder; None where nothing whole is, or a store of another kind or key.

    Raises StoreError for a damaged store.
    """
    if not (folder / HEADER).is_file():
        return None
    header = read_header(folder)
    if header["made"]["name"] != RECIPE["name"]:  # a store of another kind
        return None
    if header["parts"] is None or key not in (None, header["data"]):
        return None
    store = PackedStore(folder)
    n_pieces, number = Counter(store.manifest["names"]), Counter()
    sounds = []
    for name, values in zip(store.manifest["names"], store.manifest["about"]):
        whole = Sound(**values)
        own = f"{whole.name}#{number[name]}" if n_pieces[name] > 1 else whole.name
        number[name] += 1
        sounds.append(Sound(whole.source, own, {**whole.values, "group": whole.value("group")}))
    return Corpus(tuple(sounds), store, torch.tensor(store.manifest["spans"]))


def decoded_in(folder: str | Path) -> Corpus | None:
    """The corpus of a study's folder (`workshop --out`), None for any other folder; StoreError for a damaged one."""
    return read_corpus(user_path(folder) / "sounds") if folder else None


def listing_key(sounds: Sequence[Sound]) -> str:
    """Twelve hex digits that change with names, columns and what the files hold, and not with where they lie."""
    digest = hashlib.sha256(f"{VERSION}".encode())
    for sound in sounds:
        content = None
        if sound.path and os.path.isfile(sound.path):
            with contextlib.suppress(OSError), open(sound.path, "rb") as file:
                content = hashlib.file_digest(file, "blake2b").hexdigest()
        digest.update(
            repr((sound.source, sound.name, sorted(sound.values.items()), content)).encode()
        )
    return digest.hexdigest()[:12]
