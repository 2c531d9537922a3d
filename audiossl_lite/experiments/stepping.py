"""The training step of the loop, one call at a time: for measuring, never for training."""

from __future__ import annotations

import statistics
from dataclasses import replace

from torch import Tensor

from audiossl_lite.devices import send
from audiossl_lite.experiments.build import Parts
from audiossl_lite.experiments.counting import Counted, count
from audiossl_lite.experiments.roofline import Clock
from audiossl_lite.training import Compute
from audiossl_lite.training.compute import make_fabric, precision_of
from audiossl_lite.training.loop import batch_indices
from audiossl_lite.training.sources import ClipSource
from audiossl_lite.training.step import start_run, step_views, training_step


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
