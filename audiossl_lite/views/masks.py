"""What a masked student sees: a crop, and which of its patches are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import send
from audiossl_lite.common.padding import valid_frames
from audiossl_lite.encoders.audiomae import PATCH, valid_patches
from audiossl_lite.frontends import log_power
from audiossl_lite.views.augmentations import uniform
from audiossl_lite.views.segments import random_crops


@dataclass(frozen=True)
class Masking:
    """`kept (B, K)` token indices in the order the encoder sees them; `mask (B, N)` 1 where hidden; `restore (B, N)`:
    where token i stands in the sequence [kept tokens, hidden tokens].
    """

    kept: Tensor
    mask: Tensor
    restore: Tensor


def _from_order(order: Tensor, n_keep: int) -> Masking:
    """Masking whose first `n_keep` tokens of `order (B, N)` stay visible."""
    restore = torch.argsort(order, dim=1)
    return Masking(order[:, :n_keep], (restore >= n_keep).to(torch.float32), restore)


def unstructured_masking(noise: Tensor, ratio: float) -> Masking:
    """Keep the int(N (1 - ratio)) tokens of least `noise (B, N)`, in the order of their noise.

    Raises ValueError for a ratio that leaves no token.

    Where: AudioMAE Sec. 3; chapter 06
    """
    n_keep = int(noise.shape[1] * (1.0 - ratio))
    if not 0.0 <= ratio < 1.0 or n_keep < 1:
        raise ValueError(
            f"the mask ratio lies in [0, 1) and keeps a token, got {ratio} of {noise.shape[1]} tokens"
        )
    # Stable: equal noise sorts alike on every device.
    return _from_order(torch.argsort(noise, dim=1, stable=True), n_keep)


def structured_masking(
    noise_time: Tensor, noise_freq: Tensor, time_ratio: float, freq_ratio: float
) -> Masking:
    """Hide whole columns of time and rows of frequency; the rest stays, in raster order.

    `noise_time (B, rows of time)`, `noise_freq (B, bands)`: int(rows (1 - time_ratio)) time positions and
    int(bands (1 - freq_ratio)) bands of least noise are visible where both are. Token index = time * bands + band.

    Where: AudioMAE Sec. 3; chapter 06
    """
    n_time, n_freq = noise_time.shape[1], noise_freq.shape[1]
    keep_time, keep_freq = int(n_time * (1.0 - time_ratio)), int(n_freq * (1.0 - freq_ratio))
    if keep_time < 1 or keep_freq < 1:
        raise ValueError(
            f"ratios {time_ratio} and {freq_ratio} keep {keep_time} of {n_time} times and {keep_freq} of {n_freq} bands"
        )
    time_rank = torch.argsort(torch.argsort(noise_time, dim=1, stable=True), dim=1)
    freq_rank = torch.argsort(torch.argsort(noise_freq, dim=1, stable=True), dim=1)
    visible = (time_rank < keep_time)[:, :, None] & (freq_rank < keep_freq)[:, None, :]
    # Visible first, both in raster order.
    order = torch.argsort(~visible.flatten(1), dim=1, stable=True)
    return _from_order(order, keep_time * keep_freq)


def inverse_block_masking(
    centres: Tensor, noise: Tensor, grid: tuple[int, int], ratio: float, block: int
) -> Masking:
    """Keep squares of `block` x `block` patches around `centres (B, n)`, cut off at the edges of `grid` (times, bands).

    `noise (B, N)` in [0, 1): of squares with more than int(N (1 - ratio)) patches those of most noise are hidden, and
    where they have fewer, those of least noise outside are kept. Token index = time * bands + band. Raises ValueError
    for a ratio that leaves no token.

    Where: data2vec 2.0 Sec. 3.4; EAT, official code; chapter 17
    """
    token, bands = torch.arange(noise.shape[1], device=noise.device), grid[1]

    def near(place: Tensor, centre: Tensor) -> Tensor:
        offset = place - centre[..., None] + block // 2  # (B, n, N)
        return (offset >= 0) & (offset < block)

    in_time = near(token // bands, centres // bands)
    outside = ~(in_time & near(token % bands, centres % bands)).any(1)
    return unstructured_masking(noise + outside, ratio)


def draw_masking(
    n_clips: int,
    grid: tuple[int, int],
    generator: torch.Generator,
    *,
    ratio: float = 0.8,
    structured: bool = False,
    time_ratio: float = 0.6,
    freq_ratio: float = 0.5,
    block: int = 0,
    block_extra: float = 0.07,
    device: str | torch.device = "cpu",
) -> Masking:
    """A random masking of `grid` (times, bands) patches for each of `n_clips`: tokens, or whole times and bands.

    With a `block` squares stay visible, as many as would hold `1 - ratio + block_extra` of the patches if none
    overlapped. The noise is drawn where the generator is and sorted on `device`.

    Where: AudioMAE Sec. 3; chapter 06
    """

    def noise(size: int) -> Tensor:
        return send(torch.rand(n_clips, size, generator=generator, device=generator.device), device)

    n_time, n_freq = grid
    if structured:
        return structured_masking(noise(n_time), noise(n_freq), time_ratio, freq_ratio)
    if block:
        n_blocks = max(int(n_time * n_freq * (1.0 - ratio + block_extra) / block**2), 1)
        centres = (noise(n_blocks) * n_time * n_freq).long()
        return inverse_block_masking(centres, noise(n_time * n_freq), grid, ratio, block)
    return unstructured_masking(noise(n_time * n_freq), ratio)


class MaskedViews(nn.Module):
    """Filter banks `(B, T, F)` to what `MAE` takes: a crop of `n_frames`, perhaps louder or softer, and its masking.

    With `n_masks` M above 1, for `Data2Vec`, each crop has M maskings, `(B * M, ...)`: clip i those from i * M on.

    `lengths (B,)`: valid frames; crops lie inside them, and shorter clips are filled with `pad_value`.
    `gain_db`: greatest change of level, uniform in +-gain_db; `norm_scale` is the divisor of the frontend's
    normalisation (2 std), which turns decibels into its units. `count_padding`: whether patches without a valid frame
    enter the loss, as published.

    Where: AudioMAE Sec. 4; chapter 06
    """

    def __init__(
        self,
        n_frames: int,
        *,
        ratio: float = 0.8,
        structured: bool = False,
        time_ratio: float = 0.6,
        freq_ratio: float = 0.5,
        block: int = 0,
        block_extra: float = 0.07,
        n_masks: int = 1,
        gain_db: float = 0.0,
        norm_scale: float = 9.1379948,
        pad_value: float = 0.46703,
        count_padding: bool = False,
    ) -> None:
        super().__init__()
        if n_frames % PATCH or n_frames < PATCH:
            raise ValueError(f"a crop is a multiple of {PATCH} frames, got {n_frames}")
        self.n_frames, self.ratio, self.structured = n_frames, ratio, structured
        self.time_ratio, self.freq_ratio, self.gain_db = time_ratio, freq_ratio, gain_db
        self.block, self.block_extra, self.n_masks = block, block_extra, n_masks
        self.norm_scale, self.pad_value, self.count_padding = norm_scale, pad_value, count_padding

    @torch.no_grad()
    def forward(
        self,
        spec: Tensor,
        generator: torch.Generator,
        lengths: Tensor | None = None,
        ids: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        crop, left = random_crops(spec, self.n_frames, generator, lengths)
        left = send(left, spec.device)  # valid frames
        if self.gain_db:
            gain = uniform(len(spec), -self.gain_db, self.gain_db, generator, spec.device)
            crop = crop + (gain * log_power(1.0) / self.norm_scale)[:, None, None]
        crop = crop.masked_fill(~valid_frames(left, self.n_frames)[..., None], self.pad_value)
        grid = (self.n_frames // PATCH, spec.shape[2] // PATCH)
        masking = draw_masking(
            len(spec) * self.n_masks, grid, generator, ratio=self.ratio, structured=self.structured,
            time_ratio=self.time_ratio, freq_ratio=self.freq_ratio,
            block=self.block, block_extra=self.block_extra, device=spec.device,
        )  # fmt: skip
        counted = valid_patches(left, self.n_frames, spec.shape[2]).float()
        if self.count_padding:
            counted = torch.ones_like(counted)
        return crop, masking.kept, masking.mask, masking.restore, counted
