"""The training step of one job of the papers: clips a second, share of the card's arithmetic, memory, hours, energy."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel

from audiossl_lite.encoders.transformer import Block
from audiossl_lite.experiments.build import Parts
from audiossl_lite.experiments.calibration import Stepper, memory_of, takes_parts
from audiossl_lite.experiments.cost import SHARE_OF_MEMORY
from audiossl_lite.experiments.counting import Counted
from audiossl_lite.experiments.gpu.card import Watts
from audiossl_lite.experiments.gpu.fast_report import UNFINISHED, Report, Steps
from audiossl_lite.experiments.jobs import make_parts, synthetic_source
from audiossl_lite.experiments.real_sounds.task import Task
from audiossl_lite.experiments.roofline import Clock
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.training import Compute
from audiossl_lite.training.sources import ClipSource

MOST_COMPILING = 0.2  # of the time, below which nothing is compiled any more
PLAIN_BATCH = 256  # float32 with its attention weights in memory: the paper's batch would not fit
Result = TypeVar("Result")


def run(task: Task) -> None:
    """Time the step of `task.stage.options["job"]` in several forms; each is recorded as soon as it is known."""
    job, on_gpu = find_job(task.stage.options["job"]), task.device.type == "cuda"
    precision = {"precision": "bf16-mixed" if on_gpu else "32-true"}
    config = preset(job.experiment, "lite" if task.toy else "paper", precision)
    parts = make_parts(job, config, synthetic_source(job, config, 2)[1])
    batch = 2 if task.toy else parts.config.batch_size
    source, _ = synthetic_source(job, config, batch)
    budget_s = 0.1 if task.toy else 0.05 * task.seconds
    timing = Timing(parts, source, task.device, budget_s)
    report = Report(task, parts, timing.counted())

    fused = report.add("fused", first_that_fits(timing.measure, timing.ways(batch)))
    with plainly():
        plain = replace(parts, config=replace(parts.config, precision="32-true"))
        measure = replace(timing, parts=plain).measure
        ways = fewer_clips(min(batch, PLAIN_BATCH))
        report.attempt("plain", partial(first_that_fits, measure, ways))
    report.add_profile("fused", timing.profile)
    in_blocks = any(isinstance(part, Block) for part in parts.method.modules())
    programs = ("blocks", "step") if in_blocks else ("step",)
    # A toy run only pretends, for compiling takes a CPU long.
    with torch.compiler.set_stance("default" if on_gpu else "force_eager"):
        for name in programs:
            way = (fused.batch, replace(fused.compute, compile=name))
            # A compiler cannot be interrupted: when the time ends, the runner ends the stage, and this stands.
            report.unfinished(name)
            if task.left() > MOST_COMPILING * task.seconds:
                report.attempt(name, partial(compiled, timing, way))
        best = report.steps[report.fastest]
        way = (best.batch, best.compute)
        if report.fastest != "fused" and task.left() > 0.15 * task.seconds:
            report.add_profile(report.fastest, timing.profile)
        others = variants(way, takes_parts(parts.method))
        for name, other in islice(others, 1 if task.toy else None):
            if task.left() > 0.4 * task.seconds:
                report.attempt(name, partial(timing.measure, other))
    report.write(complete=UNFINISHED not in report.failed.values())


def compiled(timing: Timing, way: tuple[int, Compute]) -> Steps:
    """The steps of `way` or of one in more parts."""
    return first_that_fits(timing.measure, [way, *more_parts(way)])


@dataclass
class Timing:
    """Measures the steps of a job on clips that stay on the device; `budget_s`: about how long each form may take."""

    parts: Parts
    source: ClipSource
    device: torch.device
    budget_s: float

    def stepper(self, batch: int, compute: Compute | None = None) -> Stepper:
        """The job's steps with a batch and a way to compute it."""
        free_memory()  # that of the last one
        return Stepper(
            self.parts, self.source, device=self.device.type, batch=batch, compute=compute
        )

    def counted(self) -> Counted:
        """FLOPs and weights, counted on two clips."""
        return self.stepper(2).count()

    def ways(self, batch: int) -> Iterator[tuple[int, Compute]]:
        """Ways to take a batch, the one that should fit first, then ever smaller ones: more parts, or fewer clips."""
        if not takes_parts(self.parts.method):
            yield from fewer_clips(batch)
            return
        few, more = (self.peak(min(size, batch)) for size in (8, 16))
        limit = SHARE_OF_MEMORY * memory_of(self.device)
        for way in ((batch, Compute()), *more_parts((batch, Compute()))):
            if few + (more - few) / 8 * batch / way[1].n_parts < limit:
                yield way

    def peak(self, batch: int) -> int:
        """Bytes that tensors took at most in two steps; 0 where the device does not count them."""
        if self.device.type == "cpu":
            return 0
        return self.measure((batch, Compute()), at_most=1).peak_bytes or 0

    def measure(self, way: tuple[int, Compute], at_most: int = 200) -> Steps:
        """Two steps that do not count, then as many as the budget allows, but at least 3, and not above `at_most`."""
        batch, compute = way
        on_gpu = self.device.type == "cuda"
        if compute.compile != "none" and on_gpu:
            torch.compiler.reset()  # a second shape would get a slower program, for any shape
        stepper = self.stepper(batch, compute)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        clock = Clock(self.device)
        stepper.learn(0, stepper.view(0))
        first_s = clock.seconds()
        clock = Clock(self.device)
        stepper.learn(1, stepper.view(1))
        second_s = clock.seconds()
        n_steps = min(max(int(self.budget_s / max(second_s, 1e-4)), 3), at_most)
        with Watts(self.device) as watts:  # not while blocks are compiled: the device is idle then
            clock = Clock(self.device)
            for step in range(2, 2 + n_steps):
                views = stepper.view(step)
                clock.mark()
                stepper.learn(step, views)
                clock.mark()
            laps = clock.laps()
        viewed, learnt = laps[::2], laps[1::2]
        whole = [a + b for a, b in zip(viewed, learnt, strict=True)]
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else None
        return Steps(batch, compute, whole, viewed, peak, watts.median, first_s + second_s)

    def profile(self, way: tuple[int, Compute], step_s: float, n_steps: int = 2) -> dict[str, Any]:
        """The ten longest kernels (on a CPU: operations) of a step, and the share of it in which none runs.

        Kernels run one after the other, so their sum is the busy time. `step_s`: a step without the profiler.
        """
        stepper, on_gpu = self.stepper(*way), self.device.type == "cuda"
        stepper.learn(0, stepper.view(0))
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if on_gpu else []
        with torch.profiler.profile(activities=kinds, acc_events=True) as profile:
            for step in range(1, 1 + n_steps):
                stepper.learn(step, stepper.view(step))
            Clock(self.device).seconds()  # waits
        wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
        spent = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        kernels = [
            (event.key[:120], getattr(event, spent) / 1e6 / n_steps, event.count / n_steps)
            for event in profile.key_averages()
            if event.device_type == wanted and not event.is_user_annotation
        ]
        busy_s = sum(seconds for _, seconds, _ in kernels)
        longest = sorted(kernels, key=lambda kernel: -kernel[1])[:10]
        return {
            "steps": n_steps,
            "busy_s": busy_s,
            "step_s": step_s,
            # A driver that shows no kernels says nothing about idle time.
            "idle_share": max(0.0, 1.0 - busy_s / step_s) if busy_s else None,
            "longest": [
                {"name": name, "seconds": seconds, "share": seconds / busy_s, "calls": calls}
                for name, seconds, calls in longest
            ],
        }


def fewer_clips(batch: int) -> Iterator[tuple[int, Compute]]:
    """The batch, a half, a quarter ... of it, down to two clips."""
    while batch >= 2:
        yield batch, Compute()
        batch //= 2


def more_parts(way: tuple[int, Compute]) -> list[tuple[int, Compute]]:
    """The same batch in two times, four times ... as many parts, up to one clip each."""
    batch, compute = way
    doubled = (compute.n_parts * 2**n for n in range(1, 12))
    return [(batch, replace(compute, n_parts=n)) for n in doubled if n <= batch]


def variants(way: tuple[int, Compute], in_parts: bool) -> Iterator[tuple[str, tuple[int, Compute]]]:
    """Other ways to compute a step, with their names: fewer and more parts, half the batch."""
    batch, compute = way
    if in_parts:
        for n_parts in (compute.n_parts // 2, compute.n_parts * 2):
            if 1 <= n_parts <= batch:
                yield f"n_parts={n_parts}", (batch, replace(compute, n_parts=n_parts))
    if batch >= 4:
        n_parts = max(compute.n_parts // 2, 1)
        yield f"batch of {batch // 2}", (batch // 2, replace(compute, n_parts=n_parts))


def first_that_fits(attempt: Callable[[Any], Result], ways: Iterable[Any]) -> Result:
    """`attempt(way)` for the first of `ways` that does not run out of the device's memory; the last error if all do."""
    last: Exception = ValueError("no way to try")
    for way in ways:
        try:
            return attempt(way)
        except torch.OutOfMemoryError as error:
            last = error.with_traceback(None)  # its frames hold tensors
        free_memory()
    raise last


def free_memory() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """float32 products without TF32, and attention that computes and keeps its softmax weights."""
    products, convolutions = (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
    )
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
