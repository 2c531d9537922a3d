"""The queue in which NNCLR looks for neighbours: unit vectors, first in first out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.common.devices import in_float32, on_host, send


class SupportQueue(nn.Module):
    """`size` unit vectors of width `dim` with the ids of the clips they came from; random at the start (id -1).

    Where: NNCLR Sec. 3; uaMix-MAE Sec. 3; chapter 07
    """

    def __init__(self, size: int, dim: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim must be positive, got {size} and {dim}")
        start = torch.randn(size, dim, generator=generator)
        self.register_buffer("vectors", F.normalize(start, dim=1))
        self.register_buffer("ids", torch.full((size,), -1, dtype=torch.long))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    @in_float32
    def neighbours(
        self,
        queries: Tensor,
        exclude: Tensor,
        *,
        k: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A near neighbour of each query `(B, D)`: one drawn from the `k` most similar, `(B, D)`, without gradient.

        `exclude (B,)` or `(B, E)`: ids of clips that must not be found; a clip's own past embedding would always win
        and teach nothing. With fewer than `k` left it is one of these; when nothing is left, ValueError on the host and
        NaN on a device, see `on_host`. Similarities are float32 under autocast, too.

        Where: uaMix-MAE Eq. 1; chapter 07
        """
        if not 1 <= k <= len(self.vectors):
            raise ValueError(f"k lies between 1 and the queue length {len(self.vectors)}, got {k}")
        similarity = F.normalize(queries, dim=1) @ self.vectors.T  # (B, Q)
        exclude = exclude[:, None] if exclude.dim() == 1 else exclude
        own = (self.ids[None, None] == exclude[..., None]).any(1)
        similarity = similarity.masked_fill(own, -2.0)
        allowed = len(self.vectors) - own.sum(1)  # (B,)
        if on_host(allowed) and (allowed < 1).any():
            raise ValueError(
                f"all {len(self.vectors)} entries of the queue come from clips that must not be found; "
                "make the queue longer than a few batches, or train on more clips"
            )
        best = similarity.topk(k, dim=1).indices  # (B, k)
        if k > 1:
            device = torch.device("cpu") if generator is None else generator.device
            draw = send(torch.rand(len(queries), generator=generator, device=device), best.device)
            pick = (draw * allowed.clamp_max(k)).long()[:, None]  # never one that is excluded
            best = best.gather(1, pick)
        nearest = self.vectors[best[:, 0]]
        return nearest.masked_fill((allowed < 1)[:, None], torch.nan)

    @torch.no_grad()
    def push(self, vectors: Tensor, ids: Tensor) -> None:
        """Put `vectors (B, D)`, l2-normalised, over the oldest entries; call it after the loss."""
        if len(vectors) > len(self.vectors):
            raise ValueError(
                f"a batch of {len(vectors)} does not fit a queue of {len(self.vectors)}"
            )
        slots = (self.position + torch.arange(len(vectors), device=self.vectors.device)) % len(
            self.vectors
        )
        self.vectors[slots] = F.normalize(vectors.detach().to(self.vectors.dtype), dim=1)
        self.ids[slots] = ids.to(self.ids.device)
        self.position = (self.position + len(vectors)) % len(self.vectors)
