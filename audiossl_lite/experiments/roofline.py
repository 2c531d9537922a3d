"""What a machine can do at most, measured: arithmetic by a large matrix product, traffic by a large copy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

PRECISIONS = {"32-true": torch.float32, "tf32": torch.float32, "bf16-mixed": torch.bfloat16}


def times(
    function: Callable[[], object], device: torch.device, repeats: int = 3, warm_up: int = 1
) -> list[float]:
    """Seconds of `repeats` calls after `warm_up` that do not count; see `Clock` for which seconds."""
    for _ in range(warm_up):
        function()
    clock = Clock(device)
    for _ in range(repeats):
        function()
        clock.mark()
    return clock.laps()


def best_seconds(function: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The shortest of several calls: on a CPU the one that other programs disturbed least."""
    return min(times(function, device, repeats))


class Clock:
    """Seconds between marks: `mark()` ends a lap, `laps()` gives them all, `seconds()` their sum up to now.

    On a GPU the marks are events among its work, and nothing waits until the laps are asked for. On a CPU with one
    thread it is processor time, which other programs disturb little.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[Any] = []
        self.mark()

    def mark(self) -> None:
        """End a lap and begin the next."""
        if self.device.type == "cuda":
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record(torch.cuda.current_stream(self.device))
        else:
            one = torch.get_num_threads() == 1
            self.marks.append(time.process_time() if one else time.perf_counter())

    def laps(self) -> list[float]:
        """Seconds of every lap that has ended."""
        if self.device.type != "cuda":
            return [end - start for start, end in pairwise(self.marks)]
        self.marks[-1].synchronize()
        return [start.elapsed_time(end) / 1000 for start, end in pairwise(self.marks)]

    def seconds(self) -> float:
        """Seconds since the clock was made."""
        self.mark()
        return sum(self.laps())


def peak_flops(
    device: str | torch.device = "cpu", precision: str = "32-true", size: int = 0
) -> float:
    """FLOP/s of a product of two random `(size, size)` matrices in the precision of a run, or in "tf32".

    `size`: by default 1536 on a CPU and 8192 on a GPU. The median of 5 products on a CPU and 30 on a GPU.
    """
    device = torch.device(device)
    size = size or (1536 if device.type == "cpu" else 8192)
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(size, size, generator=generator, device=device).to(PRECISIONS[precision])
        for _ in range(2)
    )
    product = torch.empty_like(left)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        took = _median_seconds(lambda: torch.mm(left, right, out=product), device)
    finally:
        torch.set_float32_matmul_precision(before)
    return 2.0 * size**3 / took


def bandwidth(device: str | torch.device = "cpu", n_bytes: int = 0) -> float:
    """Bytes a second of copies on the device, read and written both counted, of three random buffers in turn.

    `n_bytes` of a buffer: by default 128 MB on a CPU and 2 GB on a GPU, more than their caches hold.
    """
    device = torch.device(device)
    n_bytes = n_bytes or (2**27 if device.type == "cpu" else 2**31)
    buffers = [torch.rand(n_bytes // 4, device=device) for _ in range(3)]

    def copy() -> None:
        buffers.append(buffers.pop(0))
        buffers[0].copy_(buffers[1])

    return 2.0 * n_bytes / _median_seconds(copy, device)


def sending(device: str | torch.device, n_bytes: int = 0) -> float:
    """Bytes a second from pinned memory of the host to the device; on a CPU of a copy, each byte counted once.

    `n_bytes`: by default 16 MB on a CPU and 512 MB on a GPU.
    """
    device = torch.device(device)
    n_bytes = n_bytes or (2**24 if device.type == "cpu" else 2**29)
    source = torch.rand(n_bytes // 4)
    source = source.pin_memory() if device.type == "cuda" else source
    target = torch.empty_like(source, device=device)
    return n_bytes / _median_seconds(lambda: target.copy_(source, non_blocking=True), device)


def _median_seconds(function: Callable[[], object], device: torch.device) -> float:
    few = device.type == "cpu"
    return statistics.median(times(function, device, 5 if few else 30, 1 if few else 5))
