"""ATST's encoder: four frames a token, a CLS token, learned positions, a pre-norm transformer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import on_host, send
from audiossl_lite.common.padding import valid_frames
from audiossl_lite.encoders.transformer import Block, init_linear

PATCH_FRAMES = 4


class FramePatches(nn.Module):
    """Four consecutive frames become one token: `(B, T, F) -> (B, T // 4, D)`; the last T % 4 frames are dropped.

    Inside a token the order is band by band (index = band * 4 + frame), as in the published weights.

    Where: ATST Sec. 2.2.2; chapter 05
    """

    def __init__(self, n_mels: int, dim: int) -> None:
        super().__init__()
        self.patch_embed = nn.Linear(n_mels * PATCH_FRAMES, dim)

    def forward(self, spec: Tensor) -> Tensor:
        b, t, f = spec.shape
        n = t // PATCH_FRAMES
        patches = spec[:, : n * PATCH_FRAMES].view(b, n, PATCH_FRAMES, f)
        return self.patch_embed(patches.transpose(2, 3).reshape(b, n, f * PATCH_FRAMES))


class ATSTEncoder(nn.Module):
    """Log-mel `(B, T, 64)` to a segment embedding `(B, D)`: the CLS token after the final norm.

    `lengths (B,)` counts each item's valid frames; frames beyond are invisible, exactly: a padded item gives what it
    gives alone. Raises ValueError for fewer than 4 frames or more than the position table holds (1003 frames).

    Where: ATST Sec. 2.2.2; chapter 05
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        n_mels: int = 64,
        max_tokens: int = 250,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed_dim, self.n_mels, self.max_tokens = dim, n_mels, max_tokens
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, max_tokens + 1, dim))
        # Unused by ATST; it is here so that every key of a published file has its place.
        self.mask_embed = nn.Parameter(torch.zeros(1, 1, dim))
        self.patch_embed = FramePatches(n_mels, dim)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(dim, heads, qkv_bias=False, drop_path=rate) for rate in rates
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.apply(init_linear)
        for table in (self.cls_token, self.pos_embed, self.mask_embed):
            nn.init.trunc_normal_(table, std=0.02)

    def embed(self, spec: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """CLS and patch tokens with positions `(B, 1 + N, D)`, visible keys `(B, 1 + N)`, tokens per item `(B,)`."""
        counts = self._token_counts(spec, lengths)
        x = self.patch_embed(spec)  # (B, N, D)
        x = torch.cat([self.cls_token.expand(len(x), 1, -1), x], dim=1)  # (B, 1 + N, D)
        x = x + self.pos_embed[:, : x.shape[1]]
        # The CLS token is key 0 and always visible.
        visible = None if lengths is None else valid_frames(counts + 1, x.shape[1])
        return x, visible, counts

    def sequence(self, spec: Tensor, lengths: Tensor | None = None) -> Tensor:
        """CLS and patch tokens after the final norm, `(B, T, F) -> (B, 1 + N, D)`."""
        x, visible, _ = self.embed(spec, lengths)  # patches, CLS, positions
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x)

    def forward(self, spec: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.sequence(spec, lengths)[:, 0]  # CLS

    def tokens(self, spec: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Patch tokens after the final norm, without CLS: `(B, T, F) -> (B, T // 4, D)`."""
        return self.sequence(spec, lengths)[:, 1:]

    def _token_counts(self, spec: Tensor, lengths: Tensor | None) -> Tensor:
        """Valid tokens of each item, `(B,)` where `spec` is; or what is wrong with these shapes and lengths."""
        if spec.dim() != 3 or spec.shape[2] != self.n_mels:
            raise ValueError(
                f"the encoder takes (batch, frames, {self.n_mels}) spectrograms, got {tuple(spec.shape)}"
            )
        n = spec.shape[1] // PATCH_FRAMES
        if not 1 <= n <= self.max_tokens:
            raise ValueError(
                f"{spec.shape[1]} frames make {n} tokens, the position table holds 1 to {self.max_tokens}; "
                "crop, pad, or use linear_features, which works in chunks"
            )
        if lengths is None:
            return torch.full((len(spec),), n, device=spec.device)
        lengths = torch.as_tensor(lengths)
        if on_host(lengths) and (lengths < PATCH_FRAMES).any():
            raise ValueError(
                f"an item has {int(lengths.min())} valid frames; the encoder needs at least 4"
            )
        return send(lengths, spec.device).clamp(max=spec.shape[1]) // PATCH_FRAMES

    def block_outputs(
        self, spec: Tensor, lengths: Tensor | None = None, last: int | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """The final norm applied to the output of the `last` blocks (default: all), each `(B, 1 + N, D)`; token counts.

        Where: ATST Sec. 3.2; chapter 11
        """
        x, visible, counts = self.embed(spec, lengths)
        outputs = []
        for i, block in enumerate(self.blocks):
            x = block(x, visible)
            if last is None or i >= len(self.blocks) - last:
                outputs.append(self.norm(x))
        return outputs, counts

    def linear_features(
        self,
        spec: Tensor,
        lengths: Tensor | None = None,
        *,
        chunk_frames: int = 601,
        last: int | None = None,
        mean_over: str = "official",
    ) -> Tensor:
        """CLS tokens of all blocks, then token means of all blocks: `(B, T, F) -> (B, 2 * depth * D)`.

        Clips longer than `chunk_frames` are cut into chunks whose features are averaged; a chunk after the first
        counts only if more than half of it is filled. `last=1` keeps the last block alone (fine-tuning features).
        `mean_over="official"` divides the token sum of a chunk by the tokens of the clip from there to its *end*, as
        the published features do (the first chunk of 10 s: 150 tokens, divided by 250); `"chunk"` divides by the
        tokens of the chunk. Both agree on clips of one chunk.

        Where: ATST Sec. 3.2 and official code; chapter 11
        """
        if mean_over not in ("official", "chunk"):
            raise ValueError(f"mean_over is 'official' or 'chunk', got {mean_over!r}")
        if lengths is None:
            lengths = torch.full((len(spec),), spec.shape[1], device=spec.device)
        lengths = send(torch.as_tensor(lengths), spec.device)

        def features(chunk: Tensor, left: Tensor) -> Tensor:
            outputs, counts = self.block_outputs(chunk, left, last)
            valid = valid_frames(counts, outputs[0].shape[1] - 1).to(spec.dtype)[..., None]
            divisor = (left // PATCH_FRAMES if mean_over == "official" else counts)[:, None] + 1e-6
            means = [(out[:, 1:] * valid).sum(1) / divisor for out in outputs]
            return torch.cat([out[:, 0] for out in outputs] + means, dim=1)

        return chunk_average(features, spec, lengths, chunk_frames)


def chunk_average(
    features: Callable[[Tensor, Tensor], Tensor], spec: Tensor, lengths: Tensor, chunk_frames: int
) -> Tensor:
    """Average `features(chunk, frames left)` over chunks of `chunk_frames`: `(B, T, F) -> (B, D)`.

    The first chunk always counts, later ones only with more than `chunk_frames // 2` valid frames. `frames left
    (B,)` runs from the start of the chunk to the end of the clip and may exceed the chunk.

    Where: ATST Sec. 3.2 and official code; chapter 11
    """
    total = features(spec[:, :chunk_frames], lengths)
    count = torch.ones(len(spec), 1, device=spec.device)
    for start in range(chunk_frames, spec.shape[1], chunk_frames):
        left = lengths - start
        use = (left > chunk_frames // 2).nonzero().flatten()
        if len(use):
            part = features(spec[use, start : start + chunk_frames], left[use])
            total = total.index_add(0, use, part)
            count[use] += 1
    return total / count


def in_chunks(encoder: nn.Module, chunk_frames: int) -> Callable[[Tensor, Tensor], Tensor]:
    """`encoder` in chunks of the length it was trained on, averaged: `(B, T, F), lengths (B,)` -> `(B, D)`.

    Positions beyond the training length have never been trained. With `chunk_frames=0` clips stay whole.

    Where: ATST Sec. 3.3; chapter 05
    """
    if chunk_frames == 0:
        return encoder

    def features(spec: Tensor, lengths: Tensor) -> Tensor:
        def embed(part: Tensor, left: Tensor) -> Tensor:
            return encoder(part, left.clamp(max=part.shape[1]))

        return chunk_average(embed, spec, lengths.to(spec.device), chunk_frames)

    return features


def atst_tiny(**options) -> ATSTEncoder:
    """128 wide, 4 blocks, 2 heads: trains on a laptop within a minute."""
    return ATSTEncoder(128, 4, 2, **options)


def atst_mini(**options) -> ATSTEncoder:
    """192 wide, 6 blocks, 3 heads: the workshop size."""
    return ATSTEncoder(192, 6, 3, **options)


def atst_compact(**options) -> ATSTEncoder:
    """256 wide, 8 blocks, 4 heads, 6.5 million parameters: in 16 bits a file of 13 MB."""
    return ATSTEncoder(256, 8, 4, **options)


def atst_small(**options) -> ATSTEncoder:
    """384 wide, 12 blocks, 6 heads, 21,476,352 parameters.

    Where: ATST Sec. 3.1; chapter 05
    """
    return ATSTEncoder(384, 12, 6, **options)


def atst_base(**options) -> ATSTEncoder:
    """768 wide, 12 blocks, 12 heads, 85,420,032 parameters.

    Where: ATST Sec. 3.1; chapter 05
    """
    return ATSTEncoder(768, 12, 12, **options)
