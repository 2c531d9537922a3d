"""UrbanSound8K: 8,732 clips of up to 4 s, 10 classes, ten folds.

python data_scripts/urbansound8k.py fetch --to downloads
python data_scripts/urbansound8k.py prepare --from-archive downloads --to data/UrbanSound8K
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import PurePosixPath

from common import NOT_THERE, Clip, DataSet, Inventory, Plan, Remote, run

TABLE = "UrbanSound8K.csv"
FOLD_SIZES = (873, 888, 925, 990, 936, 823, 838, 806, 816, 837)
LABELS = {
    **dict.fromkeys(
        (
            "air_conditioner",
            "children_playing",
            "dog_bark",
            "drilling",
            "engine_idling",
            "jackhammer",
            "street_music",
        ),
        1000,
    ),
    "siren": 929,
    "car_horn": 429,
    "gun_shot": 374,
}


def plan(inventory: Inventory, options: Namespace) -> Plan:
    """Label = class, group = Freesound recording, split = fold, as the makers ask for ten-fold evaluation."""
    work = Plan()
    audio = inventory.by_tail(2)
    for row in inventory.rows(TABLE, "slice_file_name", "fsID", "fold", "class"):
        name, fold = row["slice_file_name"], row["fold"]
        path = f"audio/fold{fold}/{PurePosixPath(name).stem}.flac"
        source = audio.get(f"fold{fold}/{name}")
        if source is None:
            work.skipped.append((path, NOT_THERE))
            continue
        more = {"fold": fold, "salience": row.get("salience", "")}
        work.clips.append(Clip(source, path, row["class"], row["fsID"], fold, more))
    work.keep = {
        PurePosixPath(path).name: content
        for path, content in inventory.tables.items()
        if path.endswith(".txt")
    }
    return work


URBANSOUND8K = DataSet(
    name="urbansound8k",
    title="UrbanSound8K",
    licence="CC BY-NC, not for commercial use (the README in the archive: 3.0; the Zenodo record: 4.0)",
    size="8,732 clips, 5.6 GiB to download, at most 1.1 GB prepared",
    source="https://zenodo.org/records/1203745 (https://urbansounddataset.weebly.com)",
    notes="evaluate on the ten folds as they are; a random split mixes slices of one recording",
    remotes=(
        Remote(
            "UrbanSound8K.tar.gz",
            "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz?download=1",
            size_bytes=6_023_741_708,
            checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
            checksum_from="Zenodo, as soundata quotes it",
        ),
    ),
    plan=plan,
    tables=(TABLE, "FREESOUNDCREDITS.txt", "UrbanSound8K_README.txt"),
    expected={
        "fold": {str(number): size for number, size in enumerate(FOLD_SIZES, start=1)},
        "label": LABELS,
    },
    n_values={"label": 10},
)


if __name__ == "__main__":
    sys.exit(run(URBANSOUND8K))
