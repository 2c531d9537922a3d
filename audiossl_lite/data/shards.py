"""Tar shards: the route for data that do not fit one disk, in the layout that WebDataset reads.

Sounds stay compressed and are decoded at every visit: less disk and less traffic than a packed store, more work.
"""

from __future__ import annotations

import functools
import io
import os
import tarfile
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional
from torch import Tensor

from audiossl_lite.data.audio import SAMPLE_RATE_HZ
from audiossl_lite.data.clips import Skip
from audiossl_lite.data.described import Described, Description
from audiossl_lite.data.pack_items import Material, find_material, pack_sounds
from audiossl_lite.data.recipes import make_recipe
from audiossl_lite.data.shard_index import ShardError, ShardIndex, index_shard
from audiossl_lite.data.store_format import aside_path, checksum_of, move_into_place, to_json
from audiossl_lite.progress import progress_bar

DECODING_THREADS = 4
LENGTH_TOLERANCE = 1600  # samples: the headers of MP3 and OGG files may be a little off


def write_shards(
    data: str | Path | Material,
    folder: str | Path,
    *,
    pool: str = "event",
    clips_per_shard: int = 1024,
    max_s: float | None = None,
    workers: int = 0,
) -> list[Skip]:
    """Write the clips of a data root as tar shards of 16-bit 16 kHz mono FLAC and JSON; returns what was skipped.

    `data`: what `load_clips` takes, or a `Material`. A shard is whole or absent. Raises ShardError for a folder
    that already holds shards, ValueError when no clip is left.
    """
    if clips_per_shard < 1:
        raise ValueError(f"clips_per_shard must be 1 or more, found {clips_per_shard}")
    material = data if isinstance(data, Material) else find_material(data, pool)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.tar")):
        raise ShardError(f"{folder}: it already holds shards; name a new folder")
    skipped = list(material.skipped)
    clips: list[tuple[str, bytes, bytes]] = []
    n_written = n_shards = 0
    sounds = pack_sounds(material.items, make_recipe("waveform", max_s), workers)
    with progress_bar(len(material.items), "writing shards") as bar:
        for item, packed in zip(material.items, sounds):
            bar.update(1, skipped=len(skipped))
            if packed.raw is None:
                skipped.append(Skip(item.name, packed.reason))
                continue
            about = {
                "name": item.name,
                "data": material.data,
                "tasks": list(material.tasks),
                "labels": item.labels,
                "groups": item.groups,
                "split": item.split,
            }
            sound = io.BytesIO()
            soundfile.write(sound, packed.raw, SAMPLE_RATE_HZ, "PCM_16", format="FLAC")
            clips.append((f"{n_written:09d}", sound.getvalue(), to_json(about)))
            n_written += 1
            if len(clips) == clips_per_shard:
                _write_shard(folder / f"shard-{n_shards:06d}.tar", clips)
                clips, n_shards = [], n_shards + 1
    if clips:
        _write_shard(folder / f"shard-{n_shards:06d}.tar", clips)
    if not n_written:
        reasons = ", ".join(sorted({skip.reason for skip in skipped})) or "no audio file found"
        raise ValueError(f"no clip left for {folder}: {reasons}")
    return skipped


def _write_shard(path: Path, clips: list[tuple[str, bytes, bytes]]) -> None:
    aside = aside_path(path)
    try:
        with open(aside, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for key, sound, about in clips:
                    for suffix, content in (("flac", sound), ("json", about)):
                        header = tarfile.TarInfo(f"{key}.{suffix}")  # no time, no owner
                        header.size = len(content)
                        tar.addfile(header, io.BytesIO(content))
            file.flush()
            os.fsync(file.fileno())
        move_into_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def rank_shards(n_shards: int, rank: int, world_size: int) -> list[int]:
    """Numbers of the shards that belong to one host or process of several: every shard to exactly one.

    Raises ValueError for a rank outside 0 .. world_size - 1, and when there are fewer shards than processes.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in 0 .. {world_size - 1}, found {rank}")
    if n_shards < world_size:
        raise ValueError(
            f"{n_shards} shards for {world_size} processes: some would have none; write smaller shards"
        )
    return list(range(rank, n_shards, world_size))


class ShardStore(Described):
    """The clips of a folder of shards (or of some of its shards, by number); see `ClipSource`.

    A clip that cannot be decoded when it is asked for becomes silence of its length: its name and the reason are
    kept in `damaged`, and the first one is warned of. Raises ShardError when there is no shard, or a bad one.
    """

    form = "in tar shards"

    def __init__(
        self,
        folder: str | Path,
        shards: Sequence[int] | None = None,
        *,
        threads: int = DECODING_THREADS,
    ) -> None:
        self.folder = Path(folder)
        paths = sorted(self.folder.glob("*.tar"))
        if not paths:
            raise ShardError(f"{self.folder}: no .tar file here; make some with write_shards")
        if shards is not None:
            wrong = [number for number in shards if not 0 <= number < len(paths)]
            if wrong:
                raise ShardError(f"{self.folder}: no shard {wrong[0]}, there are {len(paths)}")
            paths = [paths[number] for number in shards]
        self.shards: list[ShardIndex] = [index_shard(path) for path in paths]
        self._members = [(index.path, member) for index in self.shards for member in index.members]
        if not self._members:
            raise ShardError(f"{self.folder}: the shards hold no sound")
        self.lengths = torch.tensor([member.length for _, member in self._members])
        self.batch_length = int(self.lengths.max())
        self.damaged: list[Skip] = []
        self._damaged_lock = threading.Lock()
        self._n_threads = threads
        self._threads: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __reduce__(self) -> tuple:
        numbers = sorted(self.folder.glob("*.tar"))
        chosen = [numbers.index(index.path) for index in self.shards]
        return functools.partial(ShardStore, threads=self._n_threads), (self.folder, chosen)

    def batch(
        self, indices: Tensor | Sequence[int], device: str | torch.device
    ) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, batch_length)` float32 on the device, lengths `(B,)` on the host; decoded in threads."""
        index = torch.as_tensor(indices).cpu().long()
        outside = [int(i) for i in index if not 0 <= i < len(self)]
        if outside:
            raise IndexError(f"no clip {outside[0]} in shards of {len(self)} clips")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._n_threads, "decoding")
        device = torch.device(device)
        waveforms = torch.zeros(len(index), self.batch_length, pin_memory=device.type == "cuda")
        list(self._threads.map(self._decode_into, waveforms, index.tolist()))
        on_gpu = device.type == "cuda"
        return waveforms.to(device, non_blocking=on_gpu), self.lengths[index]

    def _decode_into(self, row: Tensor, index: int) -> None:
        path, member = self._members[index]
        try:
            with open(path, "rb") as file:
                file.seek(member.offset)
                content = file.read(member.size)
            waveform = decode_bytes(content)[: member.length]
            if len(waveform) < member.length - LENGTH_TOLERANCE:
                raise ValueError(f"{len(waveform)} samples, its header says {member.length}")
        except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
            self._note_damage(f"{path.name}/{member.name}", str(error))
            return
        row[: len(waveform)] = waveform

    def _note_damage(self, name: str, reason: str) -> None:
        with self._damaged_lock:
            if any(skip.name == name for skip in self.damaged):
                return
            self.damaged.append(Skip(name, reason))
            first = len(self.damaged) == 1
        if first:
            warnings.warn(
                f"{self.folder}: {name} cannot be decoded ({reason}); it becomes silence. "
                "This is said once: see ShardStore.damaged for all of them",
                stacklevel=2,
            )

    def digest(self) -> str:
        """Eight hex digits over the members of all shards: names, lengths, JSON and the head of each sound."""
        return checksum_of("\n".join(index.digest for index in self.shards).encode())[:8]

    def _describe(self) -> Description:
        about = [member.about for _, member in self._members]
        tasks = about[0].get("tasks") or sorted(about[0].get("labels", {}))
        tasks = tuple(t for t in tasks if all(t in one.get("labels", {}) for one in about))
        known = Description(about[0].get("data", self.folder.name), tasks, {})
        for (path, member), one in zip(self._members, about):
            known.names.append(one.get("name", f"{path.stem}/{member.name}"))
            known.labels.append(one.get("labels", {}))
            known.groups.append(one.get("groups", {}))
            known.splits.append(one.get("split"))
        return known


def decode_bytes(content: bytes) -> Tensor:
    """A WAV, FLAC, OGG or MP3 file in memory as 16 kHz mono float32 `(S,)`.

    Raises what soundfile raises, or ValueError for samples that are not finite.
    """
    samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    if not np.isfinite(samples).all():
        raise ValueError("it holds NaN or infinite samples")
    waveform = torch.from_numpy(samples.mean(axis=1))
    if rate_hz != SAMPLE_RATE_HZ:
        waveform = torchaudio.functional.resample(waveform, rate_hz, SAMPLE_RATE_HZ)
    return waveform
