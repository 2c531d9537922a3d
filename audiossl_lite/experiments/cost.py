"""What a job will cost, told before it starts: `python -m audiossl_lite cost notebooks/jobs/atst_small.yaml`.

A few steps on made-up clips of the job's shapes are counted and timed on the machine at hand; the rest is arithmetic.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.common.commands import CommandParser
from audiossl_lite.common.parameters import regular_file, usable_folder
from audiossl_lite.common.ranges import ranged
from audiossl_lite.data.recipes import bytes_per_second, make_recipe
from audiossl_lite.experiments.calibration import Calibration, calibrate, memory_of
from audiossl_lite.experiments.jobs import clip_s, store_kind
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.training import Compute

__all__ = ["Calibration", "Estimate", "as_record", "calibrate", "estimate", "main"]
GIB = 2**30
SHARE_OF_MEMORY = 0.9  # the rest is for the allocator's gaps and the libraries


@dataclass(frozen=True)
class Estimate:
    """What a whole job will take, in a text for people (`text()`) and in numbers.

    `compute`: the settings with which it fits, None if it does not; `needs_processes`: how many would do then.
    `disk_bytes`: the packed store, 0 where the size of the data is not known.
    """

    calibration: Calibration
    steps: int
    batch: int
    processes: int
    hours: float
    disk_bytes: float
    asked_bytes: float
    memory_bytes: float
    available_bytes: float
    compute: Compute | None
    needs_processes: int

    @property
    def clips(self) -> int:
        """Clips that pass through the network."""
        return self.steps * self.batch

    @property
    def device_hours(self) -> float:
        """Hours times processes."""
        return self.hours * self.processes

    @property
    def total_flops(self) -> float:
        """Operations of the whole job."""
        return self.clips * self.calibration.counted.flops

    def hours_at(self, flops_per_s: float, share: float = 0.4) -> float:
        """Device hours at a share of some peak: arithmetic, not measured."""
        return self.total_flops / (flops_per_s * share) / 3600

    @property
    def fits(self) -> str:
        """Whether the batch fits, and how, in words."""
        asked = self.calibration.compute
        if self.compute is None:
            return f"does not fit: needs {self.needs_processes} processes"
        if self.compute == asked:
            return "fits"
        how = "recompute" if self.compute.recompute else f"n_parts={self.compute.n_parts}"
        return f"fits with {how}"

    def text(self) -> str:
        """The estimate on a few lines, with what it assumes."""
        made, counted = self.calibration, self.calibration.counted
        held = "measured" if made.measured else "counted"
        disk = f"{self.disk_bytes / 1e9:.1f} GB" if self.disk_bytes else "depends on your data"
        twice = self.compute is not None and self.compute != made.compute
        lines = [
            f"{made.job} at scale {made.scale}, precision {made.precision}, on {made.device}",
            f"  run       {self.steps:,} steps of {self.batch} clips = {self.clips:,} clips",
            f"  network   {counted.trained / 1e6:.1f} M weights trained, {counted.frozen / 1e6:.1f} M frozen,"
            f" {counted.teacher / 1e6:.1f} M in the teacher; {counted.flops / 1e9:.1f} GFLOP a clip",
            f"  measured  {made.clips_per_s:.4g} clips/s at batch {made.batch} (median of {made.steps}),"
            f" {made.flops_per_s / 1e12:.3g} TFLOP/s, {100 * made.utilisation:.0f} % of a large matrix product",
            f"  data path {made.data_clips_per_s:.4g} clips/s alone,"
            f" {made.data_clips_per_s / made.clips_per_s:.3g} times what a step consumes",
            f"  memory    {self.asked_bytes / GIB:.1f} GiB for a batch of {self.batch // self.processes}, of"
            f" {self.available_bytes / GIB:.1f} GiB: {self.fits}"
            + (f" ({self.memory_bytes / GIB:.1f} GiB)" if twice else "")
            + f"; {held} at batch {made.batch}: {made.peak_bytes / GIB:.2f} GiB",
            f"  disk      {disk} for the packed store",
            f"  time      {_hours(self.hours)} h, processes: {self.processes},"
            f" device-hours: {_hours(self.device_hours)}",
            "  assumes   clips/s as measured whatever the batch, processes that do not wait for each other, a store"
            " that is read as fast as memory"
            + (", parts computed again in the backward pass" if twice else ""),
        ]  # fmt: skip
        return "\n".join(lines)


def _hours(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"


def estimate(
    calibration: Calibration, *, processes: int = 1, memory_bytes: float | None = None
) -> Estimate:
    """Time, memory and disk of the whole job that was calibrated.

    `memory_bytes`: of one device, by default what the calibrated machine has. Linear in clips: a larger batch usually
    runs faster, so a calibration with a small one errs on the slow side.
    """
    chosen = find_job(calibration.job)
    config = preset(chosen.experiment, calibration.scale, calibration.overrides)
    steps, batch = _length(chosen.step, config)
    available = memory_bytes or memory_of(
        torch.device("cpu" if calibration.device.startswith("CPU") else "cuda")
    )
    counted, limit = calibration.counted, available * SHARE_OF_MEMORY
    each = max(batch // processes, 1)
    compute = _first_that_fits(calibration, each, limit)
    needs = processes
    while compute is None and needs < batch:
        needs *= 2
        if _first_that_fits(calibration, max(batch // needs, 1), limit):
            break
    seconds = steps * batch / calibration.clips_per_s / processes
    if compute is not None and compute != calibration.compute:
        seconds *= 1.0 + counted.forward_flops / counted.flops
    disk = 0.0
    if calibration.scale == "paper":
        each_second = bytes_per_second(make_recipe(store_kind(chosen, config)))
        disk = chosen.n_clips * min(clip_s(chosen, config), 10.0) * each_second
    return Estimate(
        calibration, steps, batch, processes, seconds / 3600, disk,
        asked_bytes=counted.memory_bytes(each, calibration.compute),
        memory_bytes=counted.memory_bytes(each, compute or calibration.compute),
        available_bytes=available, compute=compute, needs_processes=needs,
    )  # fmt: skip


def _length(step: int, config: Any) -> tuple[int, int]:
    """Steps and batch of a run; step 1 of uaMix-MAE has its own."""
    if step == 1:
        return config.head_steps, config.head_batch_size
    return config.steps, config.batch_size


def _first_that_fits(made: Calibration, batch: int, limit: float) -> Compute | None:
    """As asked; else the fewest parts; else recomputed blocks; None when nothing fits."""
    ways = [made.compute]
    if made.encoder_parts:
        powers = [2**n for n in range(1, 12)]
        ways += [
            replace(made.compute, n_parts=n) for n in powers if made.compute.n_parts < n <= batch
        ]
    ways.append(replace(made.compute, recompute=True))
    return next((way for way in ways if made.counted.memory_bytes(batch, way) <= limit), None)


def as_record(found: Estimate) -> dict[str, Any]:
    """The numbers of an estimate as JSON can hold them."""
    made = found.calibration
    more = ("clips_per_s", "data_clips_per_s", "flops_per_s", "utilisation")
    record = dataclasses.asdict(found) | {
        "clips": found.clips, "device_hours": found.device_hours, "fits": found.fits,
    }  # fmt: skip
    record["calibration"] |= {name: getattr(made, name) for name in more}
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the job of a parameter file will cost; exit status 0, or 2 for a wrong request."""
    from audiossl_lite.experiments.pretrain import read_request

    parser = CommandParser(prog="python -m audiossl_lite cost", description=__doc__)
    parser.add_argument("file", type=Path, help="a YAML file of parameters, see notebooks/jobs")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="change one")
    parser.add_argument("--device", help="auto, cpu, cuda; by default what the file says")
    parser.add_argument("--batch", type=ranged("batch", int), help="clips of the measured steps")
    parser.add_argument("--steps", type=ranged("steps", int), default=2, help="measured steps")
    parser.add_argument("-o", "--output", type=Path, metavar="JSON", help="write the numbers, too")
    options = parser.parse_args(arguments)
    try:
        device = [f"device={options.device}"] if options.device else []
        request = read_request(options.file, [*options.p, *device], needs_data=False)
        if options.output:
            usable_folder(options.output.parent)
            regular_file(options.output)
        found = request.estimate(batch=options.batch, steps=options.steps)
    except (KeyError, TypeError, ValueError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 2
    print(found.text())
    if options.output:
        options.output.write_text(json.dumps(as_record(found), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
