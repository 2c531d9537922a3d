"""Batches in the order of the run, read ahead while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from audiossl_lite.devices import send
from audiossl_lite.training.sources import ClipSource, InMemory


def batches(
    source: ClipSource,
    device: torch.device,
    steps: range,
    chosen: Callable[[int], Tensor],
    ahead: int = 2,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Clips and clip numbers `(B,)` on `device`, and lengths `(B,)` on the host, of each step.

    `chosen(step)` says which clips.
    Sources on disk are read by a thread, `ahead` batches in advance. An error while reading is raised at its step.
    """

    def fetch(step: int) -> tuple[Tensor, Tensor, Tensor]:
        ids = chosen(step)
        return *source.batch(ids, device), send(ids, device)

    if ahead == 0 or isinstance(source, InMemory):
        yield from map(fetch, steps)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="clips") as reader:
        waiting: deque = deque()
        try:
            for step in steps:
                waiting.append(reader.submit(fetch, step))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
