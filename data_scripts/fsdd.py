"""FSDD, the Free Spoken Digit Dataset: 3,000 digits by six speakers, in the makers' layout, and two manifests.

python data_scripts/fsdd.py fetch --to downloads
python data_scripts/fsdd.py prepare --from-archive downloads --to data/FSDD
"""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from pathlib import Path, PurePosixPath

from common import Clip, DataSet, Inventory, Plan, Remote, every, run

from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.layouts import is_fsdd

NAME = re.compile(r"(\d)_([^_]+)_(\d+)")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
N_TEST = 5  # the makers test on recordings 0 to 4 of each speaker and digit


def plan(inventory: Inventory, options: Namespace) -> Plan:
    """Label = digit and group = speaker; the second manifest has them the other way round."""
    work = Plan()
    for source in sorted(inventory.audio):
        path = PurePosixPath(source)
        if path.parts[-2:-1] not in ((), ("recordings",)):
            continue
        parts = NAME.fullmatch(path.stem)
        if parts is None:
            work.skipped.append((source, "file name is not {digit}_{speaker}_{index}"))
            continue
        digit, speaker, index = DIGITS[int(parts[1])], parts[2], int(parts[3])
        more = {"digit": digit, "speaker": speaker, "index": str(index)}
        split = "test" if index < N_TEST else "train"
        work.clips.append(Clip(source, f"recordings/{path.name}", digit, speaker, split, more))
    return work


def check_layout(folder: Path) -> list[str]:
    """Faults of a folder in the makers' layout that `prepare` has not filled."""
    if not is_fsdd(folder):
        return [
            f"{folder} has no recordings/{{digit}}_{{speaker}}_{{index}}.wav; give the folder above"
        ]
    clips = load_clips(folder, pool="voice")
    faults = [f"{skip.name}: {skip.reason}" for skip in clips.skipped]
    speakers, digits = len(clips.class_names["speaker"]), len(clips.class_names["digit"])
    counts = ((len(clips), 3000, "clips"), (speakers, 6, "speakers"), (digits, 10, "digits"))
    for count, expected, what in counts:
        if count != expected:
            faults.append(f"{count} {what}, the full set has {expected}")
    return faults


FSDD = DataSet(
    name="fsdd",
    title="FSDD",
    licence="CC BY-SA 4.0: works made from it are shared alike",
    size="3,000 recordings of 0.1 to 2.3 s, about 15 MB to download",
    source="https://github.com/Jakobovski/free-spoken-digit-dataset",
    notes="recorded at 8 kHz: after conversion next to nothing is left above 4 kHz",
    remotes=(
        Remote(
            "free-spoken-digit-dataset-1.0.10.zip",
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
        ),
    ),
    plan=plan,
    expected={"digit": dict.fromkeys(DIGITS, 300), "split": {"train": 2700, "test": 300}},
    n_values={"speaker": 6},
    views={"manifest_speakers.csv": ("speaker", "digit", every)},
    check_layout=check_layout,
)


if __name__ == "__main__":
    sys.exit(run(FSDD))
