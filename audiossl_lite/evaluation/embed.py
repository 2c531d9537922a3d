"""From waveform to features: the one path to padded spectrograms, and every clip through an encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiossl_lite.common.padding import as_alone, valid_frames
from audiossl_lite.common.progress import progress
from audiossl_lite.encoders.atst import in_chunks
from audiossl_lite.frontends import SAMPLE_RATE_HZ

SHORTEST = 8 * 160  # samples: BYOL-A's CNN needs eight frames


def centre_crop(waveforms: Tensor, lengths: Tensor, max_s: float = 12.0) -> tuple[Tensor, Tensor]:
    """The central `max_s` seconds of longer clips: `(n, S)` and `(n,)` -> `(n, min(S, max)), (n,)`.

    Shorter clips stay as they are, zeros after their end.

    Where: ATST Sec. 3.2; chapter 11
    """
    limit = round(max_s * SAMPLE_RATE_HZ)
    if limit < 1:
        raise ValueError(f"max_s must be positive, got {max_s}")
    if waveforms.shape[1] <= limit:
        return waveforms, lengths
    start = (lengths - limit).clamp_min(0) // 2
    cut = waveforms.gather(1, start[:, None] + torch.arange(limit, device=waveforms.device))
    return cut, lengths.clamp_max(limit)


@torch.no_grad()
def spectrograms(
    frontend: nn.Module,
    waveforms: Tensor,
    lengths: Tensor | None = None,
    *,
    max_s: float = 0.0,
    compute: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Every clip `(n, S)` as the frontend sees it alone: `(n, T, F)`, and valid frames `(n,)`.

    T ends with the longest clip, in whole patches where the encoder takes patches (`frame_multiple`); past a clip's end
    stands `frontend.pad_value`, so that its padding does not depend on the other clips. `lengths (n,)`: valid samples.
    With `max_s`, longer clips are cut to their centre; clips of less than 80 ms are padded with zeros. `compute` is
    another view of the frontend, `frontend.decibels` for one.

    Where: ATST Sec. 3.2; AudioMAE Sec. 4.1; chapter 11
    """
    if lengths is None:
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
    if max_s:
        waveforms, lengths = centre_crop(waveforms, lengths, max_s)
    shortest = max(frontend.min_samples, SHORTEST)
    waveforms = nn.functional.pad(waveforms, (0, max(shortest - waveforms.shape[1], 0)))
    lengths = lengths.to(waveforms.device).clamp_min(shortest)
    frames = frontend.n_frames(lengths)
    width = -(-int(frames.max()) // frontend.frame_multiple) * frontend.frame_multiple
    parts = []
    batches = zip(*(x.split(batch_size) for x in (waveforms, lengths, frames)), strict=True)
    for wave, samples, n in batches:
        spec = as_alone(frontend, wave, samples, compute)[:, :width]
        valid = valid_frames(n, spec.shape[1])[..., None]
        parts.append(spec.masked_fill(~valid, frontend.pad_value))
    return torch.cat(parts), frames


@torch.no_grad()
def embed_with(
    embed: Callable[[Tensor, Tensor], Tensor],
    waveforms: Tensor,
    lengths: Tensor | None = None,
    *,
    batch_size: int = 32,
) -> Tensor:
    """Apply `embed(waveform (b, s), lengths (b,)) -> (b, D)` to all clips `(n, S)`, in the clips' order: `(n, D)`.

    Raises ValueError when an embedding is not finite, naming the clips.
    """
    if len(waveforms) == 0:
        raise ValueError("there are no clips to embed")
    if lengths is None:
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
    rows = []
    by_length = torch.argsort(lengths, stable=True)  # little padding is computed
    for index in progress(by_length.split(batch_size), "embedding"):
        size = int(lengths[index].max())
        out = embed(waveforms[index, :size], lengths[index]).float().cpu()
        if not torch.isfinite(out).all():
            bad = index[~torch.isfinite(out).all(1)].tolist()
            raise ValueError(f"the embedding of clips {bad[:8]} is not finite; check these clips")
        rows.append(out)
    return torch.cat(rows)[by_length.argsort()]


def any_length(encoder: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """`encoder` for clips of any length: where a table of positions ends (AudioMAE), longer ones go in chunks."""
    return in_chunks(encoder, getattr(encoder, "n_frames", 0))


def embed_clips(
    encoder: nn.Module,
    frontend: nn.Module,
    waveforms: Tensor,
    lengths: Tensor | None = None,
    *,
    batch_size: int = 32,
    features: Callable[[Tensor, Tensor], Tensor] | None = None,
    device: str | torch.device | None = None,
) -> Tensor:
    """Embeddings `(n, D)` of clips `(n, S)` with valid `lengths (n,)`: frontend, encoder in eval mode, no gradient.

    `features(spec, lengths)`: `encoder.linear_features` for one; default: the encoder itself, see `any_length`.
    `device` defaults to where the encoder is; its mode and both places are restored, so that a run can be probed
    midway.

    Where: uaMix-MAE Sec. 4.1; ATST Sec. 3.2; chapter 10
    """
    compute = features or any_length(encoder)
    was_training, home, frontend_home = encoder.training, _device_of(encoder), _device_of(frontend)
    device = home if device is None else device
    encoder.eval().to(device)
    frontend.to(device)

    def embed(waveform: Tensor, valid: Tensor) -> Tensor:
        return compute(*spectrograms(frontend, waveform.to(device), valid))

    try:
        return embed_with(embed, waveforms, lengths, batch_size=batch_size)
    finally:
        encoder.train(was_training).to(home)
        frontend.to(frontend_home)


def _device_of(module: nn.Module) -> torch.device:
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
