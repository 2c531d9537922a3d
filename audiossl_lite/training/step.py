"""One step of training, the algorithm box of the papers: which clips, views, forward, backward, update, teacher."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import send
from audiossl_lite.methods.distributed import join_batch_norms
from audiossl_lite.methods.teacher import cosine_momentum
from audiossl_lite.training.compute import Compute
from audiossl_lite.training.optim import make_optimizer, set_schedule
from audiossl_lite.training.sources import ClipSource, InMemory

if TYPE_CHECKING:
    from lightning.fabric import Fabric

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


def step_generator(seed: int, step: int, rank: int = 0, of: str = "") -> torch.Generator:
    """The random numbers of one step, independent of all other steps: this is what makes a resumed run exact.

    Every process of several (`rank`) has its own, and so has what else draws in the step (`of`). They are drawn on the
    host, so that a GPU sees what a CPU sees.
    """
    name = "/".join([f"{seed}/{step}", *([str(rank)] if rank else []), *([of] if of else [])])
    digest = hashlib.blake2b(name.encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


@dataclass
class Run:
    """What the steps of a run need, on its device; `model` is `method` as Fabric calls it (precision, processes)."""

    fabric: Fabric
    method: nn.Module
    model: nn.Module
    views: nn.Module
    optimizer: torch.optim.Optimizer
    config: Any


def start_run(
    fabric: Fabric, method: nn.Module, views: nn.Module, config: Any, compute: Compute
) -> Run:
    """Switch `method` to the settings of `compute` and put everything on the device of `fabric`."""
    compute.apply(method)
    if fabric.world_size > 1:
        join_batch_norms(method)
    optimizer = make_optimizer(
        method,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=config.betas,
        eps=config.eps,
        kind=config.optimizer,
    )
    model, optimizer = fabric.setup(method, optimizer)
    return Run(fabric, method, model, views.to(fabric.device), optimizer, config)


def step_views(
    run: Run, step: int, clips: Tensor, lengths: Tensor, ids: Tensor
) -> tuple[Tensor, ...]:
    """What the method takes at a step: two views, or a masked clip, or a mixture with its labels.

    `clips (B, S)` or `(B, T, F)` and their numbers `ids (B,)` on the device, `lengths (B,)` on the host.
    """
    place = run.config.seed, step, run.fabric.global_rank
    generator = step_generator(*place)
    # Of drop path and of neighbours, on all devices; nobody waits. Not the draws of the views once more.
    torch.manual_seed(step_generator(*place, of="network").initial_seed())
    return run.views(clips, generator, lengths, ids=ids)


def training_step(
    run: Run, step: int, batch: tuple[Tensor, ...], *, monitors: bool = False, update: bool = True
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Forward, backward, step, teacher: what the method returns (its `loss`, and `monitors`), and the schedules.

    `update=False` leaves out the optimiser. Nothing here waits for the device.

    Where: ATST Sec. 2.1, 3.1; chapter 05
    """
    config = run.config
    run.model.train()
    out = run.model(*batch, monitors=monitors)
    run.fabric.backward(out["loss"])
    if config.clip_norm:
        run.fabric.clip_gradients(
            run.model, run.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
        )
    schedule = set_schedule(run.optimizer, step, config)
    if update:
        run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    momentum = cosine_momentum(step, config.steps, config.momentum, config.final_momentum)
    run.method.update_teacher(momentum)
    return out, {"momentum": momentum, **schedule}


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
