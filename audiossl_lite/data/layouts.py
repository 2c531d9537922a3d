"""How data sets lie on disk: ESC-50, FSDD, class/clip folders and CSV manifests, listed without decoding."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from audiossl_lite.data.audio import AUDIO_SUFFIXES
from audiossl_lite.data.clips import Skip

_ESC50_NAME = re.compile(r"(\d+)-(\d+)-([A-Z]+)-(\d+)")
_FSDD_NAME = re.compile(r"(\d)_([^_]+)_(\d+)")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Entry:
    """One clip to be read: its file, and its label and group for each task by name."""

    name: str
    path: Path
    labels: dict[str, str]
    groups: dict[str, str] = field(default_factory=dict)
    split: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a data set holds: entries in a fixed order, tasks (default first), classes, early skips."""

    kind: str
    tasks: tuple[str, ...]
    entries: tuple[Entry, ...]
    skipped: tuple[Skip, ...] = ()
    class_order: dict[str, tuple[str, ...]] = field(default_factory=dict)


def is_esc50(root: Path) -> bool:
    """Whether the folder is laid out as ESC-50."""
    return (root / "meta" / "esc50.csv").is_file() and (root / "audio").is_dir()


def is_fsdd(root: Path) -> bool:
    """Whether the folder is laid out as the Free Spoken Digit Dataset."""
    folder = root / "recordings"
    return folder.is_dir() and any(_FSDD_NAME.fullmatch(path.stem) for path in audio_in(folder))


def list_esc50(root: Path) -> Listing:
    """ESC-50, full or in part: task "event", group = source recording, split = fold.

    A row is skipped when its file is missing, when it is listed twice, or when its name
    `{fold}-{source}-{take}-{target}` does not agree with its columns. A full table beside a part of the
    audio is not an error: rows of folds without any file are left out silently.
    """
    rows = read_csv(
        root / "meta" / "esc50.csv", ("filename", "fold", "target", "category", "src_file")
    )
    present = {path.name for path in audio_in(root / "audio")}
    here = {name.split("-")[0] for name in present}
    category_of: dict[str, str] = {}
    entries, skipped, seen = [], [], set()
    for row in rows:
        name = row["filename"]
        category_of.setdefault(row["target"], row["category"])
        if name not in present and row["fold"] not in here:
            continue
        fault = _esc50_fault(row, category_of)
        if name in seen:
            fault = "listed twice"
        if fault:
            skipped.append(Skip(name, fault))
            continue
        seen.add(name)
        labels, groups = {"event": row["category"]}, {"event": row["src_file"]}
        entries.append(Entry(name, root / "audio" / name, labels, groups, row["fold"]))
    listed = {row["filename"] for row in rows}
    skipped += [Skip(name, "not in meta/esc50.csv") for name in sorted(present - listed)]
    return Listing("ESC-50", ("event",), tuple(entries), tuple(skipped))


def _esc50_fault(row: dict[str, str], category_of: dict[str, str]) -> str | None:
    parts = _ESC50_NAME.fullmatch(Path(row["filename"]).stem)
    if parts is None:
        return "file name is not {fold}-{source}-{take}-{target}"
    if not row["category"]:
        return "empty label"
    if parts[4] != row["target"] or category_of[row["target"]] != row["category"]:
        return "label disagrees with the file name"
    if parts[1] != row["fold"] or parts[2] != row["src_file"]:
        return "fold or source disagrees with the file name"
    return None


def list_fsdd(root: Path) -> Listing:
    """FSDD: tasks "speaker" (group = digit) and "digit" (group = speaker); split = its makers' rule.

    The makers test on recordings 0 to 4 of each speaker and digit and train on the others. A file whose name
    is not `{digit}_{speaker}_{index}` is skipped.
    """
    entries, skipped = [], []
    for path in audio_in(root / "recordings"):
        parts = _FSDD_NAME.fullmatch(path.stem)
        if parts is None:
            skipped.append(Skip(path.name, "file name is not {digit}_{speaker}_{index}"))
            continue
        digit, speaker = _DIGITS[int(parts[1])], parts[2]
        labels, groups = {"speaker": speaker, "digit": digit}, {"speaker": digit, "digit": speaker}
        split = "test" if int(parts[3]) < 5 else "train"
        entries.append(Entry(path.name, path, labels, groups, split))
    order = {"digit": _DIGITS}
    return Listing("FSDD", ("speaker", "digit"), tuple(entries), tuple(skipped), order)


def list_folder(root: Path) -> Listing:
    """A folder of classes: every audio file below `root/class/` is a clip of that class, task "class".

    Audio files that lie in no class folder are skipped. Hidden files and other suffixes are ignored.
    """
    entries = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != "."):
        for path in audio_in(folder, deep=True):
            name = path.relative_to(root).as_posix()
            entries.append(Entry(name, path, {"class": folder.name}))
    skipped = tuple(Skip(path.name, "lies in no class folder") for path in audio_in(root))
    return Listing("class folders", ("class",), tuple(entries), skipped)


def list_manifest(path: Path) -> Listing:
    """A CSV with the columns path and label, and optionally group and split; task "class".

    Paths are relative to the CSV. A row with an empty path or label, or with a path already listed, is
    skipped. Raises ValueError naming a missing column.
    """
    entries, skipped, seen = [], [], set()
    for number, row in enumerate(read_csv(path, ("path", "label")), start=2):
        name = row["path"]
        file = (path.parent / name).resolve()
        fault = None
        if not name:
            fault = "empty path"
        elif not row["label"]:
            fault = "empty label"
        elif file in seen:
            fault = "listed twice"
        if fault:
            skipped.append(Skip(name or f"line {number}", fault))
            continue
        seen.add(file)
        group = {"class": row["group"]} if row.get("group") else {}
        entries.append(
            Entry(name, path.parent / name, {"class": row["label"]}, group, row.get("split"))
        )
    return Listing("CSV manifest", ("class",), tuple(entries), tuple(skipped))


def find_listing(root: Path, pool: str) -> Listing | None:
    """The data set at this path that serves the pool, or None when it holds others only.

    Raises FileNotFoundError for a missing path and ValueError for one without audio.
    """
    if not root.exists():
        message = "the path does not exist; give a folder, a CSV manifest, or 'synthetic'"
        raise FileNotFoundError(f"data_root {root}: {message}")
    if root.is_file():
        if root.suffix.lower() != ".csv":
            raise ValueError(
                f"data_root {root}: a file must be a .csv manifest; give a folder or a CSV"
            )
        return list_manifest(root) if pool == "event" else None
    known = [(is_esc50, list_esc50, "event"), (is_fsdd, list_fsdd, "voice")]
    inside = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    found = [
        (folder, lists, serves)
        for folder in inside
        for fits, lists, serves in known
        if fits(folder)
    ]
    for folder, lists, serves in found:
        if serves == pool:
            return lists(folder)
    if found or pool != "event":
        return None
    return list_folder(root)


def audio_in(folder: Path, deep: bool = False) -> list[Path]:
    """Audio files of a folder in a fixed order; a folder with an audio suffix is listed and fails later."""
    paths: Iterable[Path] = folder.rglob("*") if deep else folder.iterdir()
    return sorted(p for p in paths if p.suffix.lower() in AUDIO_SUFFIXES and p.name[0] != ".")


def read_csv(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV with stripped values; raises ValueError naming the missing columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [
                {k: (v or "").strip() for k, v in row.items() if k is not None} for row in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a CSV in UTF-8 ({error}); save it as UTF-8 text") from error
    missing = [name for name in needed if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise ValueError(f"{path}: missing column(s) {', '.join(missing)}; found {found}; add them")
    return rows
