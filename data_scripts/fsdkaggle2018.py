"""FSDKaggle2018 ("Kaggle18" in uaMix-MAE): 11,073 clips of 0.3 to 30 s, 41 classes.

python data_scripts/fsdkaggle2018.py fetch --to downloads
python data_scripts/fsdkaggle2018.py prepare --from-archive downloads --to data/FSDKaggle2018
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import PurePosixPath

from common import NOT_THERE, Clip, DataSet, Inventory, Plan, Remote, run

TABLES = {
    "train_post_competition.csv": "train",
    "test_post_competition_scoring_clips.csv": "test",
}
SITE = "https://zenodo.org/records/2552860/files"


def plan(inventory: Inventory, options: Namespace) -> Plan:
    """Label = class, group = Freesound recording, split = the competition's training and scoring parts."""
    work = Plan()
    audio: dict[tuple[str, str], str] = {}
    for source in inventory.audio:
        path = PurePosixPath(source)
        for split in TABLES.values():
            if path.parent.name.endswith(f"audio_{split}"):
                audio.setdefault((split, path.name), source)
    for table, split in TABLES.items():
        for row in inventory.rows(table, "fname", "label"):
            name = row["fname"]
            target = f"{split}/{PurePosixPath(name).stem}.flac"
            source = audio.get((split, name))
            if source is None:
                work.skipped.append((target, NOT_THERE))
                continue
            columns = ("manually_verified", "usage", "license")
            more = {key: row.get(key, "") for key in columns}
            group = row.get("freesound_id") or name
            work.clips.append(Clip(source, target, row["label"], group, split, more))
    return work


FSDKAGGLE2018 = DataSet(
    name="fsdkaggle2018",
    title="FSDKaggle2018",
    licence="Creative Commons, clip by clip: the column `license` of the tables and of the manifest",
    size="11,073 clips, about 4.6 GB to download",
    source="https://zenodo.org/records/2552860",
    notes="a part of the training labels was not verified by hand: column `manually_verified`",
    remotes=tuple(
        Remote(f"FSDKaggle2018.{part}.zip", f"{SITE}/FSDKaggle2018.{part}.zip?download=1")
        for part in ("meta", "audio_train", "audio_test")
    ),
    plan=plan,
    tables=tuple(TABLES),
    expected={"split": {"train": 9_473, "test": 1_600}},
    n_values={"label": 41},
)


if __name__ == "__main__":
    sys.exit(run(FSDKAGGLE2018))
