"""A second device that computes: tensors say that they lie on "cuda", their values are computed on the CPU.

What a real GPU refuses is refused: operations on tensors of both devices. Waiting is allowed (`int(x)`, `x.cpu()`);
`tests/training/pretend_gpu.py` is for code that must not wait. Gradients are switched off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
aten = torch.ops.aten
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)


class OnGPU(Tensor):
    """A tensor whose `values` lie on the CPU and whose device is `GPU`."""

    @staticmethod
    def __new__(cls, values: Tensor) -> OnGPU:
        return Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device=GPU
        )

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def tolist(self):
        return self.values.tolist()

    def __repr__(self) -> str:
        return f"OnGPU({self.values})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """Inside, what is made on "cuda" is an `OnGPU`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def computed(func, args, kwargs):
    """`func` on the values, its result on the device that a GPU would leave it on; RuntimeError for two devices."""
    inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    on_gpu = any(isinstance(x, OnGPU) for x in inputs)
    packet = func.overloadpacket
    if on_gpu and packet not in (aten.copy_, aten._to_copy):
        sent = args[1] if packet in INDEXING and isinstance(args[0], OnGPU) else ()
        rest = [x for x in inputs if not any(x is index for index in sent)]
        if any(x.dim() and not isinstance(x, OnGPU) for x in rest):
            places = ", ".join(f"{x.device.type} {tuple(x.shape)}" for x in inputs)
            raise RuntimeError(f"{func} takes tensors of two devices: {places}")
    if kwargs.get("device") is not None:
        on_gpu = torch.device(kwargs["device"]).type == "cuda"
        kwargs = kwargs | {"device": torch.device("cpu")}
    elif packet is aten.copy_:
        on_gpu = isinstance(args[0], OnGPU)
    if packet is aten._to_copy:
        kwargs = {k: v for k, v in kwargs.items() if k not in ("pin_memory", "non_blocking")}
    owners = {id(x.values): x for x in inputs if isinstance(x, OnGPU)}

    def inside(x):
        return x.values if isinstance(x, OnGPU) else x

    def outside(x):
        if not isinstance(x, Tensor) or not on_gpu:
            return x
        return owners.get(id(x)) if id(x) in owners else OnGPU(x)

    out = func(*tree_map(inside, args), **tree_map(inside, kwargs))
    return tree_map(outside, out)


@contextmanager
def second_device(monkeypatch) -> Iterator[None]:
    """A `SecondDevice` that is switched on, with attention by plain products, whose choice asks no driver."""
    torch._C._ensureCUDADeviceGuardSet()  # without a driver it does nothing, as for fake tensors
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    monkeypatch.setattr(Tensor, "pin_memory", lambda x, *_: x)
    with torch.no_grad(), SecondDevice(), sdpa_kernel(SDPBackend.MATH):
        yield


def put_module(module: nn.Module) -> nn.Module:
    """`module`, in place, with all its tensors on the second device."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = nn.Parameter(p.detach().to(GPU), p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = b.to(GPU)
    return module
