"""What a machine can do at most, measured: arithmetic by a large matrix product, traffic by a large copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class Point:
    """One operation on a roofline: arithmetic, traffic and time.

    `n_bytes`: what has to be read and written at least, if nothing in between touches the memory.
    """

    name: str
    flops: float
    n_bytes: float
    seconds: float

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.n_bytes

    @property
    def flops_per_s(self) -> float:
        """What was reached."""
        return self.flops / self.seconds


def attainable(intensity: float, peak: float, bytes_per_s: float) -> float:
    """The roof above an intensity: FLOP/s that neither the arithmetic nor the memory forbids."""
    return min(peak, intensity * bytes_per_s)


def best_seconds(function: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Shortest time of several calls after one that does not count.

    See `Clock` for which time that is.
    """
    function()
    times = []
    for _ in range(repeats):
        began = Clock(device)
        function()
        times.append(began.seconds())
    return min(times)


class Clock:
    """Seconds since it was made; on a CPU with one thread processor time, which other programs disturb little."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wait()
        self.wall_began, self.cpu_began = time.perf_counter(), time.process_time()

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self) -> float:
        """Undisturbed seconds."""
        self.wait()
        if self.device.type == "cpu" and torch.get_num_threads() == 1:
            return time.process_time() - self.cpu_began
        return time.perf_counter() - self.wall_began


def peak_flops(
    device: str | torch.device = "cpu", precision: str = "32-true", size: int = 0
) -> float:
    """FLOP/s of a product of two `(size, size)` matrices in the precision of a run.

    `size`: by default 1536 on a CPU and 8192 on a GPU.
    """
    device = torch.device(device)
    size = size or (1536 if device.type == "cpu" else 8192)
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(size, size, generator=generator, device=device).to(PRECISIONS[precision])
        for _ in range(2)
    )
    return 2.0 * size**3 / best_seconds(lambda: left @ right, device)


def bandwidth(device: str | torch.device = "cpu", n_bytes: int = 0) -> float:
    """Bytes a second of a copy, read and written both counted.

    `n_bytes`: by default 128 MB on a CPU, more than its caches hold, and 2 GB on a GPU.
    """
    device = torch.device(device)
    n_bytes = n_bytes or (2**27 if device.type == "cpu" else 2**31)
    source: Tensor = torch.ones(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2.0 * n_bytes / best_seconds(lambda: target.copy_(source), device)
