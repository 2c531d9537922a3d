"""One step of training, the algorithm box of the papers: views, forward, backward, update, teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from audiossl_lite.methods.distributed import join_batch_norms
from audiossl_lite.methods.teacher import cosine_momentum
from audiossl_lite.training.compute import Compute
from audiossl_lite.training.feed import step_generator
from audiossl_lite.training.optim import make_optimizer, set_schedule

if TYPE_CHECKING:
    from lightning.fabric import Fabric


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
    generator = step_generator(run.config.seed, step, run.fabric.global_rank)
    torch.manual_seed(generator.initial_seed())  # of dropout, on all devices; nobody waits
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
