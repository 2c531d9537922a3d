"""Embeddings as a file that others read: NumPy's npz, CSV, or parquet where an engine for it is installed."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from audiossl_lite.common.parameters import nearest, user_path
from audiossl_lite.data.clips import Skip
from audiossl_lite.data.corpus import Sound
from audiossl_lite.data.store_format import whole_file, write_whole

PARQUET_ENGINES = ("pyarrow", "fastparquet")


@dataclass(frozen=True)
class Embeddings:
    """Rows of an embedded folder: `sounds (n)`, from second `start_s (n,)` to `end_s (n,)`, `vectors (n, D)` float32.

    A row is a file, or a chunk of one. `files`: paths as the folder has them; `places (n,)`: of their sounds in the
    list that was embedded; `skipped`: what could not be used; `cut_off`: files that have lost their end;
    `loud`: those far above full scale.
    """

    sounds: tuple[Sound, ...]
    places: np.ndarray
    files: tuple[str, ...]
    start_s: np.ndarray
    end_s: np.ndarray
    vectors: np.ndarray
    skipped: tuple[Skip, ...] = ()
    cut_off: tuple[str, ...] = ()
    loud: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the content of an npz file, the same bytes whenever it is written (`numpy.savez` puts in the time)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return buffer.getvalue()


def check_table(path: str | Path) -> Path:
    """The path of a table that can be written; ValueError for another suffix, no folder, or no parquet engine.

    Raises OSError when no file of this name can be made in its folder.
    """
    path = user_path(path)
    if path.suffix not in WRITERS:
        near = nearest(path.suffix, WRITERS)
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}; did you mean {near!r}? "
                         f"Tables are {', '.join(WRITERS)}")  # fmt: skip
    if os.path.isdir(path) or not os.path.isdir(path.parent):
        raise ValueError(
            f"{path}: {'is a folder' if os.path.isdir(path) else 'its folder is missing'}; name a file"
        )
    if path.suffix == ".parquet" and not any(map(_is_installed, PARQUET_ENGINES)):
        raise ValueError(f"{path}: parquet needs {' or '.join(PARQUET_ENGINES)}, and neither is installed; "
                         "install one, or write .npz or .csv")  # fmt: skip
    _try_to_write(path)
    return path


def _try_to_write(path: Path) -> None:
    """Begin to write the file and leave it as it was: a name may be too long, a folder closed."""

    class Enough(Exception):
        pass

    with contextlib.suppress(Enough), whole_file(path):
        raise Enough


def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


def write_table(path: str | Path, embeddings: Embeddings) -> Path:
    """Write embeddings with their files, seconds, labels and groups; a file that exists is replaced when all is ready.

    npz: arrays `file`, `start_s`, `end_s`, `label`, `group`, `embedding (n, D)`, `skipped`, `reason`, `cut_off` and
    `loud`. CSV and parquet: these columns, and `e0`, `e1`, ... for the embedding. Errors as `check_table`.
    """
    path = check_table(path)
    columns = {
        "file": np.array(embeddings.files),
        "start_s": embeddings.start_s,
        "end_s": embeddings.end_s,
        "label": np.array([sound.values.get("label", "") for sound in embeddings.sounds]),
        "group": np.array([sound.values.get("group", "") for sound in embeddings.sounds]),
    }
    write_whole(path, WRITERS[path.suffix](columns, embeddings))
    return path


def _npz(columns: dict[str, np.ndarray], embeddings: Embeddings) -> bytes:
    skipped = {
        "skipped": np.array([skip.name for skip in embeddings.skipped], dtype=np.str_),
        "reason": np.array([skip.reason for skip in embeddings.skipped], dtype=np.str_),
    }
    for remark in ("cut_off", "loud"):
        skipped[remark] = np.array(getattr(embeddings, remark), dtype=np.str_)
    return pack_arrays(columns | {"embedding": embeddings.vectors} | skipped)


def _csv(columns: dict[str, np.ndarray], embeddings: Embeddings) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*columns, *_numbered(embeddings)])
    for *values, vector in zip(
        *(column.tolist() for column in columns.values()), embeddings.vectors
    ):
        writer.writerow([*values, *(f"{value:.9g}" for value in vector)])  # float32, to the bit
    return text.getvalue().encode(errors="backslashreplace")  # names that are not UTF-8


def _parquet(columns: dict[str, np.ndarray], embeddings: Embeddings) -> bytes:
    import pandas

    vectors = dict(zip(_numbered(embeddings), embeddings.vectors.T, strict=True))
    buffer = io.BytesIO()
    pandas.DataFrame(columns | vectors).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _numbered(embeddings: Embeddings) -> list[str]:
    return [f"e{i}" for i in range(embeddings.vectors.shape[1])]


WRITERS: dict[str, Callable[[dict[str, np.ndarray], Embeddings], bytes]] = {
    ".npz": _npz, ".csv": _csv, ".parquet": _parquet,
}  # fmt: skip
