"""How a run is computed, apart from what: memory for arithmetic, compiled programs, and one process or many."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING

import torch
from torch import nn

from audiossl_lite.common.devices import precision_for, usable_device
from audiossl_lite.common.ranges import check_ranges
from audiossl_lite.encoders.transformer import Block
from audiossl_lite.encoders.windows import WindowBlock
from audiossl_lite.methods.distributed import looks_across_rows

if TYPE_CHECKING:
    from lightning.fabric import Fabric

LAUNCHER = "AUDIOSSL_LAUNCHER"  # number of the process that started torchrun, where that was ours
COMPILED = ("none", "blocks", "step")
# Dropout and dropped paths draw what the plain code draws; a program's own generator would draw something else.
PLAIN_DRAWS = {"fallback_random": True}


@dataclass(frozen=True)
class Compute:
    """Settings that change the speed and memory of a run, and its result by rounding alone.

    `n_parts`: the encoder takes the batch in that many parts, one after the other, each computed again in the
    backward pass; heads and loss see the whole batch (gradient accumulation would give each part its own negatives
    and batch norm). `recompute`: transformer blocks are computed again instead of remembered. `compile`: what
    `torch.compile` makes programs of: "blocks", each transformer block; "step", the method from its views to the loss,
    teacher included (views, optimiser, EMA, queue and monitors stay outside); or "none". `prefetch`: batches read
    ahead, from stores on disk.
    """

    n_parts: int = 1
    recompute: bool = False
    compile: str = "none"
    prefetch: int = 2

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.compile not in COMPILED:
            raise ValueError(f"compile is one of {', '.join(COMPILED)}, got {self.compile!r}")

    def apply(self, method: nn.Module) -> None:
        """Switch `method` to these settings, in place; its parameters and their names stay.

        Raises ValueError for `n_parts` above 1 with an encoder that has batch norm, whose parts would differ from the
        whole, and for a method that `compile="step"` cannot take.
        """
        if self.n_parts > 1:
            if not hasattr(method, "n_parts"):
                raise ValueError(f"{type(method).__name__} cannot take its batch in parts")
            for name, encoder in method.encoders.items():
                if looks_across_rows(encoder):
                    raise ValueError(
                        f"the {name} encoder has batch norm, which looks at all clips of a batch: n_parts must be 1, "
                        f"got {self.n_parts}; use more processes or a smaller batch"
                    )
        if hasattr(method, "n_parts"):
            method.n_parts = self.n_parts
        for part in method.modules():
            if isinstance(part, Block):
                part.recompute = self.recompute
            if isinstance(part, (Block, WindowBlock)):
                part._compiled_call_impl = None  # torch has no call that takes `compile` back
                if self.compile == "blocks":
                    part.compile(options=PLAIN_DRAWS)
        method.__dict__.pop("loss", None)
        if self.compile == "step":
            if not hasattr(method, "loss"):
                raise ValueError(
                    f"{type(method).__name__} has no `loss`, which compile='step' compiles; take 'blocks' or 'none'"
                )
            program = torch.compile(type(method).loss, options=PLAIN_DRAWS)
            method.loss = MethodType(program, method)  # a copy of the method gets its own


def precision_of(fabric: Fabric) -> str:
    """The precision that a run was given: "32-true" or "bf16-mixed"."""
    return fabric.strategy.precision.precision


def device_type(device: str) -> str:
    """ "cuda", "mps" or "cpu"; for "auto" the first of these that the machine has."""
    if device not in ("auto", "gpu"):
        return device.partition(":")[0]
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def make_fabric(device: str, precision: str) -> Fabric:
    """Devices and precision of a run; under `torchrun` all its processes, on this host and others, train together.

    Processes that outnumber the GPUs of a host share them, and talk by gloo. They end with `torchrun`.
    `precision`: "32-true", "bf16-mixed" or "auto", see `precision_for`. ValueError for a device that is not here.
    """
    from lightning.fabric import Fabric  # takes as long to import as torch
    from lightning.fabric.strategies import DDPStrategy

    accelerator, _, index = usable_device(device).partition(":")
    precision = precision_for(precision, device_type(device))
    processes = int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if processes == 1:
        on_gpu = device_type(device) == "cuda" and torch.cuda.is_available()
        # The GPU that this process has chosen need not be the first one.
        devices = [int(index) if index else torch.cuda.current_device()] if on_gpu else 1
        return Fabric(accelerator=accelerator, devices=devices, precision=precision)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if index:
        raise ValueError(
            f"{processes} processes share the GPUs: device must be cuda, got {device!r}"
        )
    on_this_host = int(os.environ["LOCAL_WORLD_SIZE"])
    cards = 0 if accelerator == "cpu" else torch.cuda.device_count()
    shared = 0 < cards < on_this_host  # NCCL refuses two processes on one card
    apart = {
        "parallel_devices": [torch.device("cuda", n % cards) for n in range(on_this_host)],
        "process_group_backend": "gloo",
    } if shared else {}  # fmt: skip
    fabric = Fabric(
        accelerator=accelerator,
        devices="auto" if shared else on_this_host,
        num_nodes=processes // on_this_host,
        # Joint batch norm and the gathered queue keep the buffers of all processes equal.
        # `static_graph`: the same parameters are used (or, as a mask token, not used) in every step.
        strategy=DDPStrategy(
            broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True, **apart
        ),
        precision=precision,
    )
    fabric.launch()
    return fabric


def _end_with(parent: int) -> None:
    """Wait until the process that started this one is gone, or the one that started that, then end.

    A killed `torchrun` cannot end its processes: they would wait for each other, and hold the GPUs, for ever.
    """
    launcher = int(os.environ.get(LAUNCHER, parent))
    with contextlib.suppress(ProcessLookupError):
        while os.getppid() == parent:
            os.kill(launcher, 0)  # no signal: it raises once the process is gone
            time.sleep(0.5)
    print("the process that started this training was killed; it ends too", file=sys.stderr)
    os._exit(1)
