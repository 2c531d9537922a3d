"""NSynth: 305,979 notes of 4 s; 11 instrument families (ATST), and 1,006 instruments (few-shot, uaMix-MAE).

python data_scripts/nsynth.py fetch --to downloads
python data_scripts/nsynth.py prepare --from-archive downloads --to data/NSynth
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import PurePosixPath

from common import (
    NOT_THERE,
    ArchiveError,
    Clip,
    DataSet,
    Inventory,
    Plan,
    Remote,
    every,
    run,
)
from inventory import decode

TABLE = "examples.json"
SITE = "http://download.magenta.tensorflow.org/datasets/nsynth"
MD5 = {
    "train": "fde6665a93865503ba598b9fac388660",
    "valid": "87e94a00a19b6dbc99cf6d4c0c0cae87",
    "test": "5e6f8719bf7e16ad0a00d518b78af77d",
}


def plan(inventory: Inventory, options: Namespace) -> Plan:
    """Label = family and group = instrument; the second manifest has instrument and pitch.

    Split = archive, known by the folder that holds its table.
    """
    work = Plan()
    audio = inventory.by_tail(3)
    for name, content in inventory.tables.items():
        folder = PurePosixPath(name).parent.name
        split = folder.removeprefix("nsynth-")
        if split not in MD5:
            raise ArchiveError(f"{name}: lies in no folder nsynth-train, nsynth-valid, nsynth-test")
        try:
            notes = json.loads(decode(name, content))
            for key, note in notes.items():
                _add(work, audio.get(f"{folder}/audio/{key}.wav"), split, key, note)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveError(f"{name}: not the makers' table ({error!r})") from error
    return work


def _add(work: Plan, source: str | None, split: str, key: str, note: dict) -> None:
    path = f"{split}/{key}.flac"
    if source is None:
        work.skipped.append((path, NOT_THERE))
        return
    family, instrument = note["instrument_family_str"], note["instrument_str"]
    more = {
        "instrument": instrument,
        "pitch": str(note["pitch"]),
        "velocity": str(note["velocity"]),
        "sound_source": note["instrument_source_str"],
    }
    work.clips.append(Clip(source, path, family, instrument, split, more))


NSYNTH = DataSet(
    name="nsynth",
    title="NSynth",
    licence="CC BY 4.0",
    size="305,979 notes, 23.5 GiB to download in three archives, at most 39 GB prepared",
    source="https://magenta.tensorflow.org/datasets/nsynth",
    remotes=tuple(
        Remote(
            f"nsynth-{split}.jsonwav.tar.gz",
            f"{SITE}/nsynth-{split}.jsonwav.tar.gz",
            checksum=f"md5:{digest}",
            checksum_from="the HEAR 2021 benchmark",
        )
        for split, digest in MD5.items()
    ),
    plan=plan,
    tables=(TABLE,),
    expected={"split": {"train": 289_205, "valid": 12_678, "test": 4_096}},
    n_values={"label": 11, "instrument": 1006},
    views={"manifest_instruments.csv": ("instrument", "pitch", every)},
)


if __name__ == "__main__":
    sys.exit(run(NSYNTH))
