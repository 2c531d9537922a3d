"""Which clips a step sees, with which random numbers, and how they are read ahead while the network computes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from audiossl_lite.devices import send
from audiossl_lite.training.sources import ClipSource, InMemory

Item, Result = TypeVar("Item"), TypeVar("Result")


def batch_indices(n_clips: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Clips of a step, `(batch_size,)`: every epoch is a new permutation, the incomplete last batch is dropped.

    With fewer clips than `batch_size`, a batch is one permutation of all clips.

    Where: ATST official code; chapter 05
    """
    per_epoch = max(n_clips // batch_size, 1)
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(n_clips, generator=step_generator(seed, -1 - epoch))
    return order[position * batch_size : (position + 1) * batch_size]


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """The random numbers of one step, independent of all other steps: this is what makes a resumed run exact.

    Every process of several (`rank`) has its own. They are drawn on the host, so that a GPU sees what a CPU sees.
    """
    name = f"{seed}/{step}/{rank}" if rank else f"{seed}/{step}"
    digest = hashlib.blake2b(name.encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


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

    in_memory = isinstance(source, InMemory)
    return read_ahead(
        fetch, steps, 0 if in_memory else ahead, max_workers=1, thread_name_prefix="clips"
    )


def read_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], ahead: int, **pool: Any
) -> Iterator[Result]:
    """`work` of each item in order, done up to `ahead` items in advance by the threads of a `pool`; 0: by nobody else.

    An error is raised in its turn.
    """
    if ahead == 0:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(**pool) as threads:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(threads.submit(work, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
