"""What the given archives hold: tables read whole, audio listed, every name checked before anything is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from archives import TABLE_SUFFIXES, ArchiveError, Source, members, read_member

from audiossl_lite.data.audio import AUDIO_SUFFIXES

MAX_TABLE_BYTES = 2**30

Row = dict[str, str]


@dataclass(frozen=True)
class Inventory:
    """What the given archives hold: the content of their tables, and the paths of their audio files."""

    tables: Mapping[str, bytes]
    audio: Mapping[str, int]

    def table(self, name: str) -> bytes:
        """The one table of this file name; raises ArchiveError when there is none."""
        for path, content in self.tables.items():
            if PurePosixPath(path).name == name:
                return content
        raise ArchiveError(f"no {name} in the given archives; give the one that holds it as well")

    def rows(self, name: str, *needed: str) -> list[Row]:
        """The rows of a CSV table as dictionaries; raises ArchiveError naming a missing column."""
        reader = csv.DictReader(io.StringIO(decode(name, self.table(name))))
        missing = [column for column in needed if column not in (reader.fieldnames or ())]
        if missing:
            columns = ", ".join(reader.fieldnames or ()) or "none"
            raise ArchiveError(
                f"{name}: no column {', '.join(missing)} (found: {columns}); is it the maker's table?"
            )
        return [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]

    def lines(self, name: str) -> list[str]:
        """The lines of a text table that are not empty, without white space around them."""
        stripped = (line.strip() for line in decode(name, self.table(name)).splitlines())
        return [line for line in stripped if line]

    def by_tail(self, n_parts: int) -> dict[str, str]:
        """Paths of the audio by their last `n_parts` parts, the first one where two share them."""
        tails: dict[str, str] = {}
        for path in self.audio:
            tails.setdefault("/".join(PurePosixPath(path).parts[-n_parts:]), path)
        return tails


def decode(name: str, content: bytes) -> str:
    """A table as text; raises ArchiveError when it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{name}: not a text in UTF-8 ({error}); download it again") from error


def find_sources(known: Collection[str], paths: Sequence[Path]) -> list[Source]:
    """The archives to read: files as given, pieces of a zip together, and `known` ones in a folder."""
    files: list[Path] = []
    for path in paths:
        fetched = [path / name for name in known if (path / name).is_file()]
        # A folder with the tables alone may hold unpacked audio beside them: it is read as a folder.
        archived = any(file.suffix not in TABLE_SUFFIXES for file in fetched)
        files += fetched if archived else [path]
    pieces: dict[str, list[Path]] = {}
    for path in files:
        stem, _, end = path.name.rpartition("_part")
        pieces.setdefault(stem if stem and len(end) == 2 else str(path), []).append(path)
    return [tuple(sorted(group, key=lambda path: path.name)) for group in pieces.values()]


def take_inventory(wanted: Collection[str], sources: Sequence[Source]) -> Inventory:
    """The tables of these names and the audio of all sources; raises ArchiveError for what is unsafe or damaged."""
    tables: dict[str, bytes] = {}
    audio: dict[str, int] = {}
    for number, source in enumerate(sources):
        seen: set[str] = set()
        with members(source) as files:
            for member in files:
                path = PurePosixPath(member.path)
                # Hidden files are the droppings of the systems that archives were packed on.
                if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
                    continue
                is_audio = path.suffix.lower() in AUDIO_SUFFIXES
                if not is_audio and path.name not in wanted:
                    continue
                if member.path in seen:
                    raise ArchiveError(
                        f"{source[0]}: member {member.path!r} occurs twice; download it again"
                    )
                seen.add(member.path)
                if is_audio:
                    audio.setdefault(member.path, number)
                elif member.path not in tables:
                    tables[member.path] = read_member(source, member, MAX_TABLE_BYTES)
    return Inventory(tables, audio)
