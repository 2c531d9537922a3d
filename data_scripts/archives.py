"""Reading archives, archives in pieces and folders as one stream of members that all stay inside."""

from __future__ import annotations

import io
import json
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

TABLE_SUFFIXES = (".csv", ".txt", ".json")
CHUNK_BYTES = 2**20
AGAIN = "download it again"
# RuntimeError: an encrypted zip or a compression method that Python does not know.
UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
)
Source = tuple[Path, ...]  # one archive, folder or table; or the pieces of one zip, in order


class ArchiveError(ValueError):
    """An archive that cannot be used; the message names the archive, the member and what to do."""


class Member(NamedTuple):
    """One regular file of a source: its path, its size in bytes, and how to open it."""

    path: str
    size: int
    open: Callable[[], BinaryIO]


@contextmanager
def members(source: Source) -> Iterator[Iterator[Member]]:
    """The files of a source in its own order; each must be opened before the next is asked for.

    A zip or tar (compressed or not), the pieces of one zip, a folder, or a single table. Names are normalised.
    Raises ArchiveError for a missing, damaged or unsafe source: absolute paths, `..`, links, devices.
    """
    first = source[0]
    for piece in source:
        if not (piece.is_file() or piece.is_dir()):  # a pipe would be waited for
            raise ArchiveError(f"{piece}: no such file; `info` says where to get it")
    with ExitStack() as stack:
        with _unpacking(first):
            found = _opened(source, stack)
        yield _guarded(first, found)


@contextmanager
def _unpacking(archive: Path) -> Iterator[None]:
    """What cannot be read of an archive during the block is an ArchiveError that names it."""
    try:
        yield
    except UNREADABLE as error:
        remedy = f"{AGAIN}, or look at the disk"
        raise ArchiveError(f"{archive}: cannot be unpacked ({error}); {remedy}") from error


def _guarded(archive: Path, found: Iterator[Member]) -> Iterator[Member]:
    """The members; errors of who asks for them do not come here."""
    with _unpacking(archive):
        yield from found


def _opened(source: Source, stack: ExitStack) -> Iterator[Member]:
    first = source[0]
    if len(source) > 1:
        joined = stack.enter_context(io.BufferedReader(JoinedFile(source)))
        return _zip_members(first, stack.enter_context(zipfile.ZipFile(joined)))
    if first.is_dir():
        return _folder_members(first)
    if zipfile.is_zipfile(first):
        return _zip_members(first, stack.enter_context(zipfile.ZipFile(first)))
    if tarfile.is_tarfile(first):
        return _tar_members(first, stack.enter_context(tarfile.open(first)))
    if first.suffix.lower() in TABLE_SUFFIXES:
        return iter((Member(first.name, first.stat().st_size, lambda: first.open("rb")),))
    raise ArchiveError(f"{first}: neither a zip nor a tar archive; {AGAIN}")


def _zip_members(archive: Path, bundle: zipfile.ZipFile) -> Iterator[Member]:
    for info in bundle.infolist():
        if info.is_dir():
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            remedy = "do not use this archive"
            raise ArchiveError(f"{archive}: member {info.filename!r} is a link; {remedy}")
        path = inside(archive, info.filename)
        yield Member(path, info.file_size, lambda info=info: bundle.open(info))


def _tar_members(archive: Path, bundle: tarfile.TarFile) -> Iterator[Member]:
    while (info := bundle.next()) is not None:
        bundle.members.clear()  # else every header of a large archive stays in memory
        if info.isdir():
            continue
        if not info.isreg():
            remedy = "do not use this archive"
            raise ArchiveError(f"{archive}: member {info.name!r} is a link or a device; {remedy}")
        path = inside(archive, info.name)
        yield Member(path, info.size, lambda info=info: bundle.extractfile(info))
    # tarfile stops without a word at a damaged header and where a file was cut off. An archive ends with zeros, and a
    # compressed one with a checksum, which is compared when its last byte is read.
    bundle.fileobj.seek(bundle.offset)
    rest = bundle.fileobj.read(tarfile.BLOCKSIZE)
    ended = len(rest) == tarfile.BLOCKSIZE
    while ended and rest:
        ended = not rest.strip(b"\0")
        rest = bundle.fileobj.read(CHUNK_BYTES)
    if not ended:
        raise ArchiveError(f"{archive}: damaged or cut off at byte {bundle.offset}; {AGAIN}")


def _folder_members(folder: Path) -> Iterator[Member]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.is_file():
                relative = path.relative_to(folder).as_posix()
                yield Member(relative, path.stat().st_size, lambda path=path: path.open("rb"))


def inside(archive: Path, name: str) -> str:
    """The member's normalised path; raises ArchiveError for one that points outside its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = bool(path.parts) and len(path.parts[0]) == 2 and path.parts[0][1] == ":"
    if path.is_absolute() or ".." in path.parts or drive or "\0" in name or not path.parts:
        raise ArchiveError(f"{archive}: member {name!r} points outside; do not use this archive")
    return path.as_posix()


def read_member(source: Source, member: Member, limit: int) -> bytes:
    """The content of a member; raises ArchiveError above `limit` bytes or when it is longer than its header says."""
    if member.size > limit:
        remedy = "check the archive"
        raise ArchiveError(
            f"{source[0]}: member {member.path!r} is too large ({member.size} bytes); {remedy}"
        )
    with _unpacking(source[0]), member.open() as stream:
        content = stream.read(member.size + 1)
    if len(content) != member.size:
        raise ArchiveError(
            f"{source[0]}: member {member.path!r} is not as long as its header says; {AGAIN}"
        )
    return content


def read_whole(source: Source) -> None:
    """Read a source to its end; raises ArchiveError when it is damaged, cut off or empty, or a table is no text."""
    n_files = 0
    with members(source) as files:
        for member in files:
            n_files += 1
            with _unpacking(source[0]):
                with member.open() as stream:
                    head = last = stream.read(CHUNK_BYTES)
                    while block := stream.read(CHUNK_BYTES):
                        last = block
                if member.path == source[0].name:  # a table, not packed
                    _look_at_table(source[0], head, last)
    if not n_files:
        raise ArchiveError(f"{source[0]}: holds no file; {AGAIN}")


def _look_at_table(path: Path, head: bytes, last: bytes) -> None:
    """A web page in place of the table, no content, or no end of line at the end."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower()
    if not start or b"\0" in head:
        raise ArchiveError(f"{path}: {'not a text' if start else 'empty'}; {AGAIN}")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ArchiveError(f"{path}: a web page, not the table; {AGAIN}")
    if path.suffix.lower() == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            raise ArchiveError(f"{path}: damaged or cut off ({error}); {AGAIN}") from error
    elif not last.endswith((b"\n", b"\r")):
        raise ArchiveError(f"{path}: ends within a line, so it is cut off; {AGAIN}")


class JoinedFile(io.RawIOBase):
    """Several files read as one, so that a zip published in pieces needs no joined copy on disk."""

    def __init__(self, pieces: Sequence[Path]) -> None:
        super().__init__()
        self._files = [piece.open("rb") for piece in pieces]
        self._ends = list(accumulate(piece.stat().st_size for piece in pieces))
        self._place = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    seekable = readable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the joined file and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._ends[-1]}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer) -> int:
        """Fill the buffer from the piece at the current place; 0 at the end."""
        number = bisect_right(self._ends, self._place)  # an empty piece is passed over
        if number == len(self._files):
            return 0
        file = self._files[number]
        file.seek(self._place - self._ends[number], io.SEEK_END)
        count = file.readinto(buffer)
        self._place += count
        return count

    def close(self) -> None:
        """Close every piece."""
        for file in self._files:
            file.close()
        super().close()
