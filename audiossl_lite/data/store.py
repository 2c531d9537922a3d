"""A packed store: clips of one data set as raw numbers on disk, read without decoding.

Only raw bytes (int16 or float16) are read and travel to the device; they become float32 there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.data.audio import SAMPLE_RATE_HZ
from audiossl_lite.data.clips import Clips, Skip
from audiossl_lite.data.labelling import Labelling, number_labels
from audiossl_lite.data.recipes import decode_raw
from audiossl_lite.data.store_format import (
    PART_KEYS,
    RAW_TYPES,
    StoreError,
    checksum_of,
    part_path,
    read_header,
    read_json,
    to_json,
)

if TYPE_CHECKING:
    from audiossl_lite.data.resident import ResidentStore

CLIPS_LIMIT_GIB = 8.0  # `Clips` hold everything in memory, padded to the longest one


class Known(NamedTuple):
    """Names, labels, splits and skips of the clips of a store; `clipped`: those with samples beyond full scale."""

    names: tuple[str, ...]
    labelling: Labelling
    splits: tuple[str, ...] | None
    skipped: tuple[Skip, ...]
    clipped: tuple[str, ...]


class PackedStore:
    """A folder made by `python -m audiossl_lite pack`, memory-mapped; see `ClipSource` for how it is used.

    `kind` "waveform": int16 samples at 16 kHz; "spectrogram": float16 frames `(T, F)` of the frontend that `made`
    describes. `lengths (n,)`: valid samples or frames. `batch_length`: what every batch is padded to, so that a
    clip looks the same in any company. Raises StoreError for a folder that is no whole store.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        header = read_header(self.folder)
        if header["parts"] is None:
            raise StoreError(
                f"{self.folder}: packing was interrupted; start the same command again to finish it"
            )
        self._header = header
        self.kind: str = header["kind"]
        self.made: dict[str, Any] = header["made"]
        self.frame_shape: tuple[int, ...] = (
            () if self.kind == "waveform" else (self.made["n_mels"],)
        )
        parts = [self._open(part) for part in header["parts"]]
        self._parts = [data for data, _, _ in parts]
        self._part = np.concatenate(
            [np.full(len(offsets), number) for number, (_, offsets, _) in enumerate(parts)]
            or [np.empty(0, np.int64)]
        )
        self._offset = np.concatenate(
            [offsets for _, offsets, _ in parts] or [np.empty(0, np.int64)]
        )
        lengths = np.concatenate([lengths for _, _, lengths in parts] or [np.empty(0, np.int64)])
        self.lengths = torch.from_numpy(lengths)
        self._length = lengths
        self.batch_length = self.made["batch_length"] or int(lengths.max(initial=0))
        self.nbytes = sum(part["bytes"] for part in header["parts"])

    def _open(self, part: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Data `(frames, ...)`, offsets and lengths of a part, checked as far as its size tells."""
        data = part_path(self.folder, part["number"], ".bin")
        manifest = read_json(part_path(self.folder, part["number"], ".json"), PART_KEYS)
        size = data.stat().st_size if data.is_file() else -1
        if size != part["bytes"]:
            found = "is missing" if size < 0 else f"has {size} bytes, not {part['bytes']}"
            raise StoreError(f"{data} {found}; copy the store again, or delete it and pack again")
        offsets = np.array(manifest["offsets"], np.int64)
        lengths = np.array(manifest["lengths"], np.int64)
        raw_type = RAW_TYPES[self.kind]
        if size == 0:  # every file of this part was skipped
            return np.empty((0, *self.frame_shape), raw_type), offsets, lengths
        # Mode "c": pages come from the file and are shared; nothing that is written ever reaches it.
        raw = np.asarray(np.memmap(data, raw_type, "c"))
        raw = raw.reshape(-1, *self.frame_shape)
        wrong = len(offsets) != part["clips"] or len(lengths) != part["clips"]
        if wrong or lengths.min() < 1 or offsets.min() < 0 or (offsets + lengths).max() > len(raw):
            raise StoreError(f"{data}: its manifest does not fit it; pack the data again")
        return raw, offsets, lengths

    def __len__(self) -> int:
        return len(self._length)

    def __reduce__(self) -> tuple:
        return PackedStore, (self.folder,)  # another process maps the files for itself

    @property
    def raw_type(self) -> torch.dtype:
        """int16 or float16."""
        return torch.int16 if self.kind == "waveform" else torch.float16

    def read(
        self, indices: Tensor | Sequence[int], size: int | None = None, *, pinned: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Raw clips `(B, longest or size[, F])` on the CPU, padded with silence, and their lengths `(B,)`.

        With `size`, longer clips are cut at the end. Raises IndexError naming a clip that is not there.
        """
        index = torch.as_tensor(indices).cpu().long().numpy()
        outside = (index < 0) | (index >= len(self))
        if outside.any():
            raise IndexError(f"no clip {int(index[outside][0])} in a store of {len(self)} clips")
        lengths = self._length[index]
        size = int(lengths.max(initial=0)) if size is None else size
        lengths = np.minimum(lengths, size)
        shape = (len(index), size, *self.frame_shape)
        if pinned:
            raw = torch.empty(shape, dtype=self.raw_type, pin_memory=True)
        else:  # numpy asks for large memory pages: half the time of torch.empty
            raw = torch.from_numpy(np.empty(shape, RAW_TYPES[self.kind]))
        rows = raw.numpy()
        places = zip(
            rows, self._part[index].tolist(), self._offset[index].tolist(), lengths.tolist()
        )
        for row, part, offset, length in places:
            row[:length] = self._parts[part][offset : offset + length]
            row[length:] = self.made["pad_value"]
        return raw, torch.from_numpy(lengths)

    def batch(
        self, indices: Tensor | Sequence[int], device: str | torch.device
    ) -> tuple[Tensor, Tensor]:
        """Clips `(B, batch_length[, F])` float32 on the device, and lengths `(B,)` on the host."""
        device = torch.device(device)
        on_gpu = device.type == "cuda"
        raw, lengths = self.read(indices, self.batch_length, pinned=on_gpu)
        raw = raw.to(device, non_blocking=on_gpu)
        return decode_raw(raw), lengths

    def resident(self, device: str | torch.device) -> ResidentStore:
        """The same clips with all raw data in the memory of a device; raises StoreError if they do not fit."""
        from audiossl_lite.data.resident import ResidentStore

        return ResidentStore(self, device)

    def parts(self) -> list[np.ndarray]:
        """The raw data of each part, `(samples,)` or `(frames, F)`: clip after clip without padding."""
        return list(self._parts)

    def starts(self) -> Tensor:
        """Where each clip begins when all parts are laid one after the other, `(n,)` long."""
        before = np.cumsum([0, *(len(part) for part in self._parts)])
        return torch.from_numpy(self._offset + before[self._part])

    def digest(self) -> str:
        """Eight hex digits over how the clips were made and the checksums of all parts."""
        sums = [
            [part["data_checksum"], part["manifest_checksum"]] for part in self._header["parts"]
        ]
        return checksum_of(to_json({"kind": self.kind, "made": self.made, "parts": sums}))[:8]

    @functools.cached_property
    def known(self) -> Known:
        """What is known of the clips besides their sound; read when first asked for, training needs none of it."""
        header = self._header
        tasks = tuple(header["tasks"])
        names, splits, clipped, labels, groups = [], [], [], [], []
        skipped = [Skip(name, reason) for name, reason in header["skipped"]]
        for part in header["parts"]:
            manifest = read_json(part_path(self.folder, part["number"], ".json"), PART_KEYS)
            names += manifest["names"]
            splits += (split or "" for split in manifest["splits"])
            clipped += manifest["clipped"]
            skipped += [Skip(name, reason) for name, reason, _ in manifest["skipped"]]
            labels += _rows(tasks, manifest["labels"])
            groups += _rows(tasks, manifest["groups"])
        return Known(
            tuple(names),
            number_labels(tasks, header["class_order"], names, labels, groups),
            tuple(splits) if any(splits) else None,
            tuple(skipped),
            tuple(clipped),
        )

    @property
    def source(self) -> str:
        """One line that a page can print: which data, how many clips."""
        note = f", {len(self.known.skipped)} skipped" if self.known.skipped else ""
        note += f", {len(self.known.clipped)} clipped" if self.known.clipped else ""
        task, classes = next(iter(self.known.labelling.class_names.items()))
        return (
            f"{self._header['data']}: {len(self)} clips, {len(classes)} classes ({task}){note}, "
            f"packed as {self.made['name']}"
        )

    def clips(self, indices: Tensor | Sequence[int] | None = None) -> Clips:
        """The clips, or those at these indices, in memory, for evaluation; waveforms only.

        Raises StoreError for a store of spectrograms and for more than CLIPS_LIMIT_GIB.
        """
        if self.kind != "waveform":
            raise StoreError(
                f"{self.folder}: it holds spectrograms; pack with --kind waveform for that"
            )
        index = torch.arange(len(self)) if indices is None else torch.as_tensor(indices)
        index = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        longest = int(self.lengths[index].max()) if len(index) else 0
        needed_gib = len(index) * longest * 4 / 2**30
        if needed_gib > CLIPS_LIMIT_GIB:
            raise StoreError(
                f"{self.folder}: {len(index)} clips in memory need {needed_gib:.0f} GiB, more than"
                f" {CLIPS_LIMIT_GIB:g}; ask for fewer with clips(indices)"
            )
        raw, lengths = self.read(index)
        known, rows = self.known, index.tolist()
        return Clips(
            waveforms=decode_raw(raw),
            lengths=lengths,
            labels={task: label[index] for task, label in known.labelling.labels.items()},
            class_names=known.labelling.class_names,
            groups={task: group[index] for task, group in known.labelling.groups.items()},
            names=tuple(known.names[row] for row in rows),
            splits=None if known.splits is None else tuple(known.splits[row] for row in rows),
            skipped=known.skipped,
            source=self.source,
            sample_rate_hz=SAMPLE_RATE_HZ,
        )


def _rows(tasks: tuple[str, ...], columns: dict[str, list[str | None]]) -> list[dict[str, str]]:
    """One mapping a clip from one column a task; what is None is left out."""
    rows = zip(*(columns[task] for task in tasks))
    return [{t: value for t, value in zip(tasks, row) if value is not None} for row in rows]
