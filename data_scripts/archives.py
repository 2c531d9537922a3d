"""Unpacking an archive without letting any of it leave its folder."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

MAX_MEMBER_BYTES = 200 * 2**20
MAX_TOTAL_BYTES = 20 * 2**30
# RuntimeError: an encrypted zip or a compression method that Python does not know.
_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
)


class ArchiveError(ValueError):
    """An archive that cannot be used; the message names the archive, the member and what to do."""


Members = Iterator[tuple[str, int, Callable[[], BinaryIO]]]


@contextmanager
def _members(archive: Path) -> Iterator[Members]:
    """Name, size and opener of each regular file; links and devices are errors."""
    if not archive.is_file():
        raise ArchiveError(
            f"{archive}: no such file; see data_scripts/README.md for where to get it"
        )
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            yield _zip_members(archive, bundle)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as bundle:
            yield _tar_members(archive, bundle)
    else:
        raise ArchiveError(f"{archive}: neither a zip nor a tar archive; download it again")


def _zip_members(archive: Path, bundle: zipfile.ZipFile) -> Members:
    for info in bundle.infolist():
        if info.is_dir():
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ArchiveError(
                f"{archive}: member {info.filename!r} is a link; do not use this archive"
            )
        yield info.filename, info.file_size, lambda info=info: bundle.open(info)


def _tar_members(archive: Path, bundle: tarfile.TarFile) -> Members:
    for info in bundle:
        if info.isdir() or info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
            continue
        if not info.isreg():
            raise ArchiveError(
                f"{archive}: member {info.name!r} is a link or a device; do not use this archive"
            )
        yield info.name, info.size, lambda info=info: bundle.extractfile(info)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The member's path without its top folder; raises ArchiveError for one that would leave the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0] or "\0" in name:
        raise ArchiveError(f"{archive}: member {name!r} points outside; do not use this archive")
    return PurePosixPath(*path.parts[1:])


def extract(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> int:
    """Unpack the wanted files below the archive's single top folder into `folder`; return how many.

    All names are checked before anything is written, and files are written to a sibling folder that takes its
    place only when complete. Raises ArchiveError for a damaged or unsafe archive, FileExistsError when
    `folder` exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: exists and is not empty; name a new folder or remove it")
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        raise FileExistsError(f"{partial}: left by an interrupted run; remove it first")
    try:
        chosen = _choose(archive, wanted)
        count = 0
        partial.mkdir(parents=True)
        with _members(archive) as members:
            for name, size, opener in members:
                if name not in chosen:
                    continue
                target = partial / chosen[name]
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(archive, name, size, opener, target)
                count += 1
    except _UNREADABLE as error:
        shutil.rmtree(partial, ignore_errors=True)
        remedy = "download it again, or look at the disk"
        raise ArchiveError(f"{archive}: cannot be unpacked ({error}); {remedy}") from error
    except ArchiveError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    return count


def _choose(archive: Path, wanted: Callable[[PurePosixPath], bool]) -> dict[str, PurePosixPath]:
    """Member name to path for the wanted members, after checking every member."""
    chosen: dict[str, PurePosixPath] = {}
    total = 0
    with _members(archive) as members:
        for name, size, _ in members:
            path = _inside(archive, name)
            if not path.parts or not wanted(path):
                continue
            total += size
            if size > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES:
                raise ArchiveError(
                    f"{archive}: member {name!r} is too large ({size} bytes); check the archive"
                )
            if path in chosen.values():
                raise ArchiveError(f"{archive}: member {name!r} occurs twice; download it again")
            chosen[name] = path
    if not chosen:
        raise ArchiveError(f"{archive}: holds none of the expected files; is it the right archive?")
    return chosen


def _copy(
    archive: Path, name: str, size: int, opener: Callable[[], BinaryIO], target: Path
) -> None:
    with opener() as source, target.open("wb") as sink:
        written = 0
        while block := source.read(2**20):
            written += len(block)
            if written > size:
                raise ArchiveError(f"{archive}: member {name!r} is longer than its header says")
            sink.write(block)
