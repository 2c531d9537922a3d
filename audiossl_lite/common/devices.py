"""Which devices there are, what a run may do without waiting for one, and in which precision.

A GPU works through a queue of kernels. Whoever asks it for a value (`item()`, an `if`, a blocking copy) waits until the
queue is empty, and the GPU then waits for the host. A training step therefore draws its random numbers and keeps its
clip lengths on the host, sends them without waiting, and looks only at what lies on the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


def usable_device(device: str) -> str:
    """`device` ("auto", "cpu", "cuda", "cuda:N", "mps"; "gpu" is cuda or mps) when this machine has it.

    ValueError says what there is. Everything that takes a device by name asks here before it reads data.
    """
    kind, colon, index = str(device).partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps", "gpu") or (
        colon and (kind != "cuda" or not index.isdecimal())
    ):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}")
    n_cards, has_mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    kinds = {"auto", "cpu"} | ({"cuda", "gpu"} if n_cards else set())
    kinds |= {"mps", "gpu"} if has_mps else set()
    if kind in kinds and (not index or int(index) < n_cards):
        return device
    cards = f", cuda:0 to cuda:{n_cards - 1}" if n_cards else ""
    raise ValueError(
        f"this machine has no device {device!r}; it has cpu{cards}{', mps' if has_mps else ''} (auto takes the fastest)"
    )


def on_host(x: Tensor) -> bool:
    """Whether the values of `x` can be looked at for nothing.

    Checks of values are made only then. On a device, and in a program of `torch.compile`, a wrong value ends as a loss
    that is not finite, which the loop reports at its next logged step.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def send(x: Tensor, device: str | torch.device) -> Tensor:
    """`x` on `device`; from the host to a GPU through pinned memory, so that nobody waits."""
    device = torch.device(device)
    if device.type == "cuda" and on_host(x):
        # Pinned memory has the strides of `x`; into the one value of an expanded tensor nothing can be copied.
        return x.contiguous().pin_memory().to(device, non_blocking=True)
    return x.to(device)


def in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` with autocast off and half-precision arguments as float32.

    With the 8 bits of bf16 a cosine has few values: the nearest of many vectors is then often one of several equals.
    """

    def single(x):
        return x.float() if isinstance(x, Tensor) and x.dtype in HALF else x

    @functools.wraps(function)
    def wrapped(*args, **options):
        device = next(x.device for x in (*args, *options.values()) if isinstance(x, Tensor))
        with torch.autocast(device.type, enabled=False):
            return function(*map(single, args), **{name: single(x) for name, x in options.items()})

    return wrapped


def has_bf16_units(device_type: str) -> bool:
    """Whether a device multiplies in bf16 faster than in float32: GPUs since Ampere, CPUs with AMX or AVX512-BF16."""
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device_type == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False


def precision_for(precision: str, device_type: str) -> str:
    """The precision of a run: "auto" becomes bf16-mixed where the device has units for it, else 32-true.

    32-true is float32 throughout: TF32 stays off (`torch.get_float32_matmul_precision()` is "highest").
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_bf16_units(device_type) else "32-true"


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def total(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, without gradient."""
    if world_size() == 1:
        return x.detach()
    summed = x.detach().clone()
    dist.all_reduce(summed)
    return summed
