"""AudioSet: balanced (20K), 200K drawn from the unbalanced part (ATST), 2M, and the evaluation set.

Its audio cannot be downloaded from its maker: `fetch` gets labels and ontology, `prepare` takes the clips that you
have, named by YouTube id (`ID.wav`, `YID.wav`, `ID_start_end.wav`), and names those that are missing.

python data_scripts/audioset.py fetch --to downloads
python data_scripts/audioset.py prepare --subset balanced --from-archive downloads clips --to data/AudioSet
"""

from __future__ import annotations

import csv
import hashlib
import re
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import PurePosixPath

from common import NOT_THERE, ArchiveError, Clip, DataSet, Inventory, Plan, Remote, Row, run
from inventory import decode

SITE = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
TABLES = {
    "balanced": "balanced_train_segments.csv",
    "unbalanced": "unbalanced_train_segments.csv",
    "eval": "eval_segments.csv",
}
PARTS = {
    "balanced": ("balanced",),
    "200k": ("unbalanced",),
    "2m": ("balanced", "unbalanced"),
    "eval": ("eval",),
}
LABELS = "class_labels_indices.csv"
N_DRAWN, SEED = 200_000, 0
NAME = re.compile(r"Y?([\w-]{11})(?:_\d+(?:\.\d+)?_\d+(?:\.\d+)?)?", re.ASCII)


def draw(ids: Iterable[str], n_drawn: int = N_DRAWN, seed: int = SEED) -> set[str]:
    """The ids whose SHA-256 of "seed:id" is lowest: the same on every machine, whatever the order of the list."""
    return set(
        sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:n_drawn]
    )


def segments(name: str, content: bytes) -> dict[str, list[str]]:
    """YouTube id -> label codes of a list of segments, whose header must agree with its length."""
    text = decode(name, content)
    lines = text.splitlines()
    rows = csv.reader((line for line in lines if line and line[0] != "#"), skipinitialspace=True)
    try:
        labelled = {row[0]: row[3].split(",") for row in rows}
    except IndexError as error:
        raise ArchiveError(f"{name}: a line has no label; download it again") from error
    counted = re.search(r"num_segs=(\d+)", text[:1000])
    if counted is None or int(counted[1]) != len(labelled):
        says = counted[1] if counted else "nothing"
        raise ArchiveError(
            f"{name}: {len(labelled)} segments, its header says {says}; download it again"
        )
    return labelled


def plan(inventory: Inventory, options: Namespace) -> Plan:
    """Label = class names joined by `;`, group = video, split = train or eval; one folder may hold all subsets."""
    work = Plan()
    names = {
        row["mid"]: row["display_name"] for row in inventory.rows(LABELS, "mid", "display_name")
    }
    if odd := [name for name in names.values() if ";" in name]:
        raise ArchiveError(f"{LABELS}: {odd[0]!r} holds the sign that separates labels")
    lists = {
        part: segments(TABLES[part], inventory.table(TABLES[part]))
        for part in PARTS[options.subset]
    }
    drawn = draw(lists["unbalanced"]) if "unbalanced" in lists else set()
    if options.subset == "200k":
        lists["unbalanced"] = {key: lists["unbalanced"][key] for key in sorted(drawn)}
    wanted = {key: part for part, labelled in lists.items() for key in labelled}
    sources: dict[str, str] = {}
    for source in sorted(inventory.audio):
        match = NAME.fullmatch(PurePosixPath(source).stem)
        if match is None or match[1] not in wanted:
            continue
        if match[1] in sources:
            work.skipped.append((source, f"second file for the id {match[1]}"))
        sources.setdefault(match[1], source)
    for key, part in wanted.items():
        # Two letters of a hash: two million files in one folder are too many for most tools.
        path = f"audio/{hashlib.sha256(key.encode()).hexdigest()[:2]}/{key}.flac"
        if key not in sources:
            work.skipped.append((path, NOT_THERE))
            continue
        codes = lists[part][key]
        label = ";".join(names.get(code, code) for code in codes)
        more = {
            "subset": part,
            "drawn_200k": "yes" if key in drawn else "",
            "codes": ";".join(codes),
        }
        split = "eval" if part == "eval" else "train"
        work.clips.append(Clip(sources[key], path, label, key, split, more))
    if options.subset == "200k":
        work.listed = {"drawn_200k": {"yes": len(drawn)}}
    else:
        work.listed = {"subset": {part: len(labelled) for part, labelled in lists.items()}}
    return work


def _view(chosen) -> tuple:
    return ("label", "group", chosen)


def _of(*parts: str):
    return lambda row: row["subset"] in parts


def _drawn(row: Row) -> bool:
    return row["drawn_200k"] == "yes"


AUDIOSET = DataSet(
    name="audioset",
    title="AudioSet",
    licence="labels CC BY 4.0, ontology CC BY-SA 4.0; the videos belong to their owners",
    size="2,085,544 segments of 10 s on its page (22,176 balanced, 2,042,985 unbalanced, 20,383 "
    "evaluation); at most 0.32 MB a clip prepared",
    source="https://research.google.com/audioset/download.html",
    notes="no audio is fetched; the segments are videos, many of which are gone by now",
    remotes=(
        *(Remote(table, f"{SITE}/{table}") for table in TABLES.values()),
        Remote(LABELS, f"{SITE}/{LABELS}"),
        Remote(
            "ontology.json",
            "https://raw.githubusercontent.com/audioset/ontology/master/ontology.json",
        ),
    ),
    plan=plan,
    tables=(LABELS, *TABLES.values()),
    views={
        "manifest_balanced.csv": _view(_of("balanced")),
        "manifest_200k.csv": _view(_drawn),
        "manifest_2m.csv": _view(_of("balanced", "unbalanced")),
        "manifest_eval.csv": _view(_of("eval")),
    },
    subsets=tuple(PARTS),
)


if __name__ == "__main__":
    sys.exit(run(AUDIOSET))
