"""Operations and bytes of a training step, counted while one runs on a few clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from audiossl_lite.encoders.transformer import Block
from audiossl_lite.training import Compute

ADAM_BYTES, GRADIENT_BYTES = 8, 4  # two moments and a gradient in float32 for each trained weight
TEACHERS = ("teacher", "target_projector")


@dataclass(frozen=True)
class Counted:
    """What a method costs, whatever the machine: weights, FLOPs of a clip, bytes in all and bytes of a clip.

    `flops`: multiplications and additions of forward and backward pass for one clip, nothing computed twice.
    `fixed_bytes`: weights, buffers, gradients, Adam's moments, and the weights that autocast copies. `saved_bytes`:
    what the forward pass keeps of a clip for the backward pass; `outside_bytes`: the part of it outside of the
    encoder, which `n_parts` does not shrink; `recomputed_bytes`: what is left of it with `recompute`, `block_bytes`:
    what one block then needs for a moment; `view_bytes`: the input.
    """

    trained: int
    frozen: int
    teacher: int
    flops: float
    forward_flops: float
    fixed_bytes: float
    saved_bytes: float
    outside_bytes: float
    recomputed_bytes: float
    block_bytes: float
    view_bytes: float

    @property
    def parameters(self) -> int:
        """All weights: trained, frozen and the teacher's."""
        return self.trained + self.frozen + self.teacher

    def memory_bytes(self, batch: int, compute: Compute | None = None) -> float:
        """Bytes of a step with `batch` clips, linear in the batch."""
        compute = compute or Compute()
        saved = self.saved_bytes
        if compute.recompute:
            saved = self.recomputed_bytes + self.block_bytes
        inside = max(saved - self.outside_bytes, 0.0)
        per_clip = self.outside_bytes + inside / compute.n_parts + self.view_bytes
        return self.fixed_bytes + batch * per_clip


def parameter_counts(method: nn.Module) -> tuple[int, int, int]:
    """Numbers of trained, frozen and teacher weights; a teacher is a copy that follows without gradient."""
    trained = frozen = teacher = 0
    for name, weight in method.named_parameters():
        if weight.requires_grad:
            trained += weight.numel()
        elif name.split(".")[0] in TEACHERS:
            teacher += weight.numel()
        else:
            frozen += weight.numel()
    return trained, frozen, teacher


def count(
    method: nn.Module,
    batch: tuple[Tensor, ...],
    forward: Callable[..., dict[str, Tensor]] | None = None,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> Counted:
    """Count a step of `method` on `batch`, what its views give for a few clips; forward and backward pass are run.

    `forward`, `backward`: the method and its gradient as training calls them, for example under autocast. Weights stay
    as they are, gradients are cleared; statistics of batch norm and a queue move as in any step. Count before
    `torch.compile` or recomputation is switched on: what they hide or do twice is not seen as it is.
    """
    n_clips = len(batch[0])
    method.train()
    kept = Kept(method, batch)
    with attention_counter() as counter:
        with kept:
            loss = (forward or method)(*batch, monitors=False)["loss"]
        forward_flops = counter.get_total_flops()
        backward(loss)
    method.zero_grad()
    trained, frozen, teacher = parameter_counts(method)
    blocks = sum(
        isinstance(part, Block) and any(p.requires_grad for p in part.parameters())
        for part in method.modules()
    )
    saved, copies = kept.bytes("all"), kept.bytes("copies")
    left = kept.bytes("with recompute")
    weights = _n_bytes([*method.parameters(), *method.buffers()])
    return Counted(
        trained, frozen, teacher,
        flops=counter.get_total_flops() / n_clips,
        forward_flops=forward_flops / n_clips,
        fixed_bytes=weights + trained * (ADAM_BYTES + GRADIENT_BYTES) + copies,
        saved_bytes=saved / n_clips,
        outside_bytes=kept.bytes("outside") / n_clips,
        recomputed_bytes=left / n_clips,
        block_bytes=(saved - left) / n_clips / max(blocks, 1),
        view_bytes=_n_bytes([x for x in batch if isinstance(x, Tensor)]) / n_clips,
    )  # fmt: skip


class Kept:
    """What is saved for the backward pass inside `with Kept(method, batch):`, each storage once, weights left out.

    `bytes(which)`: "all"; "outside" of the encoder (and decoder); "with recompute", when blocks are entered again from
    their inputs; "copies" of weights in another precision, which are in none of the others.
    """

    def __init__(self, method: nn.Module, batch: tuple[Any, ...]) -> None:
        weights = [*method.parameters(), *method.buffers()]
        inputs = [x for x in batch if isinstance(x, Tensor)]
        self._known = {x.untyped_storage().data_ptr() for x in (*weights, *inputs)}
        self._sizes = {p.numel() for p in method.parameters()}
        networks = [*getattr(method, "encoders", {}).values(), getattr(method, "decoder", None)]
        self._networks = [m for network in networks if network for m in network.modules()]
        self._blocks = [m for m in method.modules() if isinstance(m, Block)]
        self._depth = {"network": 0, "block": 0}
        # Storages by address; they stay alive, so that no address is used twice.
        self._kept: dict[int, tuple[Any, str]] = {}
        self._starts: set[int] = set()

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        where = "block" if self._depth["block"] else "network" if self._depth["network"] else "head"
        # Autocast keeps one low-precision copy of a weight, whatever the batch.
        size = storage.nbytes() // tensor.element_size()
        if tensor.dtype == torch.bfloat16 and size in self._sizes:
            where = "copies"
        if storage.data_ptr() not in self._known:
            self._kept.setdefault(storage.data_ptr(), (storage, where))
        return tensor

    def _enter(self, kind: str) -> Callable[..., None]:
        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._depth[kind] += 1
            if kind == "block" and inputs[0].requires_grad:
                self._starts.add(inputs[0].untyped_storage().data_ptr())

        return enter

    def _leave(self, kind: str) -> Callable[..., None]:
        def leave(*_: Any) -> None:
            self._depth[kind] -= 1

        return leave

    def __enter__(self) -> Kept:
        self._hooks = []
        for kind, modules in (("network", self._networks), ("block", self._blocks)):
            for module in modules:
                self._hooks.append(module.register_forward_pre_hook(self._enter(kind)))
                self._hooks.append(module.register_forward_hook(self._leave(kind)))
        self._saving = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda x: x)
        self._saving.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._saving.__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def bytes(self, which: str) -> int:
        """Bytes of a kind, see the class."""
        kinds = {
            "all": lambda at, where: where != "copies",
            "outside": lambda at, where: where == "head",
            "with recompute": lambda at, where: where in ("head", "network") or at in self._starts,
            "copies": lambda at, where: where == "copies",
        }
        return sum(s.nbytes() for at, (s, where) in self._kept.items() if kinds[which](at, where))


def attention_counter() -> FlopCounterMode:
    """A counter of FLOPs that knows the fused attention of CPUs too, and counts no recomputed scores.

    Fused kernels compute the scores again in the backward pass; the method needs four products there, not five.
    Convolutions in groups are counted as such backwards too: torch's own counter takes each for a full one.
    """
    forward: dict[Any, Any] = {}
    backward: dict[Any, Any] = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    for name in ("flash_attention", "efficient_attention", "cudnn_attention"):
        forward[getattr(torch.ops.aten, f"_scaled_dot_product_{name}")] = _attention_flops
        op = getattr(torch.ops.aten, f"_scaled_dot_product_{name}_backward")
        backward[op] = _attention_backward_flops
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    forward[on_cpu] = _attention_flops
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    backward[on_cpu] = _attention_backward_flops
    return FlopCounterMode(display=False, custom_mapping=forward | backward)


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Two products: scores, and weighted values."""
    b, heads, n, d = query
    return 2 * b * heads * n * key[2] * (d + value[3])


def _attention_backward_flops(
    _grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    return 2 * _attention_flops(query, key, value)


def _convolution_backward_flops(
    gradient: Any, inputs: Any, weight: Any, _bias: Any, _stride: Any, _padding: Any, _dilation: Any,
    transposed: bool, _output_padding: Any, _groups: int, wanted: list[bool], **_: Any,
) -> int:  # fmt: skip
    """As much as the forward pass for the gradient of the inputs, and again for that of the weights."""
    return sum(wanted[:2]) * conv_flop_count(inputs, weight, gradient, transposed=transposed)


def _n_bytes(tensors: list[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
