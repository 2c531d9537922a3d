"""Which patches are hidden from a masked autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Masking:
    """`kept (B, K)` token indices in the order the encoder sees them; `mask (B, N)` 1 where hidden; `restore (B, N)`:
    where token i stands in the sequence [kept tokens, hidden tokens].

    Where: AudioMAE Sec. 3; chapter 06
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
    order = torch.argsort(
        ~visible.flatten(1), dim=1, stable=True
    )  # visible first, both in raster order
    return _from_order(order, keep_time * keep_freq)
