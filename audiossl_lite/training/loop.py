"""The training loop around `training_step`: which clips, and what is written down when."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from audiossl_lite.common.progress import progress_bar
from audiossl_lite.common.ranges import check_ranges
from audiossl_lite.training.compute import Compute, make_fabric, precision_of
from audiossl_lite.training.identity import run_identity
from audiossl_lite.training.run_folder import RunFolder
from audiossl_lite.training.sources import ClipSource, InMemory
from audiossl_lite.training.step import (
    Run,
    batch_indices,
    batches,
    start_run,
    step_generator,
    step_views,
    training_step,
)
from audiossl_lite.training.watch import (
    CollapseError,
    NotFiniteError,
    check_health,
    check_weights,
    step_values,
    tell_precision,
)

__all__ = [
    "CollapseError",
    "NotFiniteError",
    "TrainConfig",
    "TrainingResult",
    "batch_indices",
    "step_generator",
    "train",
]


NO_MEMORY = "can't allocate memory"  # what torch says on a CPU, where it has no class for it


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
    precision: str = "32-true"  # or "bf16-mixed", or "auto", see `precision_for`
    log_every: int = 10
    save_every: int = 200
    probe_every: int = 0
    on_collapse: str = "stop"  # or "continue", to watch one
    collapse_share: float = 0.05  # of the healthy spread 1 / sqrt(projection_dim)

    def __post_init__(self) -> None:
        check_ranges(self)
        choices = {"schedule": ("cosine", "constant"), "on_collapse": ("stop", "continue")}
        for name, (one, other) in choices.items():
            if getattr(self, name) not in (one, other):
                raise ValueError(f"{name} is {one!r} or {other!r}, got {getattr(self, name)!r}")


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
    NotFiniteError or CollapseError with the step and what to try, and MemoryError with the batch that does not fit; the
    history up to there is kept.

    Where: ATST Sec. 2.1, 3.1; chapter 05
    """
    source = InMemory(data, lengths) if isinstance(data, Tensor) else data
    if len(source) < 2:
        raise ValueError(f"training needs at least two clips, got {len(source)}")
    if config.batch_size > len(source):
        warnings.warn(
            f"batch_size={config.batch_size} is more than the {len(source)} clips: each step takes all of them",
            stacklevel=2,
        )
    fabric = make_fabric(device, config.precision)
    if config.batch_size % fabric.world_size:
        raise ValueError(
            f"a batch of {config.batch_size} clips does not divide among {fabric.world_size} processes"
        )
    # Dropout draws from the global state: give it back as it was.
    with torch.random.fork_rng(devices=[]):
        log = RunFolder(output_dir, writes=fabric.is_global_zero)
        try:
            identity = run_identity(method, views, source, config)
            compute = compute or Compute()
            run = start_run(fabric, method, views, config, compute)
            log.start({"method": method, "views": run.views, "optimizer": run.optimizer}, identity)
            tell_precision(precision_of(fabric), fabric.device.type, log.history)
            return _train(
                run, source, log, probe=probe, description=description, stop_after=stop_after,
                prefetch=compute.prefetch,
            )  # fmt: skip
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and NO_MEMORY not in str(error):
                raise
            raise MemoryError(
                f"a step with batch_size={config.batch_size} does not fit into the memory of {fabric.device}; "
                "take a smaller one, or n_parts=2 or more"
            ) from error
        finally:
            log.close()


def _train(
    run: Run, source: ClipSource, log: RunFolder, *, probe, description, stop_after, prefetch
) -> TrainingResult:
    config, method, fabric = run.config, run.method, run.fabric
    result = TrainingResult(method, log.history, log.seconds, log.step, precision_of(fabric))
    last_step = config.steps if stop_after is None else min(config.steps, stop_after)
    steps = range(log.step, last_step)
    began = time.perf_counter() - log.seconds
    if probe and log.step == 0 and config.probe_every:
        log.write(step=0, **probe(method))

    def chosen(step: int) -> Tensor:
        clips = batch_indices(len(source), config.batch_size, step, config.seed)
        share = len(clips) // fabric.world_size
        return clips.split(share)[fabric.global_rank]

    with progress_bar(len(steps) * fabric.is_global_zero, description) as bar:
        feed = batches(source, fabric.device, steps, chosen, prefetch)
        for step, (clips, lengths, ids) in zip(steps, feed):
            done = step + 1
            logged = done % config.log_every == 0 or done in (1, last_step)

            # Views; then forward, backward, step, teacher.
            batch = step_views(run, step, clips, lengths, ids)
            out, schedule = training_step(run, step, batch, monitors=logged)

            # Only steps that are logged, probed or saved wait for the device.
            values = step_values(out, run) if logged else {}
            result.seconds = time.perf_counter() - began
            row = {"step": done, "seconds": round(result.seconds, 3)}
            if logged:
                named = {"precision": result.precision, **schedule}
                check_health(log.write(**row, **named, **values), method, config)
            bar.update(1, **{k: values[k] for k in ("loss", "spread") if k in values})
            if probe and _due(done, config.probe_every, last_step):
                log.write(**row, **probe(method))
            if _due(done, config.save_every, last_step):
                check_weights(method, done)
                log.save(done, result.seconds)
    return result


def _due(done: int, every: int, last_step: int) -> bool:
    return bool(every) and (done % every == 0 or done == last_step)
