"""The index of a tar shard: where each sound lies, how long it is, and what is known of it.

A shard is a tar file as WebDataset reads it: members `key.flac` (or `.wav`, `.ogg`, `.mp3`) and `key.json` of one
clip stand side by side. Headers are read once; the index is kept beside the shard, and made again when it changes.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tarfile
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from audiossl_lite.data.audio import AUDIO_SUFFIXES, SAMPLE_RATE_HZ
from audiossl_lite.data.store_format import to_json, write_whole

INDEX_VERSION = 1
HEAD_BYTES = (
    4096  # of each sound go into the digest; a FLAC file keeps a checksum of all samples there
)


class ShardError(ValueError):
    """A shard cannot be used; the message names the file, the member and what is wrong."""


@dataclass(frozen=True)
class Member:
    """One clip of a shard: where its bytes lie, its length in samples at 16 kHz, and its JSON."""

    name: str  # of the sound inside the tar file
    offset: int
    size: int
    length: int
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardIndex:
    """The clips of one shard in their order, and a digest over all of them."""

    path: Path
    members: tuple[Member, ...]
    digest: str


class Window(io.RawIOBase):
    """`size` bytes of an open file from `offset` on, as a file of its own."""

    def __init__(self, file: io.BufferedIOBase, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._place = file, offset, size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the window."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(base + offset, 0)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, at most to the end of the window."""
        wanted = max(min(len(buffer), self._size - self._place), 0)
        self._file.seek(self._offset + self._place)
        content = self._file.read(wanted)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def index_path(shard: Path) -> Path:
    """Where the index of a shard is kept."""
    return shard.with_name(shard.name + ".index.json")


def index_shard(shard: str | Path) -> ShardIndex:
    """The index of a shard, from beside it when that is current, else from the headers of all members.

    Raises ShardError naming the member for a damaged tar file, an unsafe or repeated name, a link, a sound that
    cannot be opened, and JSON that cannot be read.
    """
    shard = Path(shard)
    if not shard.is_file():
        raise ShardError(f"{shard}: no such shard; check the folder")
    state = shard.stat()
    stamp = [INDEX_VERSION, state.st_size, state.st_mtime_ns]
    kept = index_path(shard)
    try:
        content = json.loads(kept.read_bytes())
        if content["stamp"] == stamp:
            members = tuple(Member(**member) for member in content["members"])
            return ShardIndex(shard, members, content["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no index, or none of ours: it is made below
    index = _read_headers(shard)
    content = {
        "stamp": stamp,
        "digest": index.digest,
        "members": [asdict(member) for member in index.members],
    }
    try:
        write_whole(kept, to_json(content))
    except OSError:
        return index  # a folder that cannot be written: the headers are read again next time
    return index


def _read_headers(shard: Path) -> ShardIndex:
    sounds: dict[str, tarfile.TarInfo] = {}
    texts: dict[str, tarfile.TarInfo] = {}
    total = hashlib.blake2b(digest_size=16)
    with open(shard, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for header in tar:
                    _sort(shard, header, sounds, texts)
                _check_end(shard, file, tar.offset)
        except tarfile.TarError as error:
            raise ShardError(
                f"{shard}: damaged tar file ({error}); copy or make it again"
            ) from error
        members = []
        for key, header in sounds.items():
            about = _read_json(shard, file, texts[key]) if key in texts else {}
            length = _length(shard, file, header)
            member = Member(header.name, header.offset_data, header.size, length, about)
            members.append(member)
            total.update(to_json(asdict(member) | {"offset": 0}))
            file.seek(header.offset_data)
            total.update(file.read(min(header.size, HEAD_BYTES)))
    lonely = [texts[key].name for key in texts if key not in sounds]
    if lonely:
        raise ShardError(f"{shard}: {lonely[0]} has no sound beside it; make the shard again")
    return ShardIndex(shard, tuple(members), total.hexdigest())


def _sort(
    shard: Path,
    header: tarfile.TarInfo,
    sounds: dict[str, tarfile.TarInfo],
    texts: dict[str, tarfile.TarInfo],
) -> None:
    """Put a member where it belongs by its suffix; members of other kinds are left alone."""
    path = PurePosixPath(header.name)
    if path.is_absolute() or ".." in path.parts or "\\" in header.name:
        raise ShardError(f"{shard}: unsafe name {header.name!r}; such a shard is not read at all")
    if header.isdir():
        return
    if not header.isfile():
        raise ShardError(f"{shard}: {header.name!r} is a link or a device, not a file")
    # WebDataset's rule: a key ends at the first dot of the file name.
    stem, _, suffix = path.name.partition(".")
    key = str(path.with_name(stem)) if stem else ""
    into = sounds if path.suffix.lower() in AUDIO_SUFFIXES else texts
    if not key or (into is texts and suffix.lower() != "json"):
        return
    if key in into:
        raise ShardError(f"{shard}: two members for {key!r} ({into[key].name}, {header.name})")
    into[key] = header


def _check_end(shard: Path, file: io.BufferedIOBase, end: int) -> None:
    """tarfile stops without a word at a damaged header and at the end of a file that was cut off."""
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or any(block):
        found = "a damaged header" if any(block) else "cut off, no end mark"
        raise ShardError(f"{shard}: {found} at byte {end}; copy or make it again")


def _read_json(shard: Path, file: io.BufferedIOBase, header: tarfile.TarInfo) -> dict[str, Any]:
    file.seek(header.offset_data)
    try:
        about = json.loads(file.read(header.size))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ShardError(f"{shard}: {header.name} is damaged JSON ({error})") from error
    if not isinstance(about, dict):
        raise ShardError(f"{shard}: {header.name} holds a {type(about).__name__}, not an object")
    return about


def _length(shard: Path, file: io.BufferedIOBase, header: tarfile.TarInfo) -> int:
    """Samples at 16 kHz that decoding will give."""
    try:
        info = soundfile.info(Window(file, header.offset_data, header.size))
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise ShardError(f"{shard}: {header.name} cannot be opened as audio ({error})") from error
    if not 1 <= info.frames < 1 << 40:
        raise ShardError(f"{shard}: {header.name} holds no samples, or does not say how many")
    return math.ceil(info.frames * SAMPLE_RATE_HZ / info.samplerate)
