"""The tables beside prepared audio, and whether a folder is what they say and the whole data set."""

from __future__ import annotations

import csv
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from inventory import Row

from audiossl_lite.common.progress import progress
from audiossl_lite.common.writing import writing
from audiossl_lite.data.audio import AUDIO_SUFFIXES

if TYPE_CHECKING:
    from common import DataSet

MANIFEST, SKIPPED, MARKER = "manifest.csv", "skipped.csv", "prepare.json"
COLUMNS = {MANIFEST: ("path", "crc32"), SKIPPED: ("name", "reason")}  # at least
FIRST, LAST = ("path", "label", "group", "split"), ("n_samples", "crc32")


def read_table(path: Path) -> list[Row]:
    """The rows of manifest.csv or skipped.csv; none when it does not exist.

    Raises ValueError naming the table when no script has written it.
    """
    if not path.exists():
        return []
    needed = COLUMNS[path.name]
    rows: list[Row] = []
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
                raise ValueError(f"no column {', '.join(missing)}")
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(f"line {reader.line_num} has not as many cells as columns")
                rows.append(row)
    except (ValueError, csv.Error) as error:
        remedy = "give a folder that `prepare` has filled, or move it away and prepare again"
        raise ValueError(f"{path}: not what `prepare` writes ({error}); {remedy}") from error
    return rows


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Row]) -> None:
    """Write a table whole or not at all."""
    unfinished = path.with_name(path.name + ".tmp")
    with writing(path, unfinished):
        with unfinished.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, list(columns), restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(unfinished, path)


def write_manifests(data_set: DataSet, folder: Path, rows: list[Row]) -> None:
    """Write manifest.csv, sorted by path, and the views of the data set that are not empty."""
    rows = sorted(rows, key=lambda row: row["path"])
    between = dict.fromkeys(key for row in rows for key in row if key not in (*FIRST, *LAST))
    columns = (*FIRST, *between, *LAST)
    write_table(folder / MANIFEST, columns, rows)
    for name, (label, group, chosen) in data_set.views.items():
        view = [{**r, "label": r[label], "group": r[group]} for r in rows if chosen(r)]
        if view:
            write_table(folder / name, columns, view)


def write_skipped(folder: Path, skipped: Iterable[tuple[str, str]]) -> None:
    """Write skipped.csv: which file or row was left out, and why."""
    rows = [{"name": name, "reason": reason} for name, reason in sorted(skipped)]
    write_table(folder / SKIPPED, ("name", "reason"), rows)


def read_marker(folder: Path) -> dict:
    """What prepare.json says; an empty dictionary when there is none, or none that a script has written."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    listed = marker.get("listed", {}) if isinstance(marker, dict) else None
    ours = isinstance(listed, dict) and all(isinstance(x, dict) for x in listed.values())
    return marker if ours else {}


def write_marker(folder: Path, marker: dict) -> None:
    """Write prepare.json whole or not at all."""
    unfinished = folder / (MARKER + ".tmp")
    text = json.dumps(marker, indent=1, sort_keys=True) + "\n"
    with writing(folder / MARKER, unfinished):
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, folder / MARKER)


def verify(data_set: DataSet, folder: Path) -> list[str]:
    """What is wrong with the folder, each fault named: missing, extra, damaged, left out, and counts that differ.

    Raises FileNotFoundError for a folder that does not exist or was not prepared, and ValueError for a table of
    something else.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; `prepare` makes it")
    if not (folder / MANIFEST).exists():
        if data_set.check_layout is None:
            raise FileNotFoundError(
                f"{folder}: no {MANIFEST}; give a folder that `prepare` has filled"
            )
        return data_set.check_layout(folder)
    rows = read_table(folder / MANIFEST)
    marker = read_marker(folder)
    faults = _files(folder, rows)
    faults += [f"left out: {row['name']} ({row['reason']})" for row in read_table(folder / SKIPPED)]
    if marker.get("data_set") != data_set.name:
        faults.append(
            f"{MARKER}: not what `prepare` writes for {data_set.title}; prepare into a new folder"
        )
    elif not marker.get("complete"):
        faults.append("unfinished: the last `prepare` was interrupted; run it again")
    for column, values in {**data_set.expected, **marker.get("listed", {})}.items():
        counted = Counter(row.get(column, "") for row in rows)
        for value, expected in values.items():
            if counted[value] != expected:
                faults.append(
                    f"{column} {value}: {counted[value]} clips, the full set has {expected}"
                )
    for column, expected in data_set.n_values.items():
        n_values = len({row.get(column, "") for row in rows})
        if n_values != expected:
            faults.append(f"{n_values} different values of {column}, the full set has {expected}")
    return faults


def _files(folder: Path, rows: list[Row]) -> list[str]:
    """Faults of single files: missing, damaged since they were prepared, listed twice, not in the manifest."""
    faults, listed = [], set()
    for row in progress(rows, "verifying"):
        path = folder / row["path"]
        if row["path"] in listed:
            faults.append(f"listed twice: {row['path']}")
        listed.add(row["path"])
        if not path.is_file():
            faults.append(f"missing: {row['path']}")
        elif f"{zlib.crc32(path.read_bytes()):08x}" != row["crc32"]:
            faults.append(
                f"damaged: {row['path']} (not what was written); remove it and prepare again"
            )
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file() and name not in listed:
            faults.append(f"extra: {name} is not in {MANIFEST}")
    return faults
