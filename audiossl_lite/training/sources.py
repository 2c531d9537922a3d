"""Where the training loop gets its clips from: memory or a packed store, both with one interface."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from audiossl_lite.common.devices import send

SAMPLED_VALUES = 65_536


@runtime_checkable
class ClipSource(Protocol):
    """A numbered collection of clips that hands out batches on a device.

    `lengths (n,)` long, on the CPU: valid samples of waveforms, or valid frames of spectrograms.
    """

    @property
    def lengths(self) -> Tensor:
        """Valid samples or frames of each clip, `(n,)` long on the CPU."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """Clips `(B, S)` or `(B, T, F)` float32 on `device`, and their lengths `(B,)` long on the host.

        `indices (B,)` long; shorter clips are padded with silence at the end.
        """

    def digest(self) -> str:
        """A few hex digits that change with the content: which data a run was trained on."""


class InMemory:
    """Clips that are one tensor: waveforms `(n, S)` or spectrograms `(n, T, F)`, floating point.

    `lengths (n,)`: valid samples or frames; without them every clip is as long as the tensor. The first batch for a
    device copies all data there, where it stays. Raises ValueError for another rank, type or number of lengths.
    """

    def __init__(self, data: Tensor, lengths: Tensor | None = None) -> None:
        if data.ndim not in (2, 3) or not data.is_floating_point():
            raise ValueError(
                f"InMemory takes (n, S) or (n, T, F) floating-point data, got {tuple(data.shape)} {data.dtype}"
            )
        if lengths is None:
            lengths = torch.full((len(data),), data.shape[1])
        if lengths.shape != (len(data),):
            raise ValueError(f"{tuple(lengths.shape)} lengths for {len(data)} clips; give one each")
        self.data = data
        self.lengths = lengths.detach().cpu().long()
        self._on_device: dict[torch.device, Tensor] = {}
        self._digest: str | None = None

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: Tensor, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """Clips `(B, S)` or `(B, T, F)` float32 on `device`, and lengths `(B,)` long on the host."""
        device = whole_device(device)
        if device not in self._on_device:
            self._on_device[device] = self.data.to(device)
        data = self._on_device[device]
        return data[send(indices, device)].float(), self.lengths[indices]

    def digest(self) -> str:
        """The `data_digest` of the clips."""
        if self._digest is None:
            self._digest = data_digest(self.data)
        return self._digest


def whole_device(device: str | torch.device) -> torch.device:
    """The device with its number: "cuda" and "cuda:0" are then one key."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def data_digest(data: Tensor) -> str:
    """Eight hex digits over the shape and about 65,536 evenly spaced values."""
    flat = data.detach().reshape(-1)
    sample = flat[:: max(len(flat) // SAMPLED_VALUES, 1)].float().cpu()
    content = str(tuple(data.shape)).encode() + sample.numpy().tobytes()
    return hashlib.blake2b(content, digest_size=4).hexdigest()


def data_sums(data: Tensor) -> dict[str, Any]:
    """Shape, spread and four signed sums of the values that `data_digest` takes: what `same_sums` compares.

    A spectrogram that was computed with another number of threads, or on another machine, differs by rounding. It has
    another digest, but nearly the same sums; those of other clips are off by far more.
    """
    flat = data.detach().reshape(-1)
    sample = flat[:: max(len(flat) // SAMPLED_VALUES, 1)].cpu().double()
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (4, len(sample)), generator=generator).double() * 2 - 1
    sums = (signs @ sample) / max(len(sample), 1) ** 0.5
    return {
        "shape": list(data.shape),
        "spread": float(f"{float(sample.std(correction=0)):.9g}"),
        "sums": [float(f"{value:.9g}") for value in sums.tolist()],
    }


def same_sums(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two results of `data_sums` are of the same data up to rounding: sums within 0.001 of the spread."""
    near = 1e-3 * max(a["spread"], b["spread"])
    pairs = zip([a["spread"], *a["sums"]], [b["spread"], *b["sums"]], strict=True)
    return a["shape"] == b["shape"] and all(abs(x - y) <= near for x, y in pairs)
