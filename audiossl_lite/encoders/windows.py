"""Attention inside windows of 4 x 4 patches: the Swin-v2 style block of AudioMAE's published decoder."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.encoders.transformer import MLP

WINDOW = 4
BIAS_HIDDEN = 384


class PositionBias(nn.Module):
    """A small network from the offset of two patches to a bias per head: `(M, 2) -> (M, heads)`.

    Dropout while training, as published, although nothing else in the model drops.

    Where: AudioMAE, official code; chapter 06
    """

    def __init__(self, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(2, BIAS_HIDDEN), nn.Linear(BIAS_HIDDEN, heads)
        self.dropout = nn.Dropout(dropout)

    def forward(self, offsets: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(F.relu(self.fc1(offsets)))))


def log_offsets() -> Tensor:
    """Offsets of all pairs of a window's patches, `(256, 2)`: sign(x) ln(1 + |x|), so that far pairs differ less.

    Where: AudioMAE, official code; chapter 06
    """
    steps = torch.arange(WINDOW)
    places = torch.cartesian_prod(steps, steps)  # (16, 2): time, frequency
    offsets = (places[:, None] - places[None]).reshape(-1, 2).float()
    return offsets.sign() * torch.log1p(offsets.abs())


class WindowAttention(nn.Module):
    """Cosine attention among the 16 patches of a window: `(W, 16, D) -> (W, 16, D)`.

    Logits are cosines over a learned temperature per head (at least 0.01) plus the position bias. `blocked`
    `(windows of a clip, 16, 16)` is added: -100 between patches that are neighbours only because of the shift.

    Where: AudioMAE, official code; chapter 06
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.tau = nn.Parameter(torch.ones(heads))
        self.meta_mlp = PositionBias(heads)
        self.register_buffer("offsets", log_offsets(), persistent=False)

    def forward(self, x: Tensor, blocked: Tensor | None) -> Tensor:
        w, n, d = x.shape
        qkv = self.qkv(x).view(w, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (W, heads, 16, D / heads)
        bias = self.meta_mlp(self.offsets).T.reshape(1, self.heads, n, n).to(v.dtype)
        if blocked is not None:  # the windows of a clip, then the same for every clip
            bias = (bias + blocked[:, None].to(v.dtype)).repeat(w // len(blocked), 1, 1, 1)
        q = F.normalize(q, dim=-1) / self.tau.clamp_min(0.01).view(1, -1, 1, 1)
        q, k = q.to(v.dtype), F.normalize(k, dim=-1).to(v.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.proj(x.transpose(1, 2).reshape(w, n, d))


class WindowBlock(nn.Module):
    """x + norm(attention in windows), then x + norm(mlp): `(B, N, D) -> (B, N, D)`, N = rows of time x `columns`.

    With `shift_time` the windows start that many patches later; the clip is rolled, and patches that meet only
    because of the roll do not see each other. Raises ValueError when the grid does not divide into windows.

    Where: AudioMAE, official code; chapter 06
    """

    def __init__(self, dim: int, heads: int, *, columns: int, shift_time: int = 0) -> None:
        super().__init__()
        self.columns, self.shift_time = columns, shift_time
        self.attn = WindowAttention(dim, heads)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, 4 * dim)

    def attend(self, x: Tensor) -> Tensor:
        """Attention within (shifted) windows, `(B, N, D) -> (B, N, D)`."""
        b, n, d = x.shape
        rows = n // self.columns
        if rows % WINDOW or self.columns % WINDOW:
            raise ValueError(
                f"{rows} x {self.columns} patches do not divide into windows of {WINDOW} x {WINDOW}; use clips of "
                f"a multiple of {16 * WINDOW} frames and bands, or the global decoder"
            )
        shift = self.shift_time if rows > WINDOW else 0
        grid = x.view(b, rows, self.columns, d).roll(-shift, dims=1)
        windows = to_windows(grid)  # (B * windows, 16, D)
        blocked = blocked_pairs(rows, self.columns, shift, x.device) if shift else None
        windows = self.attn(windows, blocked)
        grid = from_windows(windows, rows, self.columns).roll(shift, dims=1)
        return grid.reshape(b, n, d)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.attend(x))
        return x + self.norm2(self.mlp(x))


def to_windows(grid: Tensor) -> Tensor:
    """`(B, rows, columns, D)` to windows of 4 x 4, `(B * windows, 16, D)`, in raster order.

    Where: AudioMAE, official code; chapter 06
    """
    b, rows, columns, d = grid.shape
    grid = grid.view(b, rows // WINDOW, WINDOW, columns // WINDOW, WINDOW, d)
    return grid.transpose(2, 3).reshape(-1, WINDOW * WINDOW, d)


def from_windows(windows: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `to_windows`: `(B * windows, 16, D) -> (B, rows, columns, D)`."""
    d = windows.shape[2]
    grid = windows.view(-1, rows // WINDOW, columns // WINDOW, WINDOW, WINDOW, d)
    return grid.transpose(2, 3).reshape(-1, rows, columns, d)


@functools.lru_cache(maxsize=8)
def blocked_pairs(
    rows: int, columns: int, shift: int, device: torch.device | None = None
) -> Tensor:
    """-100 where two patches of a window come from opposite ends of the clip, `(windows, 16, 16)`, else 0.

    Where: AudioMAE, official code; chapter 06
    """
    # After the roll, the first rows are last.
    wrapped = (torch.arange(rows, device=device) >= rows - shift).float()
    regions = to_windows(wrapped.view(1, rows, 1, 1).expand(1, rows, columns, 1))[..., 0]
    return torch.where(regions[:, :, None] == regions[:, None], 0.0, -100.0)
