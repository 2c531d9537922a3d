"""The workshop corpus: which sounds a folder of data sets holds, which of them training hears, and what they test.

The corpus is rules, not files: any of the data sets below, side by side in one folder, or one of them alone. All clips
are for training without labels, except what is held out: classes of the fixed list (`data.held_out`), and a seeded
quarter of the instruments, actors, speakers and recordings. Choices are made on what was heard, and what is reported
was never heard.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from audiossl_lite.common.parameters import user_path
from audiossl_lite.data.clips import Clips, Skip, by_reason
from audiossl_lite.data.held_out import held_out_classes
from audiossl_lite.data.layouts import (
    are_splits,
    audio_in,
    class_folder,
    folders_in,
    is_esc50,
    is_fsdd,
    list_esc50,
    list_fsdd,
    refuse_unprepared,
    shown,
)
from audiossl_lite.data.manifests import list_rows

HELD_SHARE = 0.25
HELD_SEED = "workshop corpus, 1"  # fixed before any run that is recorded


@dataclass(frozen=True)
class DataSet:
    """How a data set, known by the start of its folder's name, is divided and what it tests.

    `held_by`: the column whose values are held out; by `held_names`, within each value of the column `within` where
    one is named, or by the fixed list (`listed`). `too_like`: labels that training never hears either, since they are
    classes of ESC-50 that are held out. `tasks`: name, column of the label, column whose values are kept apart.
    """

    start: str
    held_by: str = ""
    within: str = ""
    listed: bool = False
    too_like: frozenset[str] = frozenset()
    tasks: tuple[tuple[str, str, str], ...] = ()


DATA_SETS = (
    DataSet("ESC-50", "label", listed=True, tasks=(("events", "label", "group"),)),
    DataSet(
        "FluidR3", "group", within="label",
        tasks=(("note families", "label", "group"), ("instruments", "group", "pitch")),
    ),
    DataSet("RAVDESS", "group", tasks=(("actors", "group", "sentence"),)),
    DataSet(
        "ArabicSpeechCommands", "group",
        tasks=(("speakers", "group", "label"), ("words", "label", "group")),
    ),
    DataSet(
        "UrbanSound8K", "group", too_like=frozenset({"siren", "engine_idling"}),
        tasks=(("urban scenes", "label", "group"),),
    ),
    DataSet(
        "Kitchen20", "group", too_like=frozenset({"water_flowing", "boiling_water"}),
        tasks=(("kitchen scenes", "label", "group"),),
    ),
    DataSet("SpeechCommands"),
    DataSet("DonateACry"),
    DataSet(
        "FSDD", "speaker", listed=True,
        tasks=(("speakers of digits", "speaker", "digit"), ("digits", "digit", "speaker")),
    ),
    DataSet("embedded event", "event", listed=True, tasks=(("events", "event", "name"),)),
    DataSet(
        "embedded voice", "speaker", listed=True,
        tasks=(("speakers", "speaker", "word"), ("words", "word", "speaker")),
    ),
    DataSet(
        "embedded note", "instrument", listed=True,
        tasks=(("note families", "family", "instrument"), ("instruments", "instrument", "pitch")),
    ),
)  # fmt: skip
OTHER = DataSet("", "label", listed=True, tasks=(("classes", "label", "group"),))


@dataclass(frozen=True)
class Sound:
    """One clip of the corpus: its data set, its name there, its file (if any) and the columns of its row.

    A clip without a `group` is a recording of its own.
    """

    source: str
    name: str
    values: dict[str, str]
    path: str = ""

    def value(self, column: str) -> str:
        """What stands in a column; in "group", the clip's own name where nothing does."""
        text = self.name if column == "name" else self.values.get(column, "")
        return text or (f"{self.source}/{self.name}" if column == "group" else "")


@dataclass(frozen=True)
class Task:
    """What a data set tests: `clips (m,)` of the corpus with `labels (m,)`, `groups (m,)` and `never (m,)`.

    No group may stand on both sides of an episode. `never`: clips that training did not hear, those of held-out
    classes, instruments, speakers or recordings; scores on them are reported, scores on the others serve choices.
    """

    name: str
    source: str
    clips: Tensor
    labels: Tensor
    groups: Tensor
    never: Tensor
    class_names: tuple[str, ...] = field(repr=False)

    def labels_of(self, *, never: bool) -> Tensor:
        """The labels of the clips never heard, or of those heard; -1 for the others."""
        return torch.where(self.never == never, self.labels, -1)


def data_set(source: str) -> DataSet:
    """The rules for a data set by its name."""
    return next((known for known in DATA_SETS if source.startswith(known.start)), OTHER)


def held_names(names: Iterable[str], kind: str) -> frozenset[str]:
    """A quarter of the names, at least one of two: those with the least hash of seed, kind and name."""
    ordered = sorted(
        set(names),
        key=lambda name: hashlib.sha256(f"{HELD_SEED}/{kind}/{name}".encode()).hexdigest(),
    )
    n_held = max(round(HELD_SHARE * len(ordered)), 1) if len(ordered) > 1 else 0
    return frozenset(ordered[:n_held])


def held_out(sounds: Sequence[Sound]) -> Tensor:
    """Which clips training does not hear, `(n,)` bool."""
    held = torch.zeros(len(sounds), dtype=torch.bool)
    for source, places in _by_source(sounds).items():
        rules, kind = data_set(source), data_set(source).start
        if not rules.held_by:
            continue
        column = {i: sounds[i].value(rules.held_by) for i in places}
        if rules.listed:
            labels = {text for text in column.values() if text}
            names = held_out_classes(tuple(labels)) if len(labels) > 1 else ()
            names = {("", name) for name in names}
        else:
            strata: dict[str, set[str]] = {}
            for i in places:
                strata.setdefault(sounds[i].value(rules.within), set()).add(column[i])
            names = {
                (s, n) for s, inside in strata.items() for n in held_names(inside, f"{kind}{s}")
            }
        for i in places:
            stratum = "" if rules.listed else sounds[i].value(rules.within)
            like = sounds[i].value("label") in rules.too_like
            held[i] = (stratum, column[i]) in names or like
    return held


def tasks(sounds: Sequence[Sound]) -> list[Task]:
    """The tasks that these clips allow, in the order of `DATA_SETS`: two classes or more, each clip with a label."""
    held, made = held_out(sounds), []
    by_source = _by_source(sounds)
    for source in sorted(by_source, key=lambda s: [*DATA_SETS, OTHER].index(data_set(s))):
        for name, label, group in data_set(source).tasks:
            clips = [i for i in by_source[source] if sounds[i].value(label)]
            classes = tuple(sorted({sounds[i].value(label) for i in clips}))
            apart = sorted({sounds[i].value(group) for i in clips})
            if len(classes) < 2 or len(apart) < 2:
                continue
            made.append(
                Task(
                    name=name,
                    source=source,
                    clips=torch.tensor(clips),
                    labels=_numbers([sounds[i].value(label) for i in clips], classes),
                    groups=_numbers([sounds[i].value(group) for i in clips], apart),
                    never=held[clips],
                    class_names=classes,
                )
            )
    return made


def list_sounds(root: str | Path, *, skipped: list[Skip] | None = None) -> list[Sound]:
    """The clips of a folder of data sets, of one data set, of a CSV manifest, or of any folder of sounds.

    A data set is a folder laid out as ESC-50 or FSDD, or one with a `manifest.csv` (columns path, label). Beside
    data sets other folders give clips without labels; in a folder without any, sub-folders are classes, or those in
    `train/` and `test/`. What is left out before it is read is appended to `skipped`, or warned of without such a list.
    Raises FileNotFoundError, or ValueError when nothing is there or a data script must prepare it.
    """
    root, left_out = user_path(root), []
    if os.path.isfile(root):
        sounds = _rows(root, root.stem, left_out)
    elif not os.path.isdir(root):
        raise FileNotFoundError(f"no sounds at {root}; give a folder of sounds or a CSV manifest")
    elif (sounds := _of_data_set(root, left_out)) is None:
        sounds = _of_folder(root, left_out)
    lines = by_reason(left_out)
    if skipped is not None:
        skipped += left_out
    elif lines:
        warnings.warn("\n".join([f"{root}: left out", *lines]), stacklevel=2)
    if not sounds:
        found = f" ({', '.join(line.strip() for line in lines)})" if lines else ""
        raise ValueError(f"no sounds below {root}{found}; use WAV, FLAC, OGG or MP3 files")
    return sounds


def embedded_sounds(parts: Sequence[tuple[str, Clips]]) -> list[Sound]:
    """The clips of `synthetic_clips` as sounds, from pairs of pool and clips; the columns are their tasks."""
    return [
        Sound(
            f"embedded {pool}",
            name,
            {task: clips.class_names[task][clips.labels[task][i]] for task in clips.labels},
        )
        for pool, clips in parts
        for i, name in enumerate(clips.names)
    ]


def _of_folder(root: Path, skipped: list[Skip]) -> list[Sound]:
    """The clips of the data sets and other folders in a folder, each file once, folder by folder after loose files."""
    sets: dict[Path, list[Sound]] = {}
    seen = {os.path.realpath(folder) for folder in (root, *root.resolve().parents)}
    for folder in sorted(folders_in(root), key=Path.is_symlink):  # what it really is comes first
        own: list[Skip] = []
        if shown(folder.name) != folder.name or os.path.realpath(folder) in seen:
            continue  # `audio_in` names it
        if (part := _of_data_set(folder, own)) is not None:
            seen.add(os.path.realpath(folder))
            sets[folder] = part
            skipped += [Skip(f"{folder.name}/{skip.name}", skip.reason) for skip in own]
    if not sets:
        refuse_unprepared(root)
    taken = {os.path.realpath(sound.path) for part in sets.values() for sound in part}
    files = audio_in(root, skipped, deep=True, without=sets, taken=taken)
    below = {path: path.relative_to(root).parts for path in files}
    divided = are_splits(parts[0] for parts in below.values() if len(parts) > 1)
    by_folder = {folder.name: part for folder, part in sets.items()}
    for path, parts in below.items():
        folder = parts[0] if len(parts) > 1 else ""
        if sets:
            name = "/".join(parts[1:]) or parts[0]
            sound = Sound(folder or shown(root.name), name, {"label": ""}, str(path))
        else:
            label = class_folder(parts[:-1], divided)
            sound = Sound(shown(root.name), "/".join(parts), {"label": label}, str(path))
        by_folder.setdefault(folder, []).append(sound)
    return _told_apart([sound for name in sorted(by_folder) for sound in by_folder[name]], root)


def _told_apart(sounds: list[Sound], root: Path) -> list[Sound]:
    """The sounds; one whose name another of its set has is called by its path below the root."""
    seen, apart = set(), []
    for sound in sounds:
        if (sound.source, sound.name) in seen:
            sound = replace(sound, name=Path(os.path.relpath(sound.path, root)).as_posix())
        seen.add((sound.source, sound.name))
        apart.append(sound)
    return apart


def _of_data_set(folder: Path, skipped: list[Skip]) -> list[Sound] | None:
    """The clips of a folder that is a data set, else None."""
    if is_esc50(folder):
        listing = list_esc50(folder)
        skipped += listing.skipped
        return [
            Sound("ESC-50", e.name, {"label": e.labels["event"], "group": e.groups["event"]}, str(e.path))
            for e in listing.entries
        ]  # fmt: skip
    if is_fsdd(folder):
        listing = list_fsdd(folder)
        skipped += listing.skipped
        return [Sound("FSDD", e.name, dict(e.labels), str(e.path)) for e in listing.entries]
    manifest = folder / "manifest.csv"
    return _rows(manifest, folder.name, skipped) if os.path.isfile(manifest) else None


def _rows(manifest: Path, source: str, skipped: list[Skip]) -> list[Sound]:
    rows = list_rows(manifest, skipped, needed=("path",))
    return [Sound(shown(source), row.name, row.values, str(row.file)) for row in rows]


def _by_source(sounds: Sequence[Sound]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for i, sound in enumerate(sounds):
        places.setdefault(sound.source, []).append(i)
    return places


def _numbers(values: Sequence[str], names: Sequence[str]) -> Tensor:
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index[value] for value in values])
