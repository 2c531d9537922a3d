"""Every clip through a frozen encoder, once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiossl_lite.frontends import reflect_end
from audiossl_lite.progress import progress


def length_batches(lengths: Tensor, batch_size: int) -> list[Tensor]:
    """Indices of clips in batches of similar length, so that little padding is computed."""
    return list(torch.argsort(lengths, stable=True).split(batch_size))


@torch.no_grad()
def embed_with(
    embed: Callable[[Tensor, Tensor], Tensor],
    waveforms: Tensor,
    lengths: Tensor,
    *,
    batch_size: int = 32,
    description: str = "embedding",
) -> Tensor:
    """Apply `embed(waveform (b, s), lengths (b,)) -> (b, D)` to all clips `(n, S)`, in the clips' order: `(n, D)`.

    Raises ValueError when an embedding is not finite, naming the clips.

    Where: uaMix-MAE Sec. 4.1; chapter 10
    """
    if len(waveforms) == 0:
        raise ValueError("there are no clips to embed")
    features = torch.empty(0)
    for index in progress(length_batches(lengths, batch_size), description):
        size = int(lengths[index].max())
        out = embed(waveforms[index, :size], lengths[index]).float().cpu()
        if not torch.isfinite(out).all():
            bad = index[~torch.isfinite(out).all(1)].tolist()
            raise ValueError(f"the embedding of clips {bad[:8]} is not finite; check these clips")
        if not features.numel():
            features = torch.empty(len(waveforms), out.shape[1])
        features[index] = out
    return features


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

    `features(spec, lengths)` defaults to the encoder itself, for example `encoder.linear_features`. `device`
    defaults to where the encoder is; its mode and both places are restored, so that a run can be probed midway.
    Clips shorter than the frontend needs are padded with zeros.

    Where: uaMix-MAE Sec. 4.1; ATST Sec. 3.2; chapter 10
    """
    if lengths is None:
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
    compute = features or encoder
    was_training, home, frontend_home = encoder.training, _device_of(encoder), _device_of(frontend)
    device = home if device is None else device
    encoder.eval().to(device)
    frontend.to(device)
    shortest = max(frontend.min_samples, 8 * 160)

    def embed(waveform: Tensor, valid: Tensor) -> Tensor:
        if waveform.shape[1] < shortest:
            waveform = nn.functional.pad(waveform, (0, shortest - waveform.shape[1]))
        valid = valid.clamp_min(shortest)
        frames = frontend.n_frames(valid)
        spec = frontend(reflect_end(waveform, valid, frontend.edge_samples).to(device))
        return compute(*whole_frames(spec, frames.to(device), frontend))

    try:
        return embed_with(embed, waveforms, lengths, batch_size=batch_size)
    finally:
        encoder.train(was_training).to(home)
        frontend.to(frontend_home)


def whole_frames(spec: Tensor, frames: Tensor, frontend: nn.Module) -> tuple[Tensor, Tensor]:
    """Cut `(B, T, F)` after the longest of the valid `frames (B,)`, to whole patches where the frontend asks for them.

    A frontend with a `frame_multiple` also has a `pad_value`, written past the end of every clip: what a clip's
    padding holds then does not depend on the other clips of its batch.
    """
    multiple = getattr(frontend, "frame_multiple", 1)
    size = -(-int(frames.max()) // multiple) * multiple
    spec = spec[:, :size]
    if multiple > 1:
        past_end = torch.arange(spec.shape[1], device=spec.device) >= frames[:, None]
        spec = spec.masked_fill(past_end[..., None], frontend.pad_value)
    return spec, frames


def _device_of(module: nn.Module) -> torch.device:
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
