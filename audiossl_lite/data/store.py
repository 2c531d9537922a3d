"""A packed store: clips of one data set as raw numbers on disk, read without decoding.

Only raw bytes (int16 or float16) are read and travel to the device; they become float32 there. Files are read, not
mapped: a page of a file that was cut off ends the process without a word, a read that comes short is an error.
"""

from __future__ import annotations

import functools
import os
import weakref
import zlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.data.clips import Skip
from audiossl_lite.data.recipes import FULL_SCALE
from audiossl_lite.data.resident import Joined, free_bytes
from audiossl_lite.data.store_format import (
    COLUMNS,
    REMARKS,
    StoreError,
    checksum_of,
    frame_type,
    part_path,
    read_header,
    read_part,
    to_json,
)
from audiossl_lite.training.sources import whole_device

CHUNK_BYTES = 1 << 28
SPARE_SHARE = 0.05  # of the free memory: batches and fragmentation need some too


class PackedStore:
    """A folder made by `python -m audiossl_lite pack`; see `ClipSource` for how it is used.

    `kind` "waveform": int16 samples at 16 kHz; "spectrogram": float16 frames `(T, F)` of the frontend that `made`
    describes. `lengths (n,)`: valid samples or frames. `batch_length`: what every batch is padded to, so that a
    clip looks the same in any company. Raises StoreError for a folder that is no whole store; and when a clip is
    read that is not what was packed: each is compared with its checksum at first, and again once its file has changed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._header = header = read_header(self.folder)
        if header["parts"] is None:
            raise StoreError(
                f"{self.folder}: packing was interrupted; start the same command again to finish it"
            )
        self.made: dict[str, Any] = header["made"]
        self.data: str = header["data"]  # which data set, in words
        self.kind = "spectrogram" if self.made["frontend"] else "waveform"
        self._frame = frame_type(self.made)
        self._paths = [part_path(self.folder, part["number"], ".bin") for part in header["parts"]]
        manifests = self._manifests()
        counts = [part["clips"] for part in header["parts"]]
        self._part = np.repeat(np.arange(len(counts)), counts)
        self._length, self._sum = (
            np.array([value for manifest in manifests for value in manifest[key]], np.int64)
            for key in ("lengths", "sums")
        )
        self._start = np.cumsum(self._length) - self._length  # with all parts one after the other
        before = np.cumsum([0, *(part["bytes"] for part in header["parts"])])
        self._offset = self._start * self._frame.itemsize - before[self._part]
        self._files: list[int] = []
        weakref.finalize(self, _close, self._files)
        for path in self._paths:
            try:
                self._files.append(os.open(path, os.O_RDONLY))
            except OSError as error:
                raise StoreError(f"{path}: cannot be opened ({error.strerror})") from error
        self._checked = np.zeros(len(self._length), bool)
        self._state: list[tuple[int, int]] = [(0, 0)] * len(counts)
        self.lengths = torch.from_numpy(self._length)
        self.batch_length = self.made["batch_length"] or int(self._length.max(initial=0))
        self.nbytes = sum(part["bytes"] for part in header["parts"])

    def _manifests(self) -> list[dict[str, Any]]:
        parts = self._header["parts"]
        return [read_part(self.folder, self.made, part["number"], part)[0] for part in parts]

    def __len__(self) -> int:
        return len(self._length)

    def __reduce__(self) -> tuple:
        return PackedStore, (self.folder,)  # another process opens the files for itself

    @property
    def raw_type(self) -> torch.dtype:
        """int16 or float16."""
        return torch.int16 if self.kind == "waveform" else torch.float16

    @property
    def scale(self) -> float:
        """The value of a raw 1; `gain`: by how much waveforms were scaled before they became integers."""
        return 1.0 / (FULL_SCALE * self.made.get("gain", 1.0)) if self.kind == "waveform" else 1.0

    def _fill(self, clips: np.ndarray, rows: Sequence[np.ndarray]) -> None:
        """Read clips into rows of their lengths; raises StoreError for what is not what was packed."""
        for part in np.unique(self._part[clips]).tolist():
            about = os.fstat(self._files[part])
            state = (about.st_size, about.st_mtime_ns)
            if state != self._state[part]:
                self._checked[self._part == part] = False
                self._state[part] = state
        for clip, row in zip(clips.tolist(), rows):
            part = int(self._part[clip])
            try:
                n_bytes = os.preadv(self._files[part], [row], self._offset[clip])
            except OSError as error:
                self._refuse(part, f"cannot be read ({error.strerror})")
            if n_bytes != row.nbytes:
                size = os.fstat(self._files[part]).st_size
                whole = self._header["parts"][part]["bytes"]
                self._refuse(part, f"cut off, {size} bytes are left of {whole}")
            if not self._checked[clip] and zlib.crc32(row) != self._sum[clip]:
                self._refuse(part, f"clip {clip} is not what was packed (wrong checksum)")
            self._checked[clip] = True

    def _refuse(self, part: int, wrong: str) -> NoReturn:
        remedy = "copy the store again, or delete this part (.bin and .json) and pack again"
        raise StoreError(f"{self._paths[part]}: {wrong}; {remedy}")

    def read(
        self, indices: Tensor | Sequence[int], size: int | None = None, *, pinned: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Raw clips `(B, longest or size[, F])` on the CPU, padded with silence, and their lengths `(B,)`.

        Raises IndexError naming a clip that is not there, ValueError for a `size` that does not hold them.
        """
        index = torch.as_tensor(indices).cpu().long().numpy()
        outside = (index < 0) | (index >= len(self))
        if outside.any():
            raise IndexError(f"no clip {int(index[outside][0])} in a store of {len(self)} clips")
        lengths = self._length[index]
        longest = int(lengths.max(initial=0))
        size = longest if size is None else size
        if size < longest:
            raise ValueError(f"{self.folder}: a clip has {longest} frames, size is {size}")
        if pinned:
            shape = (len(index), size, *self._frame.shape)
            raw = torch.empty(shape, dtype=self.raw_type, pin_memory=True)
        else:  # numpy asks for large memory pages: half the time of torch.empty
            raw = torch.from_numpy(np.empty((len(index), size), self._frame))
        rows = raw.numpy()
        self._fill(index, [row[:length] for row, length in zip(rows, lengths)])
        for row, length in zip(rows, lengths):
            row[length:] = self.made["pad_value"]
        return raw, torch.from_numpy(lengths)

    def batch(
        self, indices: Tensor | Sequence[int], device: str | torch.device
    ) -> tuple[Tensor, Tensor]:
        """Clips `(B, batch_length[, F])` float32 on the device, and lengths `(B,)` on the host."""
        device = torch.device(device)
        on_gpu = device.type == "cuda"
        raw, lengths = self.read(indices, self.batch_length, pinned=on_gpu)
        return self.decoded(raw.to(device, non_blocking=on_gpu)), lengths

    def decoded(self, raw: Tensor) -> Tensor:
        """Raw data as float32 where they are: what soundfile gives for 16-bit files."""
        if (
            raw.device.type == "cpu"
        ):  # numpy asks for large memory pages: half the time of raw.float()
            out = torch.from_numpy(np.empty(tuple(raw.shape), np.float32)).copy_(raw)
        else:
            out = raw.float()
        return out if self.scale == 1.0 else out.mul_(self.scale)

    def raw_on(self, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """All raw data on a device, clip after clip `(N[, F])`, and where each clip starts `(n,)`.

        Behind them is room for a window of full size that starts at the last clip.
        """
        shape = (int(self._length.sum()) + self.batch_length, *self._frame.shape)
        data = torch.zeros(shape, dtype=self.raw_type, device=device)
        chunk = self._start * self._frame.itemsize // CHUNK_BYTES
        for clips in np.split(np.arange(len(self)), np.flatnonzero(np.diff(chunk)) + 1):
            starts = self._start[clips]
            first, last = starts[0], starts[-1] + self._length[clips[-1]]
            piece = np.empty(last - first, self._frame)
            self._fill(clips, np.split(piece, starts[1:] - first))
            data[first:last].copy_(torch.from_numpy(piece))
        return data, torch.from_numpy(self._start)

    def resident(self, device: str | torch.device) -> Joined:
        """The same clips with all raw data in the memory of a device.

        Raises StoreError with both numbers when there is not enough of it.
        """
        device = whole_device(device)
        free = free_bytes(device)
        if self.nbytes > free * (1 - SPARE_SHARE):
            raise StoreError(
                f"{self.folder}: its data need {self.nbytes / 2**30:.2f} GiB on {device}, "
                f"{free / 2**30:.2f} GiB are free; read it from disk with PackedStore.batch instead"
            )
        data, starts = self.raw_on(device)
        pad_value = torch.tensor(self.made["pad_value"], dtype=self.raw_type).item()
        return Joined(
            data, starts, self.lengths, size=self.batch_length, pad_value=pad_value, scale=self.scale,
            digest=self.digest(),
        )  # fmt: skip

    def digest(self) -> str:
        """Eight hex digits over how the clips were made, and over names, labels and sound of all."""
        parts = [part["content"] for part in self._header["parts"]]
        return checksum_of(to_json([self.made, parts]))[:8]

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """The clips that were left out when the data were last packed."""
        return tuple(Skip(name, reason) for name, reason, *_ in self._header["skipped"])

    @functools.cached_property
    def manifest(self) -> dict[str, list[Any]]:
        """What is known of the clips besides their sound; read when first asked for, training needs none of it.

        The columns of `store_format` and its remarks; stores packed before there was a remark have none.
        """
        parts = self._manifests()
        keys = (*COLUMNS, *REMARKS)
        return {key: list(chain(*(part.get(key, ()) for part in parts))) for key in keys}

    @property
    def source(self) -> str:
        """One line that a page can print: which data, how many clips."""
        counts = {"skipped": len(self.skipped)} | {key: len(self.manifest[key]) for key in REMARKS}
        note = "".join(f", {n} {word.replace('_', ' ')}" for word, n in counts.items() if n)
        return f"{self.data}: {len(self)} clips{note}, packed as {self.made['name']}"


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
