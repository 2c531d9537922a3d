"""FSDD, the Free Spoken Digit Dataset: unpack the makers' archive, or check a folder.

python data_scripts/fsdd.py prepare --from-archive free-spoken-digit-dataset-1.0.10.zip --to data/FSDD
python data_scripts/fsdd.py verify data/FSDD
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

from commands import run

from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.layouts import is_fsdd

N_CLIPS, N_SPEAKERS, N_DIGITS = 3000, 6, 10


def wanted(path: PurePosixPath) -> bool:
    """Recordings, table of speakers and licence, nothing else of the archive."""
    recording = len(path.parts) == 2 and path.parts[0] == "recordings" and path.suffix == ".wav"
    return recording or str(path) in ("metadata.py", "LICENSE", "README.md")


def verify(folder: Path) -> list[str]:
    """What is wrong with the folder: unreadable or misnamed files, and counts that differ."""
    if not is_fsdd(folder):
        return [
            f"{folder} has no recordings/{{digit}}_{{speaker}}_{{index}}.wav; give the folder above"
        ]
    clips = load_clips(folder, pool="voice")
    faults = [f"{skip.name}: {skip.reason}" for skip in clips.skipped]
    speakers, digits = len(clips.class_names["speaker"]), len(clips.class_names["digit"])
    counts = (
        (len(clips), N_CLIPS, "clips"),
        (speakers, N_SPEAKERS, "speakers"),
        (digits, N_DIGITS, "digits"),
    )
    for found, expected, what in counts:
        if found != expected:
            faults.append(f"{found} {what}, the full set has {expected}")
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return run("FSDD", wanted, verify, arguments)


if __name__ == "__main__":
    sys.exit(main())
