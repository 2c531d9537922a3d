"""AudioMAE's encoder: a vision transformer on 16 x 16 patches of the filter bank, with timm's parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.common.devices import on_host, send
from audiossl_lite.common.padding import valid_frames
from audiossl_lite.encoders.transformer import Block

PATCH = 16


class Patches(nn.Module):
    """16 x 16 patches become tokens: `(B, T, F) -> (B, T/16 * F/16, D)`, frequency running fastest.

    Where: AudioMAE Sec. 3; chapter 06
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, dim, PATCH, PATCH)

    def forward(self, spec: Tensor, kept: Tensor | None = None) -> Tensor:
        if kept is None:
            return self.proj(spec[:, None]).flatten(2).transpose(1, 2)
        cells = patchify(spec)  # the same product, for the patches `kept (B, K)` alone
        cells = cells.gather(1, kept[..., None].expand(-1, -1, cells.shape[2]))
        return F.linear(cells, self.proj.weight.flatten(1), self.proj.bias)


def patchify(spec: Tensor) -> Tensor:
    """The 256 cells of every patch, `(B, T, F) -> (B, N, 256)`: the target of the reconstruction.

    Raises ValueError when T or F does not divide by 16.

    Where: AudioMAE Sec. 3; chapter 06
    """
    b, t, f = spec.shape
    if t % PATCH or f % PATCH:
        raise ValueError(f"frames and bands must divide by {PATCH}, got {t} and {f}; pad the clip")
    cells = spec.view(b, t // PATCH, PATCH, f // PATCH, PATCH)
    return cells.transpose(2, 3).reshape(b, -1, PATCH * PATCH)


def unpatchify(patches: Tensor, n_bands: int) -> Tensor:
    """The inverse of `patchify`: `(B, N, 256) -> (B, T, n_bands)`."""
    b, n, _ = patches.shape
    columns = n_bands // PATCH
    cells = patches.view(b, n // columns, columns, PATCH, PATCH)
    return cells.transpose(2, 3).reshape(b, n // columns * PATCH, n_bands)


def sincos_positions(n_time: int, n_freq: int, dim: int) -> Tensor:
    """Fixed position codes `(1, 1 + n_time * n_freq, dim)`: half the width codes time, half frequency; CLS is 0.

    The published file holds a scrambled table (time and frequency swapped before flattening); this is the proper one,
    for training from scratch.

    Where: AudioMAE Sec. 3; chapter 06
    """
    if dim % 4:
        raise ValueError(f"the width must divide by 4, got {dim}")
    omega = 10_000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))

    def code(positions: Tensor) -> Tensor:
        angle = positions.double()[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    time, freq = torch.meshgrid(torch.arange(n_time), torch.arange(n_freq), indexing="ij")
    table = torch.cat([code(time.flatten()), code(freq.flatten())], dim=1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), table])[None].float()


def published_positions(n_time: int, n_freq: int, dim: int) -> Tensor:
    """The position table of the published weights, `(1, 1 + n_time * n_freq, dim)`: a scrambled one.

    Tokens run frequency first, i = t * n_freq + f, but the table was filled as if time ran first: token i got the
    codes of i mod n_time and i div n_time. Every token still has a code of its own. For loading and for comparison;
    train from scratch with `sincos_positions`.

    Where: AudioMAE, official code; chapter 06
    """
    table = sincos_positions(n_freq, n_time, dim)
    half = dim // 2
    return torch.cat([table[..., half:], table[..., :half]], dim=2)


class AudioMAEEncoder(nn.Module):
    """Filter bank `(B, T, F)` to an embedding `(B, D)`: the mean of the patch tokens after the final norm.

    T divides by 16 and is at most `n_frames`; shorter inputs use the first rows of the position table. With
    `lengths (B,)` patches without a valid frame are not looked at and not averaged; without it, as published, padding
    counts as sound. Lengths on the host are better: clips of equal length then need no mask.

    Where: AudioMAE Sec. 3; uaMix-MAE Sec. 3; chapter 06
    """

    def __init__(
        self, dim: int, depth: int, heads: int, *, n_frames: int = 1024, n_mels: int = 128
    ) -> None:
        super().__init__()
        self.embed_dim, self.n_frames, self.n_mels = dim, n_frames, n_mels
        self.patch_embed = Patches(dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        positions = sincos_positions(n_frames // PATCH, n_mels // PATCH, dim)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.blocks = nn.ModuleList(Block(dim, heads, qkv_bias=True) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.apply(init_xavier)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        nn.init.normal_(self.cls_token, std=0.02)

    def embed(self, spec: Tensor, kept: Tensor | None = None) -> Tensor:
        """CLS and patch tokens with their positions, `(B, 1 + N, D)`: what the first block takes.

        `kept (B, K)`: these tokens only, in this order.
        """
        b, t, f = spec.shape
        if f != self.n_mels or t % PATCH or not PATCH <= t <= self.n_frames:
            raise ValueError(
                f"the encoder takes (batch, frames, {self.n_mels}) with frames a multiple of {PATCH} "
                f"up to {self.n_frames}, got {tuple(spec.shape)}"
            )
        x = self.patch_embed(spec, kept)
        n = x.shape[1]
        x = x + (self.pos_embed[:, 1 : 1 + n] if kept is None else self.pos_embed[0, 1 + kept])
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(b, 1, -1)
        return torch.cat([cls, x], dim=1)

    def sequence(
        self, spec: Tensor, kept: Tensor | None = None, visible: Tensor | None = None
    ) -> Tensor:
        """CLS and patch tokens after the final norm, `(B, 1 + N, D)`.

        `kept` as in `embed`. `visible (B, 1 + N)`: tokens that may be looked at.
        """
        x = self.embed(spec, kept)
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x)

    def tokens(self, spec: Tensor) -> Tensor:
        """Patch tokens after the final norm, `(B, N, D)`, N = T/16 * F/16."""
        return self.sequence(spec)[:, 1:]

    def forward(self, spec: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return self.tokens(spec).mean(1)
        if on_host(lengths):  # patches that no clip of the batch reaches are left out
            rows = -(-lengths.clamp(1, spec.shape[1]) // PATCH)
            spec = spec[:, : int(rows.max()) * PATCH]
            if (rows == rows.max()).all():  # attention without a mask has faster kernels
                return self.tokens(spec).mean(1)
        valid = valid_patches(send(lengths, spec.device), spec.shape[1], self.n_mels)
        tokens = self.sequence(spec, visible=F.pad(valid, (1, 0), value=True))[:, 1:]
        return (tokens * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)


def valid_patches(lengths: Tensor, n_frames: int, n_mels: int) -> Tensor:
    """Which patches hold a valid frame, `(B, N)` bool, for clips of `lengths (B,)` frames; at least the first ones."""
    valid = valid_frames(lengths.clamp_min(1), n_frames)[:, ::PATCH]  # (B, T/16)
    return valid.repeat_interleave(n_mels // PATCH, dim=1)


def init_xavier(module: nn.Module) -> None:
    """Xavier-uniform linear weights, zero biases; for `module.apply`.

    Where: AudioMAE, official code; chapter 06
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def audiomae_tiny(**options) -> AudioMAEEncoder:
    """192 wide, 6 blocks, 3 heads: the lite and workshop size."""
    return AudioMAEEncoder(192, 6, 3, **options)


def audiomae_compact(**options) -> AudioMAEEncoder:
    """256 wide, 8 blocks, 4 heads, 6.4 million parameters: in 16 bits a file of 13 MB."""
    return AudioMAEEncoder(256, 8, 4, **options)


def audiomae_small(**options) -> AudioMAEEncoder:
    """384 wide, 12 blocks, 6 heads.

    Where: AudioMAE Sec. 4; chapter 06
    """
    return AudioMAEEncoder(384, 12, 6, **options)


def audiomae_base(**options) -> AudioMAEEncoder:
    """768 wide, 12 blocks, 12 heads: 85,254,144 trainable parameters.

    Where: AudioMAE Sec. 4; chapter 06
    """
    return AudioMAEEncoder(768, 12, 12, **options)
