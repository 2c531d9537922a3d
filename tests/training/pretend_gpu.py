"""A GPU that is not there: tensors on "cuda" without values, and a record of every time the host would wait for them.

Tensors on the host are real and computed as ever. Tensors on the pretended GPU are torch's fake tensors: they have a
shape, a type and a device, and every operation checks that its inputs lie on one device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
aten = torch.ops.aten
# What comes out depends on values: as a number, or as the shape of a tensor.
WAITS = {
    aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select, aten._unique2,
    aten.unique_consecutive, aten.unique_dim, aten.bincount,
}  # fmt: skip
MOVES = {aten._to_copy, aten.copy_}


class Waited(AssertionError):
    """The host would have waited for the GPU."""


class PretendGPU(TorchDispatchMode):
    """Inside, "cuda" works on shapes alone, and whatever would wait for it raises `Waited`.

    A copy from the host must be `non_blocking` and from memory that is pinned (`pinned` stands for `pin_memory`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode()
        self.pinned_storages: set[int] = set()
        self.alive: list[Tensor] = []  # so that no address of pinned memory is used twice
        self.sent = 0

    def pinned(self, x: Tensor) -> Tensor:
        """A copy of `x` that counts as pinned; like `pin_memory` it has the strides of `x`, and none may be 0."""
        copy = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(x)
        self.alive.append(copy)
        self.pinned_storages.add(copy.untyped_storage().data_ptr())
        return copy

    def _as_fake(self, x):
        return (
            self.fake.from_tensor(x)
            if isinstance(x, Tensor) and not isinstance(x, FakeTensor)
            else x
        )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        on_gpu = any(isinstance(x, FakeTensor) and x.device.type == "cuda" for x in inputs)
        made_there = torch.device(kwargs.get("device") or "cpu").type == "cuda"
        if not (on_gpu or made_there):
            return func(*args, **kwargs)
        self.check(func, args, kwargs)
        with self.fake:
            return func(*tree_map(self._as_fake, args), **tree_map(self._as_fake, kwargs))

    def check(self, func, args, kwargs) -> None:
        """Raise `Waited` if `func` waits."""
        packet = func.overloadpacket
        if packet in WAITS:
            raise Waited(f"{func} asks the GPU for a value")
        if packet in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
            if any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
                raise Waited(f"{func} with a boolean index asks the GPU how many entries are true")
            if any(i is not None and i.device.type == "cpu" and i.dim() for i in args[1]):
                raise Waited(f"{func} with an index on the host copies it, and waits")
        if packet not in MOVES:
            return
        target, source = (args[0], args[1]) if packet is aten.copy_ else (None, args[0])
        there = (
            target.device
            if target is not None
            else torch.device(kwargs.get("device") or source.device)
        )
        waits = not (
            kwargs.get("non_blocking") or (packet is aten.copy_ and len(args) > 2 and args[2])
        )
        if there.type == source.device.type:
            return
        if there.type == "cpu":
            raise Waited(f"{func} brings {tuple(source.shape)} from the GPU")
        self.sent += 1
        if waits or source.untyped_storage().data_ptr() not in self.pinned_storages:
            raise Waited(
                f"{func} sends {tuple(source.shape)} from memory that is not pinned, or waits"
            )


@contextmanager
def pretended_gpu(monkeypatch) -> Iterator[PretendGPU]:
    """A `PretendGPU` that is switched on, with attention by plain products, whose choice asks no driver."""
    mode = PretendGPU()
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(Tensor, "pin_memory", lambda x, *_: mode.pinned(x))
    with mode, sdpa_kernel(SDPBackend.MATH):
        yield mode


def put(mode: PretendGPU, x: Tensor) -> Tensor:
    """A tensor of the shape of `x` on the pretended GPU."""
    with mode.fake:
        return torch.empty(x.shape, dtype=x.dtype, device=GPU)


def put_module(mode: PretendGPU, module: nn.Module) -> nn.Module:
    """`module`, in place, with all its tensors on the pretended GPU."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = nn.Parameter(put(mode, p), p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = put(mode, b)
    return module
