"""The pre-norm transformer block that ATST and AudioMAE share, with timm's parameter names; a batch in parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audiossl_lite.common.devices import in_float32


class DropPath(nn.Module):
    """Skip a residual branch for some items while training, and scale up the others to keep the mean.

    Where: ATST, official code; chapter 05
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        # A tensor, so that one program of `torch.compile` serves blocks of any probability; whole, so that a device
        # without double precision can hold it, too.
        self.register_buffer(
            "keep", torch.zeros((), dtype=torch.long, device="cpu"), persistent=False
        )
        self.probability = probability

    @property
    def probability(self) -> float:
        """Share of the items that skip the branch; ValueError for one outside [0, 1)."""
        return self.share

    @probability.setter
    def probability(self, probability: float) -> None:
        """Set it, also for programs: `keep` holds the share that stays, in units of 2^-53."""
        if not 0.0 <= probability < 1.0:
            raise ValueError(f"a drop probability lies in [0, 1), got {probability}")
        self.share, self.drops = probability, probability > 0.0
        self.keep.fill_(round((1.0 - probability) * 2**53))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.drops:
            return x
        # In double precision a CPU draws what it draws for a plain number.
        exact = torch.float64 if x.device.type == "cpu" else torch.float32
        keep = self.keep.to(exact) * 2.0**-53
        # In place: otherwise a program draws by another function.
        stays = x.new_empty(len(x), *(1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * stays / keep.to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention `(B, N, D) -> (B, N, D)`; `visible (B, N)` marks the keys that may be looked at.

    Where: ATST Sec. 2.2.2; chapter 05
    """

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"the width {dim} does not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        b, n, d = x.shape
        parts = self.qkv(x).chunk(3, dim=-1)
        # Each (B, heads, N, D / heads).
        q, k, v = (part.view(b, n, self.heads, -1).transpose(1, 2) for part in parts)
        mask = None if visible is None else visible[:, None, None, :]
        attend = F.scaled_dot_product_attention
        if (
            x.device.type == "cpu"
        ):  # whose bf16 kernel takes five times as long backwards as float32
            attend = in_float32(attend)
        x = attend(q, k, v, attn_mask=mask)
        return self.proj(x.transpose(1, 2).reshape(b, n, d))


class MLP(nn.Module):
    """Two linear layers around an exact GELU: `(..., D) -> (..., D)`.

    Where: ATST Sec. 2.2.2; chapter 05
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): one transformer block, `(B, N, D) -> (B, N, D)`.

    With `recompute = True` the backward pass computes the block again instead of remembering it.

    Where: ATST Fig. 1b; chapter 05
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)
        self.recompute = False

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        if self.recompute and x.requires_grad:
            return checkpoint(self._forward, x, visible, use_reentrant=False)
        return self._forward(x, visible)

    def _forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), visible))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def in_parts(function: Callable[..., Tensor], n_parts: int, *inputs: Tensor | None) -> Tensor:
    """`function(*inputs)` with the rows cut into `n_parts` that pass one after the other, `(B, ...)` each.

    Only the outputs of a part stay in memory; in the backward pass each part is computed again. What follows sees the
    outputs of the whole batch, so batch norm, negatives and mixtures are those of the whole batch, and the gradient
    is the same. `function` must treat rows independently. Inputs that are None are passed on.
    """
    n_rows = next(len(x) for x in inputs if x is not None)
    if n_parts <= 1 or n_rows < 2:
        return function(*inputs)
    size = -(-n_rows // n_parts)
    outputs = []
    for first in range(0, n_rows, size):
        part = [None if x is None else x[first : first + size] for x in inputs]
        if torch.is_grad_enabled():
            outputs.append(checkpoint(function, *part, use_reentrant=False))
        else:
            outputs.append(function(*part))
    return torch.cat(outputs)


def init_linear(module: nn.Module) -> None:
    """Truncated normal of std 0.02 for linear weights, zero biases; for `module.apply`.

    Where: ATST, official code; chapter 05
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
