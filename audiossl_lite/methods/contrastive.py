"""Contrastive learning with in-batch negatives, the contrast to BYOL: same encoder, same views, another loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.encoders.transformer import in_parts
from audiossl_lite.losses import info_nce
from audiossl_lite.methods.distributed import gather
from audiossl_lite.methods.heads import mlp_head
from audiossl_lite.methods.health import spread_and_rank


class Contrastive(nn.Module):
    """Encoder and projector trained by InfoNCE: the other view is right, all other clips of the batch are wrong.

    With several processes the batch is the joint one. `n_parts`: as in `BYOL`.

    Where: SimCLR; COLA, cited in ATST Sec. 1; chapter 04
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        hidden_dim: int = 4096,
        projection_dim: int = 256,
        temperature: float = 0.15,
    ) -> None:
        super().__init__()
        self.temperature, self.projection_dim = temperature, projection_dim
        self.n_parts = 1
        self.encoder = encoder
        self.projector = mlp_head(encoder.embed_dim, hidden_dim, projection_dim, bias=False)

    def forward(self, first: Tensor, second: Tensor, *, monitors: bool = True) -> dict[str, Tensor]:
        """`loss` with gradient, and the health `monitors` without, from two views `(B, T, F)` of the same clips."""
        loss, (projections,) = self.loss(first, second)
        if not monitors:
            return {"loss": loss}
        std, rank = spread_and_rank(projections.detach())
        return {"loss": loss, "std": std, "rank": rank}

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss, and for the monitors the projections `(2B, D)`; views as in `forward`."""
        embeddings = in_parts(self.encoder, self.n_parts, torch.cat([first, second]))
        projections = self.projector(embeddings)  # (2B, D)
        pair = [gather(view) for view in projections.chunk(2)]
        return info_nce(*pair, temperature=self.temperature), (projections,)

    def update_teacher(self, momentum: float) -> None:
        """There is no teacher; the momentum is ignored."""

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The network that is evaluated."""
        return {"student": self.encoder}
