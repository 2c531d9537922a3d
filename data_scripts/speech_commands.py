"""Speech Commands v2: 105,829 words of one second, 35 classes, split by the makers' lists.

python data_scripts/speech_commands.py fetch --to downloads
python data_scripts/speech_commands.py prepare --from-archive downloads --to data/SpeechCommands
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import PurePosixPath

from common import NOT_THERE, Clip, DataSet, Inventory, Plan, Remote, run

LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}
NOISE = "_background_noise_"


def plan(inventory: Inventory, options: Namespace) -> Plan:
    """Label = word, group = speaker, split = list; the background noise is left out.

    A file name is a speaker and a count, and so occurs in many word folders: a clip is `word/name`, never `name`.
    """
    work = Plan()
    split_of = {line: split for name, split in LISTS.items() for line in inventory.lines(name)}
    audio = inventory.by_tail(2)
    for clip, source in sorted(audio.items()):
        path = PurePosixPath(clip)
        if len(path.parts) != 2 or path.parts[0] == NOISE:
            continue
        word, speaker = path.parts[0], path.stem.split("_nohash_")[0]
        if speaker == path.stem:
            work.skipped.append((source, "file name is not {speaker}_nohash_{count}"))
            continue
        target, split = f"{word}/{path.stem}.flac", split_of.get(clip, "train")
        work.clips.append(Clip(source, target, word, speaker, split))
    work.skipped += [
        (f"{PurePosixPath(clip).with_suffix('.flac')}", NOT_THERE)
        for clip in split_of
        if clip not in audio
    ]
    return work


SPEECH_COMMANDS = DataSet(
    name="speech_commands",
    title="Speech Commands v2",
    licence="CC BY 4.0 (README and LICENSE in the archive)",
    size="105,829 clips of about 1 s, 2.3 GiB to download, at most 3.4 GB prepared",
    source="https://arxiv.org/abs/1804.03209",
    remotes=(
        Remote(
            "speech_commands_v0.02.tar.gz",
            "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            size_bytes=2_428_923_189,
            checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            checksum_from="torchaudio and TensorFlow Datasets",
        ),
    ),
    plan=plan,
    tables=tuple(LISTS),
    expected={"split": {"train": 84_843, "valid": 9_981, "test": 11_005}},
    n_values={"label": 35},
)


if __name__ == "__main__":
    sys.exit(run(SPEECH_COMMANDS))
