"""Tables of sounds: CSV files read strictly, and the rows of a manifest with the files that they name."""

from __future__ import annotations

import codecs
import csv
import io
import os
import unicodedata
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from audiossl_lite.data.clips import Skip

_OF_THE_FILE = {"path", "label", "split", "seconds"}  # all others say what sounds, as a label does


@dataclass(frozen=True)
class Row:
    """A row of a manifest: the path as it stands there, the file, and all columns in composed Unicode."""

    name: str
    file: Path
    values: dict[str, str]


def list_rows(
    manifest: Path, skipped: list[Skip], needed: tuple[str, ...] = ("path", "label")
) -> list[Row]:
    """The rows of a manifest, whose paths are relative to it; what is left out is appended to `skipped`.

    That is a row with an empty path, with a file already listed, or with an empty label; where labels are not `needed`,
    one that says nothing else of its clip either. Raises ValueError as `read_csv`.
    """
    rows, seen = [], set()
    for number, cells in enumerate(read_csv(manifest, needed), start=2):
        name = cells["path"].replace("\0", "\\0")
        values = {
            c: unicodedata.normalize("NFC", text.replace("\0", "\\0")) for c, text in cells.items()
        } | {"path": name}
        file = _as_on_disk(manifest.parent / name)
        says = {"label"} if "label" in needed else values.keys() - _OF_THE_FILE | {"label"}
        fault = None
        if not name:
            fault = "empty path"
        elif "label" in values and not any(values[column] for column in says):
            fault = "empty label"
        elif os.path.realpath(file) in seen:
            fault = "listed twice"
        if fault:
            skipped.append(Skip(name or f"line {number}", fault))
            continue
        seen.add(os.path.realpath(file))
        rows.append(Row(name, file, values))
    return rows


def _as_on_disk(path: Path) -> Path:
    """The path in the Unicode form that exists: tables and disks disagree whether an accent is a character."""
    forms = [Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD")]
    return next((form for form in (path, *forms) if os.path.exists(form)), path)


def read_csv(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV in UTF-8 or UTF-16 with stripped values, without empty lines.

    Raises ValueError naming missing columns, or the line with an open quote, too many cells or a doubled column.
    """
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    rows, line = [], 1
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns = [name.strip() for name in next(reader, [])]
        doubled = [name for name in columns if name and columns.count(name) > 1]
        if doubled:
            raise csv.Error(f"two columns {doubled[0]!r}")
        line = reader.line_num + 1
        for cells in reader:
            row = dict(zip_longest(columns, (cell.strip() for cell in cells), fillvalue=""))
            if len(cells) > len(columns):
                raise csv.Error(f"{len(cells)} cells for {len(columns)} columns")
            if any("\n" in row.get(name, "") for name in needed):
                raise csv.Error("a quote that closes on a later line")
            rows += [row] if cells else []
            line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a CSV in UTF-8 ({error}); save it as UTF-8 text") from error
    except csv.Error as error:
        advice = "put text with commas in quotes, close each quote, name a column once"
        raise ValueError(f"{path}: line {line}: {error}; {advice}") from error
    missing = [name for name in needed if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise ValueError(f"{path}: missing column(s) {', '.join(missing)}; found {found}; add them")
    return rows
