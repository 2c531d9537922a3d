"""VoxCeleb1 for speaker identification: 153,516 utterances of 1,251 speakers, split by `iden_split.txt`.

The audio needs a registration with its makers; only the list of the split is fetched.

python data_scripts/voxceleb1.py fetch --to downloads
python data_scripts/voxceleb1.py prepare --from-archive downloads --to data/VoxCeleb1
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import PurePosixPath

from common import NOT_THERE, ArchiveError, Clip, DataSet, Inventory, Plan, Remote, run

LIST = "iden_split.txt"
SPLITS = {"1": "train", "2": "valid", "3": "test"}
AUDIO = "https://thor.robots.ox.ac.uk/~vgg/data/voxceleb/vox1a"
SHA256 = {
    "vox1_dev_wav_partaa": "21ec6ca843659ebc2fdbe04b530baa4f191ad4b0971912672d92c158f32226a0",
    "vox1_dev_wav_partab": "311d21e0c8cbf33573a4fce6c80e5a279d80736274b381c394319fc557159a04",
    "vox1_dev_wav_partac": "92b64465f2b2a3dc0e4196ae8dd6828cbe9ddd1f089419a11e4cbfe2e1750df0",
    "vox1_dev_wav_partad": "00e6190c770b27f27d2a3dd26ee15596b17066b715ac111906861a7d09a211a5",
    "vox1_test_wav.zip": "8de57f347fe22b2c24526e9f444f689ecf5096fc2a92018cf420ff6b5b15eaea",
}


def plan(inventory: Inventory, options: Namespace) -> Plan:
    """Label = speaker, group = video, split = `iden_split.txt`."""
    work = Plan()
    audio = inventory.by_tail(3)
    for line in inventory.lines(LIST):
        number, _, name = line.partition(" ")
        parts = PurePosixPath(name.strip()).parts
        if number not in SPLITS or len(parts) != 3:
            raise ArchiveError(f"{LIST}: {line!r} is not `1|2|3 speaker/video/file.wav`")
        speaker, video, file = parts
        path = f"wav/{speaker}/{video}/{PurePosixPath(file).stem}.flac"
        source = audio.get("/".join(parts))
        if source is None:
            work.skipped.append((path, NOT_THERE))
        else:
            work.clips.append(Clip(source, path, speaker, video, SPLITS[number]))
    return work


VOXCELEB1 = DataSet(
    name="voxceleb1",
    title="VoxCeleb1 (identification)",
    licence="Creative Commons Attribution, in some copies ShareAlike: read the makers' page; "
    "the videos belong to their owners",
    size="153,516 utterances, about 352 hours, at most 41 GB prepared",
    source="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
    notes="register with the makers, put the five files into the folder as they are (the four "
    "pieces need not be joined) and run `fetch` again: it compares their checksums",
    remotes=(
        Remote(LIST, "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/iden_split.txt"),
        *(
            Remote(name, f"{AUDIO}/{name}", None, f"sha256:{digest}", "torchaudio", by_hand=True)
            for name, digest in SHA256.items()
        ),
    ),
    plan=plan,
    tables=(LIST,),
    expected={"split": {"train": 138_361, "valid": 6_904, "test": 8_251}},
    n_values={"label": 1251},
)


if __name__ == "__main__":
    sys.exit(run(VOXCELEB1))
