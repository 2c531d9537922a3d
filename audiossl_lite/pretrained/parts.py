"""Finished batches of `embed_folder`, a file each: the same call goes on from those that are whole."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from audiossl_lite.data.packing import LOCK, writer_lock
from audiossl_lite.data.store_format import write_whole
from audiossl_lite.pretrained.tables import pack_arrays

# What a batch gave: of each row its place in the batch, samples and vector; places of files that are remarkable.
ROWS = ("place", "start", "end", "vectors")
REMARKS = ("cut_off", "loud")
KEYS = {*ROWS, *REMARKS, "skipped", "reasons"}
OWN = re.compile(r"[0-9a-f]{24}\.npz|\.[0-9a-f]{24}\.npz\..*\.aside")


@contextlib.contextmanager
def kept_parts(folder: Path) -> Iterator[None]:
    """Hold a folder of parts against other processes; when the block ends well, the parts are deleted, nothing else.

    Raises StoreError when another process holds it.
    """
    folder.mkdir(exist_ok=True)
    with writer_lock(folder):
        try:
            yield
            for path in [path for path in folder.iterdir() if OWN.fullmatch(path.name)]:
                path.unlink()
        finally:
            with contextlib.suppress(OSError):  # it may hold something, or have vanished
                (folder / LOCK).unlink()
                folder.rmdir()


def part_path(folder: str | Path, key: str) -> Path:
    """The file of the batch that is known by 24 hex digits."""
    return Path(folder) / f"{key}.npz"


def write_part(path: Path, content: Mapping[str, np.ndarray]) -> None:
    """Write what a batch gave."""
    write_whole(path, pack_arrays(content))


def read_part(path: Path, n_files: int) -> dict[str, np.ndarray] | None:
    """What a batch of so many files gave; None where there is no such part, or one that is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            content = dict(archive)
        whole = (
            content.keys() == KEYS
            and len({len(content[key]) for key in ROWS}) == 1
            and len(content["skipped"]) == len(content["reasons"])
            and {*content["place"].tolist(), *content["skipped"].tolist()} == set(range(n_files))
        )
    except Exception:  # damaged bytes can fail anywhere
        return None
    return content if whole else None
