"""The files of a packed store: `store.json`, and numbered parts of raw data with a manifest each.

`store.json` says what the store is and which parts belong to it, with their sizes and checksums. It is replaced
as the last step of packing, so that a reader never sees a half-written store. A part is whole when its manifest
exists: data are moved into place first, the manifest second.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "audiossl_lite packed store"
VERSION = 1
HEADER = "store.json"
CHUNK_BYTES = 1 << 24
RAW_TYPES = {"waveform": np.dtype("<i2"), "spectrogram": np.dtype("<f2")}
HEADER_KEYS = ("kind", "made", "pool", "tasks", "class_order", "data", "skipped", "parts")
PART_KEYS = ("names", "offsets", "lengths", "labels", "groups", "splits", "skipped", "data")


class StoreError(ValueError):
    """A packed store cannot be read or written; the message names the file, what is wrong and what to do."""


def part_path(folder: Path, number: int, suffix: str) -> Path:
    """The data (".bin") or the manifest (".json") of a part."""
    return folder / f"part-{number:05d}{suffix}"


def part_numbers(folder: Path) -> list[int]:
    """Numbers of the parts whose manifest is in the folder."""
    stems = [path.stem.removeprefix("part-") for path in folder.glob("part-*.json")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def aside_path(path: Path) -> Path:
    """Where a file is written before it is moved into place."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.aside")


def move_into_place(aside: Path, path: Path) -> None:
    """Rename a file that is safely on disk, and make the rename itself safe against a power cut."""
    os.replace(aside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent."""
    aside = aside_path(path)
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        move_into_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def to_json(content: dict[str, Any]) -> bytes:
    """One JSON object as the bytes that are written and summed."""
    return json.dumps(content, ensure_ascii=False, indent=None).encode()


def read_json(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """An object with at least these keys; raises StoreError naming the file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StoreError(f"{path}: the file is missing; pack the data again") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StoreError(f"{path}: damaged JSON ({error}); pack the data again") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise StoreError(f"{path}: no entry {missing[0]!r}; it is not part of a packed store")
    return content


def read_header(folder: Path) -> dict[str, Any]:
    """The content of `store.json`; raises StoreError when there is none, or one of something else."""
    path = folder / HEADER
    if not path.is_file():
        raise StoreError(
            f"{folder}: no {HEADER}, so no packed store; make one with python -m audiossl_lite pack"
        )
    content = read_json(path, ("format", "version"))
    if content["format"] != FORMAT:
        raise StoreError(f"{path}: made by something else (format {content['format']!r})")
    if content["version"] != VERSION:
        raise StoreError(
            f"{path}: version {content['version']!r}, this library reads {VERSION}; pack the data again"
        )
    content = read_json(path, HEADER_KEYS)
    if content["kind"] not in RAW_TYPES:
        raise StoreError(f"{path}: unknown kind {content['kind']!r}")
    return content


def checksum(path: Path) -> str:
    """Thirty-two hex digits over the content of a file."""
    total = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()


def checksum_of(content: bytes) -> str:
    """The checksum that a file of these bytes has."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def describe_part(folder: Path, number: int) -> dict[str, Any]:
    """The line of a whole part in `store.json`: clips, bytes and checksums; raises StoreError."""
    path = part_path(folder, number, ".json")
    manifest = read_json(path, PART_KEYS)
    data, size = part_path(folder, number, ".bin"), int(manifest["data"]["bytes"])
    if not data.is_file() or data.stat().st_size != size:
        found = f"{data.stat().st_size} bytes" if data.is_file() else "missing"
        raise StoreError(
            f"{data}: {found}, {path.name} says {size} bytes; delete {path.name} and pack again"
        )
    return {
        "number": number,
        "clips": len(manifest["names"]),
        "bytes": size,
        "data_checksum": manifest["data"]["checksum"],
        "manifest_checksum": checksum(path),
    }


def verify_store(folder: str | Path) -> list[str]:
    """Everything that is wrong with a store, one line for each file; empty when it is whole.

    Reads all data once. Also works on a store that is too damaged to be opened.
    """
    folder = Path(folder)
    try:
        header = read_header(folder)
    except StoreError as error:
        return [str(error)]
    if header["parts"] is None:
        return [f"{folder / HEADER}: packing was interrupted; start it again"]
    problems = []
    for part in header["parts"]:
        for suffix, name in ((".json", "manifest_checksum"), (".bin", "data_checksum")):
            path = part_path(folder, part["number"], suffix)
            if not path.is_file():
                problems.append(f"{path}: missing")
            elif suffix == ".bin" and path.stat().st_size != part["bytes"]:
                problems.append(f"{path}: {path.stat().st_size} bytes, expected {part['bytes']}")
            elif checksum(path) != part[name]:
                problems.append(f"{path}: wrong checksum, the content has changed")
    return problems
