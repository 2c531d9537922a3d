"""Packing clips into a store: in parallel, part by part, resumable, appendable, by one packer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.common.parameters import user_path
from audiossl_lite.common.progress import progress_bar
from audiossl_lite.common.ranges import check_range
from audiossl_lite.data.clips import Skip
from audiossl_lite.data.pack_items import (
    NO_FILE,
    Item,
    Packed,
    estimate_bytes,
    find_clips,
    pack_item,
)
from audiossl_lite.data.recipes import Recipe, make_recipe
from audiossl_lite.data.store import PackedStore
from audiossl_lite.data.store_format import (
    COLUMNS,
    HEADER,
    REMARKS,
    VERSION,
    StoreError,
    checksum_of,
    part_numbers,
    part_path,
    read_header,
    read_part,
    sealed,
    to_json,
    whole_file,
    write_whole,
)
from audiossl_lite.training.step import read_ahead

LOCK = ".lock"
SPARE_BYTES = 1 << 24
CLIPS_AHEAD = 4  # for each thread: enough to keep it busy, not so many that results fill the memory
VANISHED_SHARE = 0.01  # of the files that were there at the start: more, and the disk is gone


def pack(
    data_root: str | Path,
    folder: str | Path,
    *,
    kind: str = "waveform",
    pool: str = "event",
    max_s: float | None = None,
    **options: Any,
) -> PackedStore:
    """Pack the clips that `load_clips` would read into a store, or add those that the store lacks.

    After an interruption the same call makes the missing parts; with more files in the data root it adds parts
    with the new ones. A clip is known by its name below the data root. `kind`, `max_s`: see `make_recipe`; `options`:
    as for `pack_items`. Raises StoreError when another process is at work, when settings or data are no longer what was
    packed, when the store is damaged, when the disk is too small, or when files vanish meanwhile; ValueError when no
    clip is left.
    """
    made, listing = make_recipe(kind, max_s), find_clips(data_root, pool)
    items = [
        Item(e.name, e.path, {"labels": e.labels, "groups": e.groups, "split": e.split})
        for e in listing.entries
    ]
    left_out = listing.skipped
    return pack_items(items, folder, made, data=listing.kind, left_out=left_out, **options)


def pack_items(
    items: Sequence[Item],
    folder: str | Path,
    made: Recipe,
    *,
    data: str,
    left_out: Sequence[Skip] = (),
    workers: int | None = None,
    clips_per_part: int = 4096,
    say: Callable[[str], None] | None = None,
) -> PackedStore:
    """Pack these clips as the recipe `made` says, beside those that were `left_out` before; see `pack`.

    `workers`: decoding threads, by default one for each core, 0 for none; `say` takes a line about size and space
    before the work begins.
    """
    check_range("clips_per_part", clips_per_part)
    check_range("workers", workers)
    folder = user_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with writer_lock(folder):
        header = _agree(folder, made, data)
        for leftover in folder.glob(".*.aside"):
            if leftover.name.startswith((f".{HEADER}.", ".part-")):
                leftover.unlink()
        missing, skipped = _missing(folder, header, items)
        there = {item.name for item in missing if item.state() != NO_FILE}
        _check_space(folder, missing, made, say)
        if missing:
            n_threads = (os.cpu_count() or 1) if workers is None else workers
            skipped += _make_parts(folder, missing, there, made, n_threads, clips_per_part)
        skipped += ([skip.name, skip.reason, NO_FILE] for skip in left_out)
        header["skipped"] = sorted(skipped, key=lambda row: row[:2])
        header["parts"] = [read_part(folder, made, number)[1] for number in part_numbers(folder)]
        write_whole(folder / HEADER, sealed(header))
    store = PackedStore(folder)
    if not len(store):
        reasons = ", ".join(sorted({skip.reason for skip in store.skipped}))
        raise ValueError(f"{folder}: no clip left, {len(store.skipped)} skipped: {reasons}")
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
                f"{folder}: another process is at work here ({holder}); wait for it or use another folder"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def _agree(folder: Path, made: Recipe, data: str) -> dict[str, Any]:
    """The header of the store, written first when the folder is new; refuses other settings by name."""
    if not (folder / HEADER).exists():
        foreign = sorted(p.name for p in folder.iterdir() if p.name[0] != ".")
        if foreign:
            raise StoreError(f"{folder}: not empty (it holds {foreign[0]}); name a new folder")
        header = {"version": VERSION, "made": made, "data": data, "skipped": [], "parts": None}
        write_whole(folder / HEADER, sealed(header))
    header = read_header(folder)
    before = header["made"]
    for key in before | made:
        if before.get(key) != made.get(key):
            raise StoreError(
                f"{folder}: packed with {key} {before.get(key)!r}, asked for {made.get(key)!r}; "
                "use the same settings or another folder"
            )
    return header


def _missing(
    folder: Path, header: dict[str, Any], items: Sequence[Item]
) -> tuple[list[Item], list[list[Any]]]:
    """Items that no whole part holds, and the rows of the header on files that are still left out.

    Raises StoreError for a damaged part, and when a packed clip is gone, is labelled otherwise or sounds otherwise.
    """
    listed = {part["number"]: part for part in header["parts"] or ()}
    packed: dict[str, tuple[Any, Any]] = {}
    for number in part_numbers(folder):
        manifest, _ = read_part(folder, header["made"], number, listed.get(number))
        packed |= dict(zip(manifest["names"], zip(manifest["about"], manifest["files"])))
    tried = {name: (reason, tuple(state)) for name, reason, state in header["skipped"]}
    missing, skipped, differs, names = [], [], [], set()
    for item in items:
        if item.name in names:
            skipped.append([item.name, "listed twice", NO_FILE])
        elif item.name in packed:
            about, file = packed.pop(item.name)
            key = next((key for key in item.about if item.about[key] != about[key]), None)
            if key:
                differs.append(f"{item.name} had {key} {about[key]}, now {item.about[key]}")
            elif not item.is_as_before(*file):
                differs.append(f"{item.name} is gone, or has another content than it had")
        elif item.name in tried and tried[item.name][1] == item.state():
            skipped.append([item.name, *tried[item.name]])
        else:
            missing.append(item)  # a skipped file gets another chance once it has changed
        names.add(item.name)
    differs += [f"{name} is no longer among the data" for name in packed]
    if differs:
        raise StoreError(
            f"{folder}: {len(differs)} clips are not as they were packed: {differs[0]}; "
            "pack the data into a new folder, or delete this one first"
        )
    return missing, skipped


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
    there: set[str],
    made: Recipe,
    n_threads: int,
    clips_per_part: int,
) -> list[list[Any]]:
    """Write all parts; returns a row for the header on each file that is left out.

    Raises StoreError when more than a share of the files that were `there` at the start are gone.
    """
    skipped: list[list[Any]] = []
    vanished: list[str] = []

    def usable(pairs: Iterable[tuple[Item, Packed]]) -> Iterator[tuple[Item, Packed]]:
        for item, packed in pairs:
            bar.update(1, skipped=len(skipped))
            if packed.pieces:
                yield item, packed
                continue
            skipped.append([item.name, packed.reason, packed.file[:2]])
            if item.name in there and item.state() == NO_FILE:
                vanished.append(item.name)
            if len(vanished) > VANISHED_SHARE * len(there):
                raise StoreError(
                    f"{folder}: of {len(there)} files {len(vanished)} vanished while they were packed, the first is "
                    f"{vanished[0]}; make the data readable again and start again, whole parts are kept"
                )

    taken = set(part_numbers(folder))
    free_numbers = (number for number in itertools.count() if number not in taken)
    n_own_threads = torch.get_num_threads()
    results = read_ahead(
        partial(pack_item, recipe=made), items, CLIPS_AHEAD * n_threads,
        max_workers=n_threads, initializer=torch.set_num_threads, initargs=(1,),
    )  # fmt: skip
    try:
        with progress_bar(len(items), "packing") as bar, contextlib.closing(results):
            pairs = zip(items, results, strict=True)
            for _ in range(0, len(items), clips_per_part):
                part = usable(itertools.islice(pairs, clips_per_part))
                _write_part(folder, next(free_numbers), part)
    finally:
        torch.set_num_threads(n_own_threads)
    return skipped


def _write_part(folder: Path, number: int, clips: Iterable[tuple[Item, Packed]]) -> None:
    """Write the data of a part, then its manifest; when anything goes wrong, nothing of it counts."""
    manifest: dict[str, Any] = {key: [] for key in (*COLUMNS, *REMARKS)}
    with whole_file(part_path(folder, number, ".bin")) as file:
        for item, packed in clips:
            for piece, span in zip(packed.pieces, packed.spans):
                content = piece.tobytes()
                file.write(content)
                total = zlib.crc32(content)
                row = (item.name, len(piece), total, span, item.about, packed.file)
                for key, value in zip(COLUMNS, row, strict=True):
                    manifest[key].append(value)
            for remark in REMARKS:
                if getattr(packed, remark):
                    manifest[remark].append(item.name)
    described = [manifest[key] for key in COLUMNS if key != "files"]
    manifest["content"] = checksum_of(to_json(described))
    write_whole(part_path(folder, number, ".json"), sealed(manifest))
