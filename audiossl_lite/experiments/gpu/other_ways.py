"""Other ways to compute the same on one device: parts, recomputing, compiled blocks, two processes, a resumed run."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import cached_property, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.experiments.gpu.compare import Check, Row, flat, relative, row
from audiossl_lite.experiments.gpu.small_runs import PROCESSES, repeatable, start, train_some
from audiossl_lite.experiments.real_sounds.task import last_line
from audiossl_lite.training import Compute, load_checkpoint

WAYS = {
    "2 parts": Compute(n_parts=2),
    "4 parts": Compute(n_parts=4),
    "recomputed blocks": Compute(recompute=True),
    "2 parts, recomputed blocks": Compute(n_parts=2, recompute=True),
}
JOINT = [
    "BYOL-A",
    "uaMix-MAE, step 2",
]  # batch norm in the encoder; batch norm, negatives and queue
KILLED = {"steps": 6, "save_every": 2}
DIE_AT, RESUMES_AT = 6, 4


class OtherWays:
    """Checks at laptop size on a device; processes of their own start at once and are ended with `close`."""

    def __init__(self, device: torch.device, folder: Path, toy: bool, wait_s: float) -> None:
        self.device, self.folder, self.toy = device, folder, toy
        self.gives_up = time.monotonic() + wait_s
        self.pair = start(folder / "pair", device.type, JOINT, processes=PROCESSES)
        self.killed = start(folder / "killed", device.type, ["ATST"], die_at=DIE_AT, **KILLED)

    def close(self) -> None:
        """End what still runs."""
        for process in (*self.pair, *self.killed):
            process.kill()
            process.join()

    def checks(self) -> list[Check]:
        """All checks of this module, in order of worth; compiling comes last and not at toy size."""
        ways = [Check(name, partial(self.way, name, how)) for name, how in WAYS.items()]
        compiled = [
            Check(
                f"compiled {what}",
                partial(self.way, f"compiled {what}", Compute(compile=what)),
                30.0,
            )
            for what in ("blocks", "step")
        ]
        return [
            *ways,
            Check("resumed", self.resumed),
            Check("two processes", self.two_processes),
            *([] if self.toy else compiled),
        ]

    @cached_property
    def plain(self) -> dict[str, Any]:
        """ATST, three steps, nothing special."""
        return train_some("ATST", device=self.device.type)

    def way(self, name: str, compute: Compute) -> Iterator[Row]:
        """Three steps of ATST computed another way, against the plain ones."""
        out = train_some("ATST", device=self.device.type, compute=compute)
        yield from agreement(name, out, self.plain)

    def ended(self, process: BaseProcess, log: Path) -> int:
        """Exit status of a process; RuntimeError when it takes too long, with the end of its log."""
        process.join(max(self.gives_up - time.monotonic(), 0.1))
        if process.exitcode is None:
            process.kill()
            raise RuntimeError(f"it took too long; its log ends: {last_line(log)}")
        return process.exitcode

    def two_processes(self) -> Iterator[Row]:
        """Joint batch norm and gathered queue: two processes with half of the batch each, against one with all."""
        folder = self.folder / "pair"
        for number, process in enumerate(self.pair):
            log = folder / f"log-{number}.txt"
            if status := self.ended(process, log):
                raise RuntimeError(f"process {number} ended with {status}: {last_line(log)}")
        for number, name in enumerate(JOINT):
            first, second = (load_checkpoint(folder / f"{number}-{r}.pt") for r in range(PROCESSES))
            with repeatable():
                one = train_some(name, joint=True, device=self.device.type)
            detail = "gloo, " + ("one card" if self.device.type == "cuda" else "CPU")
            yield from agreement(f"{name}, two processes", first, one, detail)
            pairs = zip(first["state"].values(), second["state"].values(), strict=True)
            apart = sum(not torch.equal(a, b) for a, b in pairs)
            yield row(
                f"{name}, two processes: same state", float(apart), 0.0, "tensors that differ"
            )

    def resumed(self) -> Iterator[Row]:
        """A run killed between checkpoints and taken up again, against one that was never interrupted."""
        folder, log = self.folder / "killed" / "run0", self.folder / "killed" / "log-0.txt"
        status = self.ended(self.killed[0], log)
        if status != -signal.SIGKILL:
            raise RuntimeError(f"it was to be killed and ended with {status}: {last_line(log)}")
        step = load_checkpoint(folder / "last.pt")["step"]
        if step != RESUMES_AT:
            raise RuntimeError(f"its checkpoint is of step {step}, not {RESUMES_AT}")
        with repeatable():
            again = train_some("ATST", device=self.device.type, output_dir=folder, **KILLED)
            whole = train_some("ATST", device=self.device.type, **KILLED)
        values = [list(out["state"].values()) for out in (again, whole)]
        same = all(torch.equal(a, b) for a, b in zip(*values, strict=True))
        yield row(
            "killed and resumed", relative(flat(values[0]), flat(values[1])),
            0.0 if self.device.type == "cpu" else 1e-5,
            f"deterministic algorithms; {'equal to the last bit' if same else 'not the same bits'}",
        )  # fmt: skip


def agreement(
    name: str, out: dict[str, Any], reference: dict[str, Any], detail: str = ""
) -> Iterator[Row]:
    """Losses of all steps, gradients of the first and what was learnt, of two results of `train_some`."""
    losses = [torch.tensor(o["losses"], dtype=torch.float64) for o in (out, reference)]
    largest = float(((losses[0] - losses[1]) / losses[1]).abs().max())
    yield row(f"{name}: losses", largest, 1e-4, detail)
    gradients = [flat(o["gradients"]) for o in (out, reference)]
    yield row(f"{name}: gradients", relative(*gradients), 1e-3, "first step")
    learnt = [
        flat(v - o["before"][k] for k, v in o["state"].items() if v.is_floating_point())
        for o in (out, reference)
    ]
    yield row(f"{name}: change of weights", relative(*learnt), 1e-3, "buffers included")
