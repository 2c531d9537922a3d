"""Clips of all lengths, one after the other in one array: decoded once on disk, then kept in the memory of a device."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.data.audio import SAMPLE_RATE_HZ, AudioError, load_audio
from audiossl_lite.data.corpus import Sound
from audiossl_lite.devices import send
from audiossl_lite.frontends import reflect_end
from audiossl_lite.training.sources import data_digest

LOUDEST = (
    2.0  # what full scale of 16 bits stands for: decoders overshoot 1.0, and nothing is clipped
)
FULL_SCALE = 32_767
LONGEST_S = 10.0  # longer files become several clips of the same group
SHORTEST_REST_S = 1.0  # of a long file; a shorter rest is left out
SILENCE = 1e-3  # of the loudest 10 ms of a clip: 60 dB below
FRAME = 160
FORMAT = 1


@dataclass(frozen=True)
class Corpus:
    """Decoded clips: `sounds`, their 16-bit samples one after the other, where each clip starts, and where it sounds.

    `samples (N,)` int16 may be a file in memory; `offsets (n + 1,)`; `spans (n, 2)`: first and last sample that
    `sounding_span` gives. `skipped`: name and reason of every file that could not be used.
    """

    sounds: tuple[Sound, ...]
    samples: np.ndarray
    offsets: Tensor
    spans: Tensor
    skipped: tuple[tuple[str, str], ...] = ()
    key: str = ""

    @property
    def lengths(self) -> Tensor:
        """Samples of each clip, `(n,)`."""
        return self.offsets.diff()

    @property
    def hours(self) -> float:
        """Hours of sound."""
        return len(self.samples) / SAMPLE_RATE_HZ / 3600.0


class Joined:
    """Clips in the memory of a device, with the interface of `ClipSource`: a batch is one gather.

    `data (N,)` samples or `(N, F)` frames; clip i is `data[starts[i] : starts[i] + lengths[i]]`, cut after `size`.
    A batch has `size` samples or frames, `pad_value` past the end of a clip; values are multiplied by `scale`.
    `origin`: what the data were computed from, which then stands for them in the digest; their last bits may differ.
    """

    def __init__(
        self,
        data: Tensor,
        starts: Tensor,
        lengths: Tensor,
        *,
        size: int,
        pad_value: float = 0.0,
        scale: float = 1.0,
        origin: str = "",
    ) -> None:
        # The window of a clip near the end must still exist.
        beyond = size - int((len(data) - starts).min())
        if beyond > 0:
            data = torch.cat([data, data.new_zeros(beyond, *data.shape[1:])])
        self.data, self.size, self.pad_value, self.scale = data, size, pad_value, scale
        self.origin = origin
        self.starts, self.lengths = starts.cpu(), lengths.cpu().clamp(max=size)
        stride = data.stride()
        rows = (len(data) - size + 1, size, *data.shape[1:])
        self._windows = data.as_strided(rows, (stride[0], *stride))  # row k starts at k; no memory

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(
        self, indices: Tensor, device: str | torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """Clips `(B, size[, F])` float32 on `device` (default: where the data are), lengths `(B,)` on the host."""
        here, lengths = self.data.device, self.lengths[indices]
        # Starts and ends in one transfer.
        numbers = send(torch.stack([self.starts[indices], lengths]), here)
        clips = self._windows[numbers[0]].float() * self.scale
        past_end = torch.arange(self.size, device=here) >= numbers[1, :, None]
        past_end = past_end.view(*past_end.shape, *(1,) * (clips.dim() - 2))
        clips.masked_fill_(past_end, self.pad_value)
        return clips.to(here if device is None else device), lengths

    def by_length(self, batch_size: int = 256) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All clips once: indices, clips cut after the longest of them, lengths; those of like length together."""
        for index in torch.argsort(self.lengths, stable=True).split(batch_size):
            clips, lengths = self.batch(index)
            yield index, clips[:, : int(lengths.max())], lengths

    def digest(self) -> str:
        """A few hex digits that change with the clips."""
        places = torch.stack([self.starts, self.lengths]).numpy().tobytes()
        origin = self.origin or data_digest(self.data)
        content = f"{origin} {self.size} {self.scale}".encode() + places
        return hashlib.blake2b(content, digest_size=4).hexdigest()


def waveforms_of(
    corpus: Corpus,
    device: torch.device,
    indices: Tensor | None = None,
    *,
    at_least_s: float | None = None,
    data: Tensor | None = None,
) -> Joined:
    """The clips with these `indices` (default: all) as waveforms on a device.

    With `at_least_s` only the part of each clip that holds sound, but no less than that many seconds where the clip
    has them. `data`: the samples, if they are on the device already.
    """
    index = torch.arange(len(corpus.sounds)) if indices is None else indices
    lengths, starts = corpus.lengths[index], corpus.offsets[index]
    if at_least_s is not None:
        first, last = corpus.spans[index].T
        needed = torch.minimum(lengths, torch.tensor(round(at_least_s * SAMPLE_RATE_HZ)))
        size = torch.maximum(last - first, needed)
        first = torch.minimum((first - (size - (last - first)) // 2).clamp_min(0), lengths - size)
        starts, lengths = starts + first, size
    if data is None:
        data = torch.from_numpy(np.asarray(corpus.samples)).to(device)
    scale = LOUDEST / FULL_SCALE
    return Joined(data, starts, lengths, size=int(lengths.max()), scale=scale)


@torch.no_grad()
def spectrograms_of(waveforms: Joined, frontend: nn.Module) -> Joined:
    """The valid frames of every clip, computed once where the waveforms are and kept there in 16 bits."""
    lengths = waveforms.lengths.clamp_min(frontend.min_samples)
    frames = frontend.n_frames(lengths)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), frames.cumsum(0)])
    data: Tensor | None = None
    for index, clips, valid in waveforms.by_length():
        missing = max(frontend.min_samples - clips.shape[1], 0)
        clips = nn.functional.pad(clips, (0, missing))
        valid = valid.clamp_min(frontend.min_samples)
        spec = frontend(reflect_end(clips, valid, frontend.edge_samples)).half()
        if data is None:
            data = spec.new_empty(int(offsets[-1]), spec.shape[2])
        for row, i in enumerate(index.tolist()):
            data[offsets[i] : offsets[i + 1]] = spec[row, : frames[i]]
    pad_value = frontend.pad_value
    if frontend.edge_samples:  # frames that reach beyond a clip's end go on into silence
        silence = torch.zeros(1, frontend.min_samples, device=data.device)
        pad_value = frontend(silence).min().item()
    constants = {k: f"{v:.5g}" for k, v in vars(frontend).items() if isinstance(v, float)}
    return Joined(
        data, offsets[:-1], frames, size=int(frames.max()), pad_value=pad_value,
        origin=f"{waveforms.digest()} {type(frontend).__name__} {constants}",
    )  # fmt: skip


def sounding_span(samples: np.ndarray) -> tuple[int, int]:
    """First and last sample (exclusive) of the 10 ms frames that are within 60 dB of the loudest one."""
    n_frames = max(len(samples) // FRAME, 1)
    frames = samples[: n_frames * FRAME].astype(np.float32).reshape(n_frames, -1)
    level = np.sqrt(np.square(frames).mean(1))
    loud = np.flatnonzero(level >= SILENCE * level.max())
    last = len(samples) if loud[-1] == n_frames - 1 else (loud[-1] + 1) * FRAME
    return int(loud[0]) * FRAME, int(last)


def write_corpus(
    folder: Path,
    sounds: Sequence[Sound],
    *,
    key: str,
    read: Callable[[Sound], Tensor] = lambda sound: load_audio(sound.path),
) -> Corpus:
    """Decode the sounds in parallel into `folder`, whole or not at all, and return them as `read_corpus` does.

    `read(sound)` gives `(S,)` float32 at 16 kHz; a file that raises AudioError is named and left out. Raises
    ValueError when none is left.
    """
    kept, pieces, spans, skipped = [], [], [], []
    for sound, clips in zip(sounds, _decoded_in_parallel(read, sounds), strict=True):
        if isinstance(clips, str):
            skipped.append((f"{sound.source}/{sound.name}", clips))
            continue
        for number, samples in enumerate(clips):
            name = f"{sound.name}#{number}" if len(clips) > 1 else sound.name
            values = {**sound.values, "group": sound.value("group")}
            kept.append(Sound(sound.source, name, values, sound.path))
            pieces.append(samples)
            spans.append(sounding_span(samples))
    if not pieces:
        reasons = sorted({reason for _, reason in skipped})
        raise ValueError(f"none of {len(sounds)} files could be used: {', '.join(reasons)}")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    np.save(aside / "samples.npy", np.concatenate(pieces))
    offsets = np.cumsum([0, *map(len, pieces)]).tolist()
    index = {"format": FORMAT, "key": key, "offsets": offsets, "spans": spans, "skipped": skipped}
    index["sounds"] = [asdict(sound) for sound in kept]
    (aside / "index.json").write_text(json.dumps(index))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return read_corpus(folder)


def read_corpus(folder: Path, key: str | None = None) -> Corpus | None:
    """What `write_corpus` left in a folder; None where nothing is, or something with another key."""
    path = folder / "index.json"
    if not path.is_file():
        return None
    index = json.loads(path.read_text())
    if index["format"] != FORMAT or key not in (None, index["key"]):
        return None
    return Corpus(
        sounds=tuple(Sound(**row) for row in index["sounds"]),
        # Written to by nobody; "c" is copy on write, so that torch takes it without a warning.
        samples=np.load(folder / "samples.npy", mmap_mode="c"),
        offsets=torch.tensor(index["offsets"]),
        spans=torch.tensor(index["spans"]),
        skipped=tuple((name, reason) for name, reason in index["skipped"]),
        key=index["key"],
    )


def listing_key(sounds: Sequence[Sound]) -> str:
    """Twelve hex digits that change with the names, columns, sizes and dates of the files."""
    digest = hashlib.sha256(f"{FORMAT}".encode())
    for sound in sounds:
        path = Path(sound.path)
        about = path.stat() if path.is_file() else None
        stamp = (about.st_size, about.st_mtime_ns) if about else None
        digest.update(
            repr((sound.source, sound.name, sorted(sound.values.items()), stamp)).encode()
        )
    return digest.hexdigest()[:12]


def _decoded_in_parallel(
    read: Callable[[Sound], Tensor], sounds: Sequence[Sound]
) -> Iterator[list[np.ndarray] | str]:
    """`_decoded` of each sound by one thread a core; each converts rates alone, for together they would be too many."""
    before = torch.get_num_threads()
    alone = {"initializer": torch.set_num_threads, "initargs": (1,)}
    try:
        with ThreadPoolExecutor(os.cpu_count(), **alone) as threads:
            yield from threads.map(partial(_decoded, read), sounds)
    finally:
        torch.set_num_threads(before)


def _decoded(read: Callable[[Sound], Tensor], sound: Sound) -> list[np.ndarray] | str:
    """The clips of a file as 16-bit samples, or why there are none."""
    try:
        waveform = read(sound).numpy()
    except AudioError as error:
        return error.reason
    scaled = np.clip(np.rint(waveform * (FULL_SCALE / LOUDEST)), -FULL_SCALE, FULL_SCALE)
    samples = scaled.astype(np.int16)
    if not samples.any():
        return "silent"
    longest = round(LONGEST_S * SAMPLE_RATE_HZ)
    parts = [samples[i : i + longest] for i in range(0, len(samples), longest)]
    rest = SHORTEST_REST_S * SAMPLE_RATE_HZ
    return [p for i, p in enumerate(parts) if i == 0 or (len(p) >= rest and p.any())]
