"""ESC-50: unpack the makers' archive into the layout that `load_clips` reads, or check a folder.

python data_scripts/esc50.py prepare --from-archive ESC-50-master.zip --to data/ESC-50
python data_scripts/esc50.py verify data/ESC-50
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

from commands import run

from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.layouts import is_esc50

N_CLIPS, N_CLASSES, N_FOLDS = 2000, 50, 5


def wanted(path: PurePosixPath) -> bool:
    """Audio, its table and its licence, nothing else of the archive."""
    inside_audio = (
        len(path.parts) == 2 and path.parts[0] == "audio" and path.suffix in (".wav", ".flac")
    )
    return inside_audio or str(path) in ("meta/esc50.csv", "LICENSE", "README.md")


def verify(folder: Path) -> list[str]:
    """What is wrong with the folder: unreadable or mislabelled files, and counts that differ."""
    if not is_esc50(folder):
        return [f"{folder} has no meta/esc50.csv beside audio/; give the folder that holds both"]
    clips = load_clips(folder)
    faults = [f"{skip.name}: {skip.reason}" for skip in clips.skipped]
    n_folds = len(set(clips.splits or ()))
    counts = (
        (len(clips), N_CLIPS, "clips"),
        (len(clips.class_names["event"]), N_CLASSES, "classes"),
    )
    for found, expected, what in (*counts, (n_folds, N_FOLDS, "folds")):
        if found != expected:
            faults.append(f"{found} {what}, the full set has {expected}")
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return run("ESC-50", wanted, verify, arguments)


if __name__ == "__main__":
    sys.exit(main())
