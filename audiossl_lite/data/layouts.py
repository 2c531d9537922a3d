"""How data sets lie on disk: ESC-50, FSDD, class/clip folders and CSV manifests, listed without decoding."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audiossl_lite.data.audio import AUDIO_SUFFIXES
from audiossl_lite.data.clips import Skip
from audiossl_lite.data.manifests import list_rows, read_csv

_ESC50_NAME = re.compile(r"(\d+)-(\d+)-([A-Z]+)-(\d+)")
_FSDD_NAME = re.compile(r"(\d)_([^_]+)_(\d+)")
# Formats of sound that are not read: files of them are counted, so that nobody misses them unawares.
_UNREAD_SUFFIXES = (
    *(".aac", ".aifc", ".amr", ".ape", ".au", ".caf", ".m4a", ".m4b", ".mka", ".mkv", ".mov"),
    *(".mp2", ".mp4", ".oga", ".opus", ".ra", ".w64", ".webm", ".wma", ".wv"),
)
# Data sets as their makers pack them, told by a path of each; as class folders they would get wrong classes.
_UNPREPARED = {
    "metadata/UrbanSound8K.csv": "urbansound8k.py",
    "audio/fold1": "urbansound8k.py",
    "fold1": "urbansound8k.py",
    "nsynth-train": "nsynth.py",
    "nsynth-test": "nsynth.py",
    "examples.json": "nsynth.py",
    "FSDKaggle2018.audio_train": "fsdkaggle2018.py",
    "FSDKaggle2018.meta": "fsdkaggle2018.py",
    "iden_split.txt": "voxceleb1.py",
}
_SPLITS = {"train", "training", "valid", "validation", "val", "dev", "test", "testing", "eval"}
_NOISE = "_background_noise_"  # of Speech Commands
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
    return os.path.isfile(root / "meta" / "esc50.csv") and os.path.isdir(root / "audio")


def is_fsdd(root: Path) -> bool:
    """Whether the folder is laid out as the Free Spoken Digit Dataset: sounds in `recordings/` alone."""
    recordings = audio_in(root / "recordings", [])
    return any(_FSDD_NAME.fullmatch(path.stem) for path in recordings) and not any(
        audio_in(folder, []) for folder in folders_in(root) if folder.name != "recordings"
    )


def list_esc50(root: Path) -> Listing:
    """ESC-50, full or in part: task "event", group = source recording, split = fold.

    A row is skipped when its file is missing, when it is listed twice, or when its name
    `{fold}-{source}-{take}-{target}` does not agree with its columns. A full table beside a part of the
    audio is not an error: rows of folds without any file are left out silently.
    """
    rows = read_csv(
        root / "meta" / "esc50.csv", ("filename", "fold", "target", "category", "src_file")
    )
    entries, skipped, seen = [], [], set()
    present = {path.name for path in audio_in(root / "audio", skipped)}
    here = {name.split("-")[0] for name in present}
    category_of: dict[str, str] = {}
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
    for path in audio_in(root / "recordings", skipped):
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

    Where all folders are named as splits (`train/`, `test/`), classes are the folders in them. Audio files that
    lie in no class folder are skipped. Raises ValueError for a data set that a data script must prepare first.
    """
    refuse_unprepared(root)
    entries, skipped = [], []
    files = audio_in(root, skipped, deep=True)
    below = [path.relative_to(root).parts for path in files]
    divided = are_splits(parts[0] for parts in below if len(parts) > 1)
    for path, parts in zip(files, below):
        name, folders = "/".join(parts), parts[:-1]
        if label := class_folder(folders, divided):
            split = folders[0] if divided else None
            entries.append(Entry(name, path, {"class": label}, split=split))
        else:
            noise = _NOISE in folders
            reason = f"{_NOISE} is no class" if noise else "lies in no class folder"
            skipped.append(Skip(name, reason))
    return Listing("class folders", ("class",), tuple(entries), tuple(skipped))


def refuse_unprepared(root: Path) -> None:
    """Raise ValueError for a data set that a data script must prepare: its folders are not its classes."""
    for sign, script in _UNPREPARED.items():
        if os.path.exists(root / sign):
            raise ValueError(
                f"data_root {root}: {sign} tells a data set as downloaded, whose folders are not its classes; "
                f"run python data_scripts/{script} prepare --from-archive {root} --to FOLDER and give "
                "FOLDER/manifest.csv"
            )


def are_splits(folders: Iterable[str]) -> bool:
    """Whether all of these folders are named as splits (`train`, `test`), so that the classes lie in them."""
    return {name.lower() for name in folders} - {_NOISE} <= _SPLITS


def class_folder(folders: Sequence[str], divided: bool) -> str:
    """The class of a file by the folders it lies in, from the outermost; `divided`: that one is a split.

    Empty for a file in no class folder, and for the noise of Speech Commands.
    """
    if _NOISE in folders or len(folders) <= divided:
        return ""
    return unicodedata.normalize("NFC", folders[divided])


def list_manifest(path: Path) -> Listing:
    """A CSV with the columns path and label, and optionally group and split; task "class".

    Rows are read, and skipped, by `list_rows`. Raises ValueError naming a missing column.
    """
    entries, skipped = [], []
    for row in list_rows(path, skipped):
        group = {"class": row.values["group"]} if row.values.get("group") else {}
        label = {"class": row.values["label"]}
        entries.append(Entry(row.name, row.file, label, group, row.values.get("split")))
    return Listing("CSV manifest", ("class",), tuple(entries), tuple(skipped))


def find_listing(root: Path, pool: str) -> Listing | None:
    """The data set at this path that serves the pool, or None when it holds others only.

    Raises FileNotFoundError for a missing path and ValueError for what is neither a folder nor a manifest.
    """
    if os.path.isfile(root) and root.suffix.lower() == ".csv":
        return list_manifest(root) if pool == "event" else None
    if not os.path.isdir(root):
        if os.path.exists(root):
            message = "a file must be a .csv manifest; give a folder or a CSV"
            raise ValueError(f"data_root {root}: {message}")
        message = "the path does not exist; give a folder, a CSV manifest, or 'synthetic'"
        raise FileNotFoundError(f"data_root {root}: {message}")
    known = [(is_esc50, list_esc50, "event"), (is_fsdd, list_fsdd, "voice")]
    found = [
        (folder, lists, serves)
        for folder in (root, *folders_in(root))
        for fits, lists, serves in known
        if fits(folder)
    ]
    for folder, lists, serves in found:
        if serves == pool:
            return lists(folder)
    if found or pool != "event":
        return None
    manifest = root / "manifest.csv"
    return list_manifest(manifest) if os.path.isfile(manifest) else list_folder(root)


def folders_in(root: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, in a fixed order; none when it cannot be read."""
    try:
        return sorted(p for p in root.iterdir() if p.name[0] != "." and os.path.isdir(p))
    except OSError:
        return []


def audio_in(
    root: Path,
    skipped: list[Skip],
    *,
    deep: bool = False,
    without: Collection[Path] = (),
    taken: Collection[str] = (),
) -> list[Path]:
    """What claims to be a sound in a folder, in a fixed order; what cannot be one is appended to `skipped`.

    `deep`: below it too. Linked folders are followed, after all others; no folder and no file is read twice. Hidden
    files and folders are ignored, as are files of other kinds. A folder with an audio suffix is listed and fails later.
    `without`: folders that are read otherwise; `taken`: where files really are that are.
    """
    files: dict[str, Path] = {}  # by where each really is
    folders, links = [root], []
    seen = {str(folder) for folder in root.resolve().parents}
    seen.update(os.path.realpath(folder) for folder in without)
    while folders or links:
        folder = folders.pop(0) if folders else links.pop(0)
        if folder in without:
            continue
        place = os.path.realpath(folder)
        if place in seen:
            reason = "link to a folder that is read elsewhere or holds this one"
            skipped.append(Skip(_below(folder, root), reason))
            continue
        seen.add(place)
        try:
            inside = [path for path in folder.iterdir() if path.name[0] != "."]
        except OSError:
            skipped.append(Skip(_below(folder, root), "folder that cannot be read"))
            continue
        for path in sorted(inside):
            suffix, name, is_folder = path.suffix.lower(), _below(path, root), os.path.isdir(path)
            if deep and is_folder and path.name != "__MACOSX":
                (links if path.is_symlink() else folders).append(path)
            is_linked = path.is_symlink() and os.path.isfile(path)
            real = os.path.realpath(path) if is_linked else os.path.join(place, path.name)
            if (real in files or real in taken) and suffix in AUDIO_SUFFIXES:
                skipped.append(Skip(name, "file that is read under another name"))
            elif suffix in AUDIO_SUFFIXES and name == path.relative_to(root).as_posix():
                files[real] = path
            elif suffix in AUDIO_SUFFIXES:
                skipped.append(Skip(name, "name that is not UTF-8"))
            elif suffix in _UNREAD_SUFFIXES and not is_folder:
                skipped.append(Skip(name, f"format that is not read ({suffix})"))
    return sorted(files.values())


def shown(name: str) -> str:
    """The name of a file or folder as text that can be printed, whatever bytes are in it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _below(path: Path, root: Path) -> str:
    return shown(path.relative_to(root).as_posix())
