"""The training loop around `training_step`: which clips, what is written down, and when to stop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from audiossl_lite.devices import has_bf16_units
from audiossl_lite.methods.distributed import total
from audiossl_lite.progress import progress_bar
from audiossl_lite.training.compute import Compute, make_fabric, precision_of
from audiossl_lite.training.feed import batches
from audiossl_lite.training.identity import run_identity
from audiossl_lite.training.run_log import RunLog
from audiossl_lite.training.sources import ClipSource, InMemory
from audiossl_lite.training.step import Run, start_run, step_generator, step_views, training_step

RANK_SHARE = 0.05  # of the directions that a batch can have: fewer are warned of


class NotFiniteError(RuntimeError):
    """The loss or the weights became NaN or infinite."""


class CollapseError(RuntimeError):
    """The outputs of the network became (almost) the same for every clip."""


@dataclass(frozen=True)
class TrainConfig:
    """What the loop needs to know; `learning_rate` is the rate really used, after any scaling by batch size.

    Where: ATST Sec. 3.1; chapter 05
    """

    steps: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float = 1e-6
    schedule: str = "cosine"  # or "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    final_weight_decay: float = 0.0
    momentum: float = 0.99
    final_momentum: float = 1.0
    optimizer: str = "adamw"  # or "sgd", whose momentum is the first of the betas
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 0.0  # of the gradient; 0: not clipped
    eps: float = 1e-8
    seed: int = 0
    precision: str = (
        "32-true"  # or "bf16-mixed", or "auto": what the device does fast, see `precision_for`
    )
    log_every: int = 10
    save_every: int = 200
    probe_every: int = 0
    on_collapse: str = "stop"  # or "continue", to watch one
    collapse_share: float = 0.05  # of the healthy spread 1 / sqrt(projection_dim)


@dataclass
class TrainingResult:
    """Where the run ended: the method, one record a logged step, seconds, and the first step after a resume.

    `precision`: the one that was taken, which each row of the history names, too.
    """

    method: nn.Module
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    started_at: int = 0
    precision: str = "32-true"

    def summary(self) -> str:
        """One line for a page: steps, time, first and last loss."""
        rows = [row for row in self.history if "loss" in row]  # a probe's rows have no loss
        first, last = rows[0], rows[-1]
        spread = f", spread {last['spread']:.2f} of even" if "spread" in last else ""
        return (
            f"{last['step']} steps in {self.seconds:.0f} s ({self.precision}), "
            f"loss {first['loss']:.3f} -> {last['loss']:.3f}{spread}"
        )


def batch_indices(n_clips: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Clips of a step, `(batch_size,)`: every epoch is a new permutation, the incomplete last batch is dropped.

    With fewer clips than `batch_size`, a batch is one permutation of all clips.

    Where: ATST official code; chapter 05
    """
    per_epoch = max(n_clips // batch_size, 1)
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(n_clips, generator=step_generator(seed, -1 - epoch))
    return order[position * batch_size : (position + 1) * batch_size]


def train(
    method: nn.Module,
    views: nn.Module,
    data: Tensor | ClipSource,
    config: TrainConfig,
    *,
    lengths: Tensor | None = None,
    device: str = "auto",
    output_dir: str | Path | None = None,
    probe: Callable[[nn.Module], dict[str, float]] | None = None,
    description: str = "training",
    stop_after: int | None = None,
    compute: Compute | None = None,
) -> TrainingResult:
    """Train `method` on `views` of each clip of `data`, step by step.

    `data (n, S)` waveforms or `(n, T, F)` spectrograms, as `views` wants them, with `lengths (n,)` their valid parts;
    or a `ClipSource` that has both, such as a packed store. Under `torchrun` the processes share each batch, and
    process 0 writes; `compute` says how the steps are computed.
    With an `output_dir`, `history.jsonl` grows by a line every `log_every` steps and `last.pt` is replaced every
    `save_every`; a run found there is resumed and ends, on CPU, with bit-identical weights. `probe(method)` adds
    numbers every `probe_every` steps. `stop_after` ends the call early (the rest can be resumed). Raises
    NotFiniteError or CollapseError with the step and what to try; the history up to there is kept.

    Where: ATST Sec. 2.1, 3.1; chapter 05
    """
    source = InMemory(data, lengths) if isinstance(data, Tensor) else data
    if len(source) < 2:
        raise ValueError(f"training needs at least two clips, got {len(source)}")
    fabric = make_fabric(device, config.precision)
    if config.batch_size % fabric.world_size:
        raise ValueError(
            f"a batch of {config.batch_size} clips does not divide among {fabric.world_size} processes"
        )
    # Dropout draws from the global state: give it back as it was.
    with torch.random.fork_rng(devices=[]):
        log = RunLog(output_dir, writes=fabric.is_global_zero)
        try:
            identity = run_identity(method, views, source, config)
            compute = compute or Compute()
            run = start_run(fabric, method, views, config, compute)
            log.start({"method": method, "views": run.views, "optimizer": run.optimizer}, identity)
            _tell_precision(precision_of(fabric), fabric.device.type, log.history)
            return _train(
                run, source, log, probe=probe, description=description, stop_after=stop_after,
                prefetch=compute.prefetch,
            )  # fmt: skip
        finally:
            log.close()


def _train(
    run: Run, source: ClipSource, log: RunLog, *, probe, description, stop_after, prefetch
) -> TrainingResult:
    config, method, fabric = run.config, run.method, run.fabric
    result = TrainingResult(method, log.history, log.seconds, log.step, precision_of(fabric))
    last_step = config.steps if stop_after is None else min(config.steps, stop_after)
    began, spent = time.perf_counter(), log.seconds
    if probe and log.step == 0 and config.probe_every:
        log.write(step=0, **probe(method))

    def chosen(step: int) -> Tensor:
        """This process's share of the clips of a step."""
        clips = batch_indices(len(source), config.batch_size, step, config.seed)
        each = len(clips) // fabric.world_size
        return clips[fabric.global_rank * each : (fabric.global_rank + 1) * each]

    steps = range(log.step, last_step)
    with progress_bar(len(steps) * fabric.is_global_zero, description) as bar:
        feed = batches(source, fabric.device, steps, chosen, prefetch)
        for step, (clips, lengths, ids) in zip(steps, feed):
            done = step + 1
            logged = done % config.log_every == 0 or done in (1, last_step)
            batch = step_views(run, step, clips, lengths, ids)
            out, schedule = training_step(run, step, batch, monitors=logged)

            # Only steps that are logged, probed or saved wait for the device.
            values = _values(out, run) if logged else {}
            result.seconds = spent + time.perf_counter() - began
            if logged:
                row = log.write(
                    step=done,
                    seconds=round(result.seconds, 3),
                    precision=result.precision,
                    **schedule,
                    **values,
                )
                _check_health(row, method, config)
            bar.update(1, **{k: values[k] for k in ("loss", "spread") if k in values})
            if probe and _due(done, config.probe_every, last_step):
                log.write(step=done, seconds=round(result.seconds, 3), **probe(method))
            if _due(done, config.save_every, last_step):
                _check_weights(method, done)
                log.save(done, result.seconds)
    return result


def _due(done: int, every: int, last_step: int) -> bool:
    return bool(every) and (done % every == 0 or done == last_step)


def _values(out: dict[str, Tensor], run: Run) -> dict[str, float]:
    """What a step returned as numbers, averaged over processes; one transfer for all."""
    gathered = total(torch.stack([value.detach().float() for value in out.values()]))
    numbers = [value / run.fabric.world_size for value in gathered.tolist()]
    values = dict(zip(out, numbers, strict=True))
    if "std" in values:
        values["spread"] = values["std"] * math.sqrt(run.method.projection_dim)
    return values


def _tell_precision(precision: str, device_type: str, history: list[dict]) -> None:
    """Warn of a precision that the device has no units for, and of a run that goes on in another one."""
    if precision == "bf16-mixed" and device_type == "cpu" and not has_bf16_units("cpu"):
        warnings.warn(
            "bf16-mixed on a CPU without bf16 units: a step takes about ten times as long as with 32-true; "
            "precision='auto' takes what the device does fast",
            stacklevel=3,
        )
    before = next((row["precision"] for row in reversed(history) if "precision" in row), precision)
    if before != precision:
        warnings.warn(
            f"this run went on in {before} so far and goes on in {precision}: its history says which row is which",
            stacklevel=3,
        )


def _check_health(row: dict, method: nn.Module, config: TrainConfig) -> None:
    if not math.isfinite(row["loss"]):
        raise NotFiniteError(
            f"the loss is {row['loss']} at step {row['step']} (learning rate {row['learning_rate']:.2g}); "
            "lower the learning rate, lengthen the warm-up, or look for broken clips with Clips.report()"
        )
    if config.on_collapse == "stop" and row.get("spread", 1.0) < config.collapse_share:
        raise CollapseError(
            f"collapse at step {row['step']}: the outputs spread {row['spread']:.3f} of even (loss {row['loss']:.4f}); "
            "lower the learning rate or raise the teacher's momentum; on_collapse='continue' trains on"
        )
    directions = min(config.batch_size - 1, method.projection_dim) if "rank" in row else 0
    if config.on_collapse == "stop" and directions and row["rank"] < RANK_SHARE * directions:
        warnings.warn(  # a text without numbers of the step: Python shows it once
            f"the outputs use less than {RANK_SHARE:.0%} of the {directions} directions that they could, although they "
            "spread: see `rank` in the history; a short dip at the start is normal, a lasting one is a collapse",
            stacklevel=2,
        )


def _check_weights(method: nn.Module, step: int) -> None:
    """A checkpoint of spoiled weights must not replace a good one."""
    broken = [name for name, p in method.named_parameters() if not torch.isfinite(p).all()]
    if broken:
        raise NotFiniteError(
            f"after step {step} the weights {broken[:3]} hold NaN or infinite values; the last checkpoint is kept. "
            "Lower the learning rate, lengthen the warm-up, or look for broken clips with Clips.report()"
        )
