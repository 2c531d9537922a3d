"""ESC-50: 2,000 clips of 5 s, 50 classes, five folds, in the layout that `load_clips` reads, and a manifest.

python data_scripts/esc50.py fetch --to downloads
python data_scripts/esc50.py prepare --from-archive downloads --to data/ESC-50
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path, PurePosixPath

from common import NOT_THERE, Clip, DataSet, Inventory, Plan, Remote, run

from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.layouts import is_esc50

TABLE = "esc50.csv"


def plan(inventory: Inventory, options: Namespace) -> Plan:
    """Label = category, group = source recording, split = fold; names and table stay the makers'."""
    work = Plan()
    audio = inventory.by_tail(1)
    needed = ("filename", "fold", "target", "category", "src_file", "take")
    rows = inventory.rows(TABLE, *needed)
    for row in rows:
        name, fold = row["filename"], row["fold"]
        path = f"audio/{name}"
        if name not in audio:
            work.skipped.append((path, NOT_THERE))
            continue
        more = {"fold": fold, "take": row["take"], "esc10": row.get("esc10", "")}
        group = row["src_file"]
        work.clips.append(Clip(audio[name], path, row["category"], group, fold, more))
    listed = {row["filename"] for row in rows}
    work.skipped += [
        (source, f"not in {TABLE}") for name, source in audio.items() if name not in listed
    ]
    work.keep = {f"meta/{TABLE}": inventory.table(TABLE)}
    for path, content in inventory.tables.items():
        if PurePosixPath(path).name == "LICENSE":
            work.keep["LICENSE"] = content
    return work


def check_layout(folder: Path) -> list[str]:
    """Faults of a folder in the makers' layout that `prepare` has not filled."""
    if not is_esc50(folder):
        return [f"{folder} has no meta/{TABLE} beside audio/; give the folder that holds both"]
    clips = load_clips(folder)
    faults = [f"{skip.name}: {skip.reason}" for skip in clips.skipped]
    counts = {"clips": len(clips), "classes": len(clips.class_names["event"])}
    for what, expected in (("clips", 2000), ("classes", 50)):
        if counts[what] != expected:
            faults.append(f"{counts[what]} {what}, the full set has {expected}")
    return faults


ESC50 = DataSet(
    name="esc50",
    title="ESC-50",
    licence="CC BY-NC 3.0, not for commercial use; the ESC-10 part CC BY 3.0; credits in LICENSE",
    size="2,000 clips of 5 s, about 600 MB to download, about 320 MB prepared",
    source="https://github.com/karolpiczak/ESC-50",
    notes="GitHub packs the archive on request, so its checksum may change without any new content",
    remotes=(
        Remote("ESC-50-master.zip", "https://github.com/karolpiczak/ESC-50/archive/master.zip"),
    ),
    plan=plan,
    tables=(TABLE, "LICENSE"),
    expected={"fold": {str(fold): 400 for fold in range(1, 6)}},
    n_values={"label": 50},
    check_layout=check_layout,
)


if __name__ == "__main__":
    sys.exit(run(ESC50))
