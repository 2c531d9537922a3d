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
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

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
    read_csv,
    refuse_unprepared,
)

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


def list_sounds(root: str | Path) -> list[Sound]:
    """The clips of a folder of data sets, of one data set, of a CSV manifest, or of any folder of sounds.

    A data set is a folder laid out as ESC-50 or FSDD, or one with a `manifest.csv` (columns path, label). Beside
    data sets other folders give clips without labels; in a folder without any, sub-folders are classes, or those in
    `train/` and `test/`. Raises FileNotFoundError, or ValueError when nothing is there or a data script must prepare
    it; warns of what is left out before it is read.
    """
    root = Path(root).expanduser()
    if os.path.isfile(root):
        return _rows(root, root.stem)
    if not os.path.isdir(root):
        raise FileNotFoundError(f"no sounds at {root}; give a folder of sounds or a CSV manifest")
    skipped: list[Skip] = []
    sounds = _of_data_set(root, skipped)
    if sounds is None:
        parts = {folder: _of_data_set(folder, skipped) for folder in folders_in(root)}
        any_known = any(part is not None for part in parts.values())
        if not any_known:
            refuse_unprepared(root)
        divided = are_splits(folder.name for folder in parts)
        sounds = [_plain(root.name, path) for path in audio_in(root, skipped)]
        for folder, part in parts.items():
            files = audio_in(folder, skipped, deep=True) if part is None else []
            for path in files:
                below = path.relative_to(root)
                label = class_folder(below.parts[:-1], divided)
                sounds.append(
                    _plain(folder.name, path)
                    if any_known
                    else _plain(root.name, path, below.as_posix(), label)
                )
            sounds += part or []
    if skipped:
        warnings.warn("\n".join([f"{root}: left out", *by_reason(skipped)]), stacklevel=2)
    if not sounds:
        raise ValueError(f"no sounds below {root}; use WAV, FLAC, OGG or MP3 files")
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
    return _rows(manifest, folder.name) if os.path.isfile(manifest) else None


def _rows(manifest: Path, source: str) -> list[Sound]:
    return [
        Sound(source, row["path"], row, str(manifest.parent / row["path"]))
        for row in read_csv(manifest, ("path",))
        if row["path"]
    ]


def _plain(source: str, path: Path, name: str = "", label: str = "") -> Sound:
    return Sound(source, name or path.name, {"label": label}, str(path))


def _by_source(sounds: Sequence[Sound]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for i, sound in enumerate(sounds):
        places.setdefault(sound.source, []).append(i)
    return places


def _numbers(values: Sequence[str], names: Sequence[str]) -> Tensor:
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index[value] for value in values])
