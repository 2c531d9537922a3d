"""A packed store in the memory of a device: batches are then one gather, and nothing is read or sent any more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audiossl_lite.data.recipes import decode_raw
from audiossl_lite.data.store_format import StoreError
from audiossl_lite.devices import send
from audiossl_lite.training.sources import whole_device

if TYPE_CHECKING:
    from audiossl_lite.data.store import PackedStore

CHUNK_BYTES = 1 << 28
SPARE_SHARE = 0.05  # of the free memory: batches and fragmentation need some too


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, or of the host, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():  # not Linux: all that the machine has
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) * 1024


class ResidentStore:
    """All raw data of a store on a device, with the interface of the store.

    Raises StoreError with both numbers when the device has not enough memory.
    """

    def __init__(self, store: PackedStore, device: str | torch.device) -> None:
        self.device = whole_device(device)
        self.lengths, self.batch_length = store.lengths, store.batch_length
        self._digest = store.digest()
        self._pad_value = store.made["pad_value"]
        # Clips lie one after the other; a window of full size that starts at the last clip must still exist.
        n_frames = sum(len(part) for part in store.parts()) + self.batch_length
        shape = (n_frames, *store.frame_shape)
        needed = torch.Size(shape).numel() * store.raw_type.itemsize
        free = free_bytes(self.device)
        if needed > free * (1 - SPARE_SHARE):
            raise StoreError(
                f"{store.folder}: its data need {needed / 2**30:.2f} GiB on {self.device}, "
                f"{free / 2**30:.2f} GiB are free; read it from disk with PackedStore.batch instead"
            )
        self._data = torch.full(shape, self._pad_value, dtype=store.raw_type, device=self.device)
        self.nbytes = needed
        self._fill(store)
        # Row k of this view is the window that starts at frame k. It takes no memory of its own.
        stride = self._data.stride()
        size = (max(n_frames - self.batch_length, 0) + 1, self.batch_length, *store.frame_shape)
        self._windows = self._data.as_strided(size, (stride[0], *stride))
        self._starts = store.starts().to(self.device)
        self._padded = bool((self.lengths < self.batch_length).any())

    def _fill(self, store: PackedStore) -> None:
        place = 0
        rows = max(CHUNK_BYTES // max(self._data[:1].nbytes, 1), 1)
        for part in store.parts():
            for first in range(0, len(part), rows):
                piece = torch.from_numpy(part[first : first + rows])
                self._data[place : place + len(piece)].copy_(piece)
                place += len(piece)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(
        self, indices: Tensor | Sequence[int], device: str | torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """Clips `(B, batch_length[, F])` float32 on `device` (default: where data are); lengths `(B,)` on the host."""
        index = torch.as_tensor(indices)
        lengths = self.lengths[index].clamp(max=self.batch_length)
        raw = self._windows[self._starts[send(index, self.device)]]
        if self._padded:  # a window reaches into the next clip where its own clip is short
            place = torch.arange(self.batch_length, device=self.device)
            beyond = place >= send(lengths, self.device)[:, None]
            beyond = beyond.view(*beyond.shape, *(1,) * (raw.dim() - 2))
            raw.masked_fill_(beyond, self._pad_value)
        device = self.device if device is None else device
        return decode_raw(raw).to(device), lengths

    def digest(self) -> str:
        """That of the store: the same clips give the same run."""
        return self._digest
