"""Clips of all lengths, one after the other in the memory of a device: a batch is one gather."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import send
from audiossl_lite.common.padding import as_alone
from audiossl_lite.training.sources import data_digest


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, or of the host, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():  # not Linux: all that the machine has
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) * 1024


class Joined:
    """Clips in the memory of a device, with the interface of `ClipSource`.

    `data (N,)` samples or `(N, F)` frames; clip i is `data[starts[i] : starts[i] + lengths[i]]`, cut after `size`.
    A batch has `size` samples or frames, `pad_value` past the end of a clip; values are multiplied by `scale`.
    `digest`: that of what the data were computed from, if known; their own last bits may differ.
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
        digest: str = "",
    ) -> None:
        # The window of a clip near the end must still exist.
        beyond = size - int((len(data) - starts).min())
        if beyond > 0:
            data = torch.cat([data, data.new_zeros(beyond, *data.shape[1:])])
        self.data, self.size, self.pad_value, self.scale = data, size, pad_value, scale
        self.starts, self.lengths = starts.cpu(), lengths.cpu().clamp(max=size)
        self._digest = digest
        self._padded = bool((self.lengths < size).any())
        stride = data.stride()
        rows = (len(data) - size + 1, size, *data.shape[1:])
        self._windows = data.as_strided(rows, (stride[0], *stride))  # row k starts at k; no memory

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(
        self, indices: Tensor | Sequence[int], device: str | torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """Clips `(B, size[, F])` float32 on `device` (default: where the data are), lengths `(B,)` on the host."""
        here, index = self.data.device, torch.as_tensor(indices)
        lengths = self.lengths[index]
        # Starts and lengths in one transfer.
        numbers = send(torch.stack([self.starts[index], lengths]), here)
        clips = self._windows[numbers[0]].float().mul_(self.scale)
        if self._padded:  # a window reaches into the next clip where its own clip is short
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
        """Eight hex digits that change with the clips."""
        places = self.starts.tolist(), self.lengths.tolist()
        return self._digest or digest_of(data_digest(self.data), self.size, self.scale, places)


def digest_of(*parts: object) -> str:
    """Eight hex digits over what is printed of some values."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=4).hexdigest()


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
        spec = as_alone(frontend, clips, valid).half()
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
        digest=digest_of(waveforms.digest(), type(frontend).__name__, constants),
    )  # fmt: skip
