"""Packing a data root into a store: in parallel, part by part, resumable, appendable, by one packer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from audiossl_lite.data.pack_items import (
    Item,
    Material,
    Packed,
    estimate_bytes,
    find_material,
    pack_sounds,
)
from audiossl_lite.data.recipes import Recipe, make_recipe
from audiossl_lite.data.store import PackedStore
from audiossl_lite.data.store_format import (
    FORMAT,
    HEADER,
    PART_KEYS,
    VERSION,
    StoreError,
    aside_path,
    describe_part,
    move_into_place,
    part_numbers,
    part_path,
    read_header,
    read_json,
    to_json,
    write_whole,
)
from audiossl_lite.progress import progress_bar

LOCK = ".lock"
SPARE_BYTES = 1 << 24
SETTINGS = ("kind", "made", "pool", "tasks", "class_order")


def pack(
    data_root: str | Path,
    folder: str | Path,
    *,
    kind: str = "waveform",
    pool: str = "event",
    workers: int | None = None,
    max_s: float | None = None,
    clips_per_part: int = 4096,
    say: Callable[[str], None] | None = None,
) -> PackedStore:
    """Pack the clips that `load_clips` would read into a store, or add those that the store lacks.

    After an interruption the same call makes the missing parts; with more files in the data root it adds parts
    with the new ones. A clip is known by its name below the data root. `kind`: see `make_recipe`; `workers`:
    decoding processes, by default one for each core; `say` takes a line about size and space before the work begins.
    Raises StoreError when another packer is at work, when the settings differ from those of the store, when a
    packed file has changed, and when the disk is too small; ValueError when no clip is left.
    """
    if clips_per_part < 1:
        raise ValueError(f"clips_per_part must be 1 or more, found {clips_per_part}")
    folder = Path(folder)
    made = make_recipe(kind, max_s)
    material = find_material(data_root, pool)
    if not material.items:
        reasons = ", ".join(sorted({skip.reason for skip in material.skipped}))
        raise ValueError(
            f"data_root {data_root}: no clip found ({material.data}; {reasons or 'no audio file'})"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with writer_lock(folder):
        header = _agree(folder, made, pool, material)
        for leftover in folder.glob(".*.aside"):
            leftover.unlink()
        items = _missing(folder, material)
        _check_space(folder, items, made, say)
        if items:
            n_workers = _n_cores() if workers is None else workers
            _make_parts(folder, items, made, header["tasks"], n_workers, clips_per_part)
        header["skipped"] = [[skip.name, skip.reason] for skip in material.skipped]
        header["parts"] = [describe_part(folder, number) for number in part_numbers(folder)]
        write_whole(folder / HEADER, to_json(header))
    store = PackedStore(folder)
    if not len(store):
        skipped = store.known.skipped
        reasons = ", ".join(sorted({skip.reason for skip in skipped}))
        raise ValueError(f"{folder}: no clip left, {len(skipped)} skipped: {reasons}")
    return store


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the right to write into a folder; the system takes it back when the process ends, however it ends.

    Raises StoreError when another process holds it.
    """
    with open(folder / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown process"
            raise StoreError(
                f"{folder}: another packer is at work here ({holder}); wait for it or use another folder"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def _n_cores() -> int:
    """Cores that this process may use; not every system can say which."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _agree(folder: Path, made: Recipe, pool: str, material: Material) -> dict[str, Any]:
    """The header of the store, written first when the folder is new; refuses other settings by name."""
    header: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": "spectrogram" if made["frontend"] else "waveform",
        "made": made,
        "pool": pool,
        "tasks": list(material.tasks),
        "class_order": {task: list(names) for task, names in material.class_order.items()},
        "data": material.data,
        "skipped": [],
        "parts": None,
    }
    if not (folder / HEADER).exists():
        foreign = sorted(p.name for p in folder.iterdir() if p.name[0] != ".")
        if foreign:
            raise StoreError(f"{folder}: not empty (it holds {foreign[0]}); name a new folder")
        write_whole(folder / HEADER, to_json(header))
        return header
    there = read_header(folder)
    for name in SETTINGS:
        if there[name] == header[name]:
            continue
        before, now = there[name], header[name]
        if name == "made":  # say which constant, not all of them
            key = next(k for k in before | now if before.get(k) != now.get(k))
            name, before, now = key, before.get(key), now.get(key)
        raise StoreError(
            f"{folder}: packed with {name} {before!r}, asked for {now!r}; "
            "use the same settings or another folder"
        )
    return there


def _missing(folder: Path, material: Material) -> list[Item]:
    """Items that no whole part holds; raises StoreError when a packed file has changed since."""
    packed: dict[str, int] = {}
    skipped: dict[str, int] = {}
    for number in part_numbers(folder):
        describe_part(folder, number)  # the data must be there too
        manifest = read_json(part_path(folder, number, ".json"), PART_KEYS)
        packed |= dict(zip(manifest["names"], manifest["file_bytes"]))
        skipped |= {name: size for name, _, size in manifest["skipped"]}
    missing = []
    for item in material.items:
        if item.name in packed:
            if item.n_bytes != packed[item.name]:
                raise StoreError(
                    f"{folder}: {item.name} has {item.n_bytes} bytes, it had {packed[item.name]} when it was "
                    "packed; pack the changed data into another folder"
                )
        elif item.name not in skipped or item.n_bytes != skipped[item.name]:
            missing.append(item)  # a skipped file gets another chance once it has changed
    return missing


def _check_space(
    folder: Path, items: list[Item], made: Recipe, say: Callable[[str], None] | None
) -> None:
    needed, free = estimate_bytes(items, made), shutil.disk_usage(folder).free
    line = f"{len(items)} clips to pack, about {_size(needed)}; {_size(free)} free in {folder}"
    if needed + SPARE_BYTES > free:
        raise StoreError(f"{line}: not enough; free some, or name a folder on another disk")
    if say is not None:
        say(line)


def _size(n_bytes: int) -> str:
    unit = next((u for u, s in (("GB", 1e9), ("MB", 1e6)) if n_bytes >= s), "kB")
    return f"{n_bytes / {'GB': 1e9, 'MB': 1e6, 'kB': 1e3}[unit]:.1f} {unit}"


def _make_parts(
    folder: Path,
    items: list[Item],
    made: Recipe,
    tasks: list[str],
    workers: int,
    clips_per_part: int,
) -> None:
    taken = set(part_numbers(folder))
    free_numbers = (number for number in range(len(items) + len(taken)) if number not in taken)
    sounds = pack_sounds(items, made, workers)
    n_skipped = 0
    with progress_bar(len(items), "packing") as bar, contextlib.closing(sounds):
        for first in range(0, len(items), clips_per_part):
            with PartWriter(folder, next(free_numbers), tasks) as part:
                for item in items[first : first + clips_per_part]:
                    packed = next(sounds)
                    part.add(item, packed)
                    n_skipped += packed.raw is None
                    bar.update(1, skipped=n_skipped)


class PartWriter:
    """Writes one part aside and moves it into place when all went well; else nothing of it remains."""

    def __init__(self, folder: Path, number: int, tasks: list[str]) -> None:
        self.data_path = part_path(folder, number, ".bin")
        self.manifest_path = part_path(folder, number, ".json")
        self._aside = aside_path(self.data_path)
        self._sum = hashlib.blake2b(digest_size=16)
        self._n_bytes = 0
        self._length = 0
        self._manifest: dict[str, Any] = {
            key: []
            for key in ("names", "offsets", "lengths", "file_bytes", "splits", "clipped", "skipped")
        }
        self._manifest |= {key: {task: [] for task in tasks} for key in ("labels", "groups")}

    def __enter__(self) -> PartWriter:
        self._file = open(self._aside, "wb")
        return self

    def add(self, item: Item, packed: Packed) -> None:
        """Append one clip, or note why it is left out."""
        manifest = self._manifest
        if packed.raw is None:
            manifest["skipped"].append([item.name, packed.reason, item.n_bytes])
            return
        content = np.ascontiguousarray(packed.raw).tobytes()
        self._file.write(content)
        self._sum.update(content)
        self._n_bytes += len(content)
        row = {
            "names": item.name,
            "offsets": self._length,
            "lengths": len(packed.raw),
            "file_bytes": item.n_bytes,
            "splits": item.split,
        }
        for key, value in row.items():
            manifest[key].append(value)
        if packed.clipped:
            manifest["clipped"].append(item.name)
        for key, values in (("labels", item.labels), ("groups", item.groups)):
            for task, column in manifest[key].items():
                column.append(values.get(task))
        self._length += len(packed.raw)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                move_into_place(self._aside, self.data_path)
                total = {"bytes": self._n_bytes, "checksum": self._sum.hexdigest()}
                write_whole(self.manifest_path, to_json(self._manifest | {"data": total}))
        finally:
            self._file.close()
            self._aside.unlink(missing_ok=True)
