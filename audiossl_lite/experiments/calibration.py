"""A few steps of a job, counted and timed on the machine at hand, never for training: what estimates start from."""

from __future__ import annotations

import gc
import os
import statistics
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import send
from audiossl_lite.experiments.build import Parts
from audiossl_lite.experiments.counting import Counted, count
from audiossl_lite.experiments.jobs import make_parts, synthetic_source
from audiossl_lite.experiments.records import device_name
from audiossl_lite.experiments.roofline import Clock, peak_flops
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.methods.distributed import looks_across_rows
from audiossl_lite.training import Compute, start_run, step_views, training_step
from audiossl_lite.training.compute import make_fabric, precision_of
from audiossl_lite.training.loop import batch_indices
from audiossl_lite.training.sources import ClipSource

CPU_BATCH = 2


class Stepper:
    """Steps of a job as `train` computes them, on one process, in pieces that can be timed.

    `view(step)` gives what the method takes, `learn(step, batch)` does the rest and returns the loss; `count()` counts
    a step and must be called before the first one. A test pins that losses equal those of `train`. `update=False`
    leaves out the optimiser, for machines whose memory does not hold its moments.
    """

    def __init__(
        self,
        parts: Parts,
        source: ClipSource,
        *,
        device: str = "auto",
        batch: int | None = None,
        compute: Compute | None = None,
        update: bool = True,
    ) -> None:
        config = replace(parts.config, batch_size=batch or parts.config.batch_size)
        self.fabric = make_fabric(device, config.precision)
        self.config = replace(config, precision=precision_of(self.fabric))
        self.method, self.source, self.update = parts.method, source, update
        self.compute, self._applied = compute or Compute(), False
        # The settings of `compute` wait for the first step: `count` must see what they hide.
        self.run = start_run(self.fabric, parts.method, parts.views, self.config, Compute())
        self.model, self.optimizer, self.views = self.run.model, self.run.optimizer, self.run.views

    def view(self, step: int) -> tuple[Tensor, ...]:
        """The views of the clips of a step, on the device."""
        ids = batch_indices(len(self.source), self.config.batch_size, step, self.config.seed)
        clips, lengths = self.source.batch(ids, self.fabric.device)
        return step_views(self.run, step, clips, lengths, send(ids, self.fabric.device))

    def count(self) -> Counted:
        """Count a step on the views of step 0; weights stay as they are. What the views remember is fixed memory."""
        counted = count(self.method, self.view(0), self.model, self.fabric.backward)
        remembered = sum(x.numel() * x.element_size() for x in self.views.buffers())
        return replace(counted, fixed_bytes=counted.fixed_bytes + remembered)

    def learn(self, step: int, batch: tuple[Tensor, ...]) -> Tensor:
        """Forward and backward pass, optimiser and teacher; the loss, on the device."""
        if not self._applied:
            self.compute.apply(self.method)
            self._applied = True
        return training_step(self.run, step, batch, update=self.update)[0]["loss"].detach()

    def seconds(self, steps: int, warm_up: int = 1) -> tuple[float, float]:
        """Median undisturbed seconds of a whole step, and of its views (clips included) alone; see `Clock`."""
        whole, viewed = [], []
        for step in range(warm_up + steps):
            clock = Clock(self.fabric.device)
            batch = self.view(step)
            viewed.append(clock.seconds())
            self.learn(step, batch)
            whole.append(clock.seconds())
        return statistics.median(whole[warm_up:]), statistics.median(viewed[warm_up:])


@dataclass(frozen=True)
class Calibration:
    """A few measured steps of a job on one device.

    `step_s`: median seconds of a step of `batch` clips; `data_s`: of reading and augmenting them alone.
    `peak_bytes`: what the device held at most, `measured` on a GPU, else counted. `peak_flops`: a large matrix
    product on this machine. `encoder_parts`: whether the encoder can take its batch in parts. `overrides`: the
    settings that differ from the preset.
    """

    job: str
    scale: str
    device: str
    precision: str
    threads: int
    batch: int
    steps: int
    step_s: float
    data_s: float
    counted: Counted
    peak_bytes: float
    measured: bool
    peak_flops: float
    encoder_parts: bool
    compute: Compute = field(default_factory=Compute)
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def clips_per_s(self) -> float:
        """Clips a second of whole steps."""
        return self.batch / self.step_s

    @property
    def data_clips_per_s(self) -> float:
        """Clips a second of the data path alone: clips and views."""
        return self.batch / self.data_s

    @property
    def flops_per_s(self) -> float:
        """FLOP/s that the method needed; what was computed twice does not count."""
        return self.counted.flops * self.clips_per_s

    @property
    def utilisation(self) -> float:
        """Share of `peak_flops` that went into what the method needs."""
        return self.flops_per_s / self.peak_flops


def memory_of(device: torch.device) -> int:
    """Bytes of memory that the device has: of the GPU, or of the host."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def calibrate(
    job: str,
    scale: str = "paper",
    *,
    device: str = "auto",
    batch: int | None = None,
    steps: int = 2,
    warm_up: int = 1,
    compute: Compute | None = None,
    overrides: dict[str, Any] | None = None,
    update: bool = True,
    seed: int = 0,
) -> Calibration:
    """Count and time a few steps of a job on made-up clips; nothing is read and nothing is written.

    `batch`: by default 2 on a CPU, on a GPU the job's own or as much of it as half of the memory holds. `overrides`:
    settings of the experiment, such as `{"precision": "bf16-mixed"}`. The first step is counted; `warm_up` more are
    not timed. `update=False`: without the optimiser, whose moments are two thirds of the memory of a few clips' step.
    """
    gc.collect()  # what another job left is given back before this one needs memory
    chosen, compute = find_job(job), compute or Compute()
    config = preset(chosen.experiment, scale, overrides)
    few, frontend = synthetic_source(chosen, config, CPU_BATCH, seed)
    parts = make_parts(chosen, config, frontend, seed=seed)
    stepper = Stepper(parts, few, device=device, batch=CPU_BATCH, compute=compute, update=update)
    counted, where = stepper.count(), stepper.fabric.device
    if batch is None:
        batch = CPU_BATCH if where.type == "cpu" else _largest(counted, parts, compute, where)
    if batch != CPU_BATCH:
        stepper.source, _ = synthetic_source(chosen, config, batch, seed)
        stepper.config = replace(stepper.config, batch_size=batch)
    on_gpu = where.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(where)
    step_s, data_s = stepper.seconds(steps, warm_up)
    peak = (
        torch.cuda.max_memory_allocated(where) if on_gpu else counted.memory_bytes(batch, compute)
    )
    return Calibration(
        job, scale, device_name(where), stepper.config.precision, torch.get_num_threads(), batch, steps,
        step_s, data_s, counted, float(peak), on_gpu, peak_flops(where, stepper.config.precision),
        takes_parts(parts.method), compute, dict(overrides or {}),
    )  # fmt: skip


def _largest(counted: Counted, parts: Any, compute: Compute, device: torch.device) -> int:
    wanted = parts.config.batch_size
    while wanted > CPU_BATCH and counted.memory_bytes(wanted, compute) > memory_of(device) / 2:
        wanted //= 2
    return wanted


def takes_parts(method: nn.Module) -> bool:
    """Whether a method's encoders can take the batch in parts."""
    return hasattr(method, "n_parts") and not any(
        looks_across_rows(encoder) for encoder in method.encoders.values()
    )
