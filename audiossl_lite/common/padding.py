"""Clips of several lengths in one tensor: what is valid, and spectrograms that do not see the padding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def valid_frames(lengths: Tensor, n_frames: int) -> Tensor:
    """True for the frames that clips of `lengths (B,)` have, False for padding, `(B, n_frames)`."""
    return torch.arange(n_frames, device=lengths.device) < lengths[:, None]


def valid_values(
    frontend: nn.Module,
    compute: Callable[[Tensor], Tensor],
    waveform: Tensor,
    lengths: Tensor | None,
) -> Tensor:
    """`compute(waveform)` of clips `(B, S)`, the frames of all clips one after the other: `(frames, F)`.

    With `lengths (B,)`, the valid samples, each clip gives the frames that it gives alone, and its padding none.
    """
    if lengths is None:
        return torch.cat([compute(part).flatten(0, 1) for part in waveform.split(64)])
    lengths = lengths.to(waveform.device).clamp_min(frontend.min_samples)
    parts = []
    for part, valid in zip(waveform.split(64), lengths.split(64), strict=True):
        frames = as_alone(frontend, part, valid, compute)
        parts.append(frames[valid_frames(frontend.n_frames(valid), frames.shape[1])])
    return torch.cat(parts)


def as_alone(
    frontend: nn.Module,
    waveform: Tensor,
    lengths: Tensor,
    compute: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Spectrograms `(B, T, F)` of clips `(B, S)` of which the first `lengths (B,)` samples count.

    Every clip's frames are those that it gives alone; what follows them is of no use. `compute`: another view of the
    frontend, `frontend.decibels` for one.
    """
    mirrored = reflect_end(waveform, lengths, frontend.edge_samples)
    if getattr(frontend, "top_db", None) is not None:  # a floor below the loudest of its own frames
        return (compute or frontend)(mirrored, frontend.n_frames(lengths))
    return (compute or frontend)(mirrored)


def reflect_end(waveform: Tensor, lengths: Tensor, samples: int) -> Tensor:
    """Write the mirror image of each clip's last `samples` after its own end: `(B, S)` -> `(B, S + samples)`.

    Centred frames near the end of a padded clip then hold what they hold when the clip stands alone. Each of
    `lengths (B,)` exceeds `samples`.
    """
    position = torch.arange(waveform.shape[1] + samples, device=waveform.device)
    last = lengths.to(waveform.device)[:, None] - 1
    index = torch.where(position <= last, position, 2 * last - position)
    return waveform.gather(1, index.clamp(0, waveform.shape[1] - 1)) * (position <= last + samples)
