"""Run a job from a parameter file: `python -m audiossl_lite pretrain notebooks/jobs/atst_small.yaml`.

The file is the one that `audiossl_lite.run` takes for chapter 13. Under `torchrun` its processes share the job:
`torchrun --nproc-per-node=8 -m audiossl_lite pretrain notebooks/jobs/atst_small.yaml`, and several hosts likewise.
What the job will cost is measured and printed first, except under `torchrun` and with `--no-estimate`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.elastic.multiprocessing import errors as elastic_errors

from audiossl_lite.common.commands import CommandParser, printable, sentence
from audiossl_lite.common.parameters import (
    ParameterError,
    Parameters,
    make_parameters,
    merged_overrides,
    parameter_file,
    split_assignments,
    typed_value,
)
from audiossl_lite.experiments.jobs import find_start, run_job
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import override, preset
from audiossl_lite.training import Compute, TrainingResult
from audiossl_lite.training.compute import LAUNCHER

if TYPE_CHECKING:
    from audiossl_lite.experiments.cost import Estimate


# What settings that do not go together end in, wherever they are noticed.
FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    OSError,
    MemoryError,
    RuntimeError,
    AssertionError,
    ImportError,
)


@dataclass(frozen=True)
class JobRequest:
    """A job with everything that was asked for, as it stands in a parameter file.

    Of the overrides, `job`, `start`, `processes` and the fields of `Compute` are taken; the rest are settings of the
    experiment.
    """

    job: str
    scale: str
    data_root: str
    output_dir: str
    seed: int
    device: str
    start: str = ""
    processes: int = 1
    compute: Compute = field(default_factory=Compute)
    overrides: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_parameters(cls, parameters: Parameters, default_job: str = "") -> JobRequest:
        """The request in the parameters of a notebook or a file; KeyError for an unknown job."""
        rest = dict(parameters.overrides)
        job = find_job(str(rest.pop("job", default_job))).name
        start = str(rest.pop("start", "") or "")
        processes = typed_value("processes", rest.pop("processes", 1), 1)
        names = [item.name for item in dataclasses.fields(Compute)]
        compute = override(Compute(), {name: rest.pop(name) for name in names if name in rest})
        return cls(
            job, parameters.preset, parameters.data_root, parameters.output_dir, parameters.seed,
            parameters.device, start, processes, compute, rest,
        )  # fmt: skip

    def run(self, stop_after: int | None = None) -> TrainingResult | None:
        """Run the job here; with several processes, by `torchrun` on this host, and None is returned.

        What `torchrun` prints goes to `torchrun.log` in the output folder; RuntimeError with its end when it fails.
        """
        if self.processes > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
            self._launch()
            return None
        return run_job(
            self.job, self.scale, self.data_root, self.output_dir or None, seed=self.seed,
            device=self.device, overrides=self.overrides, start=self.start, compute=self.compute,
            stop_after=stop_after,
        )  # fmt: skip

    def estimate(self, *, batch: int | None = None, steps: int = 2) -> Estimate:
        """What this request will cost, from a few steps measured here; see `audiossl_lite.experiments.cost`."""
        from audiossl_lite.experiments.cost import calibrate, estimate

        measured = calibrate(
            self.job, self.scale, device=self.device, batch=batch, steps=steps,
            compute=self.compute, overrides=self.overrides, seed=self.seed,
        )  # fmt: skip
        return estimate(measured, processes=self.processes)

    def as_parameters(self) -> dict[str, Any]:
        """The parameters that make this request again."""
        more = {"job": self.job, "start": self.start, "processes": self.processes}
        return {
            "preset": self.scale, "data_root": self.data_root, "output_dir": self.output_dir,
            "seed": self.seed, "device": self.device,
            "overrides": more | dataclasses.asdict(self.compute) | self.overrides,
        }  # fmt: skip

    def _launch(self) -> None:
        if not self.output_dir:
            raise ParameterError(
                "several processes need an output_dir, where they leave the result"
            )
        folder = Path(self.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        asked = folder / "request.json"
        asked.write_text(json.dumps(self.as_parameters(), indent=1))
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={self.processes}", "-m", "audiossl_lite.experiments.pretrain", str(asked),
        ]  # fmt: skip
        log = folder / "torchrun.log"
        with log.open("w") as output:
            environment = os.environ | {LAUNCHER: str(os.getpid())}
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        if done.returncode:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise RuntimeError(
                f"{' '.join(command[1:])} failed ({done.returncode}). The end of {log}:\n{tail}"
            )


def read_request(file: Path, changes: Sequence[str] = (), *, needs_data: bool = True) -> JobRequest:
    """The request of a YAML file with `name=value` changes, in `overrides` key by key.

    ParameterError, KeyError, TypeError or ValueError when it is wrong. `needs_data=False`: neither the data nor the job
    before this one need be there, for an estimate.
    """
    typed, texts = parameter_file(file), split_assignments(changes)
    values = typed | texts | merged_overrides(typed, texts)
    if isinstance(values.get("seed"), str):
        values["seed"] = typed_value("seed", values["seed"], 0)
    if not needs_data:
        values["data_root"] = ""
    request = JobRequest.from_parameters(make_parameters(values))
    # A misspelt setting or a missing start is found now, not after the data are read.
    job = find_job(request.job)
    config = preset(job.experiment, request.scale, request.overrides)
    if needs_data:
        find_start(job, request.start, config)
    return request


def _told(file: Path, error: Exception, status: int) -> int:
    """Say on standard error what is wrong; returns the status. The end of a log has several lines."""
    lines = f"{file}: {sentence(error)}".splitlines()
    print("\n".join(map(printable, lines)), file=sys.stderr)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job from a parameter file; exit status 0, 1 when it stopped, or 2 for a wrong request."""
    parser = CommandParser(
        prog="python -m audiossl_lite pretrain", description=__doc__.splitlines()[0]
    )
    parser.add_argument("file", type=Path, help="a YAML file of parameters, see notebooks/jobs")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="change one")
    parser.add_argument(
        "--no-estimate", action="store_true", help="start without measuring what it will cost"
    )
    options = parser.parse_args(arguments)
    try:
        request = read_request(options.file, options.p)
        if not options.no_estimate and "TORCHELASTIC_RUN_ID" not in os.environ:
            cost = request.estimate()
            print(cost.text(), flush=True)
            if cost.asked_bytes > cost.available_bytes:
                raise MemoryError(
                    f"batch_size={cost.batch} needs more memory than there is ({cost.fits}): take a smaller batch, or "
                    "--no-estimate to start all the same"
                )
    except FAULTS as error:
        return _told(options.file, error, 2)
    if not request.output_dir and "TORCHELASTIC_RUN_ID" not in os.environ:
        print("without an output_dir nothing of this run is kept, neither encoder nor checkpoint")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        result = elastic_errors.record(
            request.run
        )()  # so that torchrun's report has the error in it
    else:
        try:
            result = request.run()
        except FAULTS as error:
            return _told(options.file, error, 1)
    if result is not None and int(os.environ.get("RANK", "0")) == 0:
        print(f"{request.job}: {result.summary()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
