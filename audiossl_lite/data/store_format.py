"""The files of a packed store: `store.json`, and numbered parts of raw data with a manifest each.

`store.json` says what the store is and which parts belong to it. It is replaced as the last step of packing, so that a
reader never sees a half-written store. A part is whole when its manifest exists: data are moved into place first, the
manifest second. Every byte is under a checksum: that of a clip stands in its manifest, that of a manifest or of
`store.json` at its own beginning, and `store.json` repeats those of its parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from audiossl_lite.common.writing import writing

VERSION = 2
HEADER = "store.json"
# One entry a clip: its name, frames, checksum, span of sound, what is known of it, and what its file was like.
COLUMNS = ("names", "lengths", "sums", "spans", "about", "files")
# Names of clips with samples beyond full scale, and of those whose file has lost its end.
REMARKS = ("clipped", "cut_off")
SEALED = re.compile(rb'\{"checksum":"([0-9a-f]{32})","content":(.*)\}\n', re.DOTALL)
COPY_AGAIN = "copy the store again, or pack into a new folder"


class StoreError(ValueError):
    """A packed store cannot be read or written; the message names the file, what is wrong and what to do."""


def frame_type(made: dict[str, Any]) -> np.dtype:
    """What raw data consist of: 16-bit samples, or half-precision frames of so many bands."""
    return np.dtype(("<f2", (made["n_mels"],))) if made["frontend"] else np.dtype("<i2")


def part_path(folder: Path, number: int, suffix: str) -> Path:
    """The data (".bin") or the manifest (".json") of a part."""
    return folder / f"part-{number:05d}{suffix}"


def part_numbers(folder: Path) -> list[int]:
    """Numbers of the parts whose manifest is in the folder."""
    stems = [path.stem.removeprefix("part-") for path in folder.glob("part-*.json")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is in place once the block ends well, safe against a power cut; else it is as before.

    An OSError while it is written names it and says what to do.
    """
    aside = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.aside")
    try:
        with writing(path, aside):
            with open(aside, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        with contextlib.suppress(OSError):  # where there is no such folder
            aside.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent."""
    with whole_file(path) as file:
        file.write(content)


def checksum(path: Path) -> str:
    """Thirty-two hex digits over the content of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def checksum_of(content: bytes) -> str:
    """The checksum that a file of these bytes has."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def to_json(content: Any) -> bytes:
    """The bytes that are written and summed; names that are not UTF-8 survive in ASCII."""
    return json.dumps(content, separators=(",", ":")).encode()


def sealed(content: dict[str, Any]) -> bytes:
    """One JSON object behind the checksum of its bytes."""
    body = to_json(content)
    return b'{"checksum":"%s","content":%s}\n' % (checksum_of(body).encode(), body)


def read_sealed(path: Path, remedy: str) -> tuple[dict[str, Any], str]:
    """What `sealed` wrote, and its checksum; raises StoreError naming the file and the remedy."""
    try:
        seal = SEALED.fullmatch(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    if seal is None or checksum_of(seal[2]).encode() != seal[1]:
        raise StoreError(f"{path}: damaged, or written by something else; {remedy}")
    return json.loads(seal[2]), seal[1].decode()


def read_header(folder: Path) -> dict[str, Any]:
    """The content of `store.json`; raises StoreError when there is none, or one of something else."""
    path = folder / HEADER
    if not path.is_file():
        raise StoreError(
            f"{folder}: no {HEADER}, so no packed store; make one with python -m audiossl_lite pack"
        )
    content, _ = read_sealed(path, COPY_AGAIN)
    if content.get("version") != VERSION:
        raise StoreError(
            f"{path}: version {content.get('version')!r}, this library reads {VERSION}; pack the data again"
        )
    return content


def read_part(
    folder: Path, made: dict[str, Any], number: int, listed: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest of a part, and its line in `store.json`: clips, bytes and checksums.

    Raises StoreError when the manifest or the size of the data is not what it was, or not what `store.json` has
    `listed`.
    """
    path, data = (part_path(folder, number, suffix) for suffix in (".json", ".bin"))
    remedy = f"copy the store again, or delete {path.name} and pack again"
    manifest, seal = read_sealed(path, remedy)
    line = {
        "number": number,
        "clips": len(manifest["names"]),
        "bytes": sum(manifest["lengths"]) * frame_type(made).itemsize,
        "manifest": seal,
        "content": manifest["content"],
    }
    if listed not in (None, line):
        raise StoreError(f"{path}: not the one that {HEADER} lists; {remedy}")
    size = data.stat().st_size if data.is_file() else -1
    if size != line["bytes"]:
        wrong = "is missing" if size < 0 else f"has {size} bytes, not {line['bytes']}"
        raise StoreError(f"{data} {wrong}; {remedy}")
    return manifest, line


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
        data = part_path(folder, part["number"], ".bin")
        try:
            manifest, _ = read_part(folder, header["made"], part["number"], part)
            size = frame_type(header["made"]).itemsize
            with open(data, "rb") as file:
                for name, length, total in zip(*(manifest[key] for key in COLUMNS[:3])):
                    if zlib.crc32(file.read(length * size)) != total:
                        raise StoreError(f"{data}: {name} has a wrong checksum; {COPY_AGAIN}")
        except (StoreError, OSError) as error:
            problems.append(str(error))
    return problems
