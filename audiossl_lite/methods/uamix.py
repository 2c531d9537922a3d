"""uaMix-MAE: a pretrained encoder is tuned by nearest-neighbour contrastive learning on unsupervised mixtures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.common.devices import on_host
from audiossl_lite.encoders.transformer import in_parts
from audiossl_lite.losses import cosines, mixture_loss
from audiossl_lite.methods.distributed import gather, gather_labels
from audiossl_lite.methods.heads import mlp_head, nnclr_projector
from audiossl_lite.methods.health import spread_and_rank
from audiossl_lite.methods.support_queue import SupportQueue
from audiossl_lite.methods.teacher import ema_update, make_teacher


class NNCLRTuning(nn.Module):
    """Encoder, projector, predictor and support queue; the neighbour of the anchor must find its positive.

    `encoder`: `(B, T, F), lengths -> (B, D)`. `trainable`: `"head"` (step 1: the encoder is frozen and in eval mode),
    `"upper"` (step 2: the upper half of its `.blocks` and its `.norm` are tuned too, with rates
    `layer_decay ** (depth - i)`) or `"all"` (an encoder of any kind as a whole: plain NNCLR). `ema_projector`:
    neighbours are looked up with a moving average of the projector. `symmetric`: also the other direction, the
    positive's neighbour against the anchor's predictions. One direction is Eq. 1 and Eq. 4 as written: then the mixture
    receives no gradient, only the positive does. `k`: a random one of the k nearest entries; with `k=0` no neighbour is
    asked, the anchor stands for itself (InfoNCE). With several processes negatives and queue are those of the joint
    batch. `n_parts`: as in `BYOL`.

    Where: uaMix-MAE Sec. 3, Eq. 1, 4; chapter 07 and chapter 09
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        trainable: str = "head",
        hidden_dim: int = 2048,
        predictor_dim: int = 4096,
        projection_dim: int = 256,
        queue_size: int = 8192,
        k: int = 1,
        temperature: float = 0.15,
        symmetric: bool = False,
        ema_projector: bool = False,
        layer_decay: float = 0.65,
        head_decay_scale: float = 2e-4,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if trainable not in ("head", "upper", "all"):
            raise ValueError(
                f"trainable is 'head' (step 1), 'upper' (step 2) or 'all', got {trainable!r}"
            )
        self.trainable, self.k, self.temperature = trainable, k, temperature
        self.symmetric, self.projection_dim, self.n_parts = symmetric, projection_dim, 1
        self.layer_decay, self.head_decay_scale = layer_decay, head_decay_scale
        self.encoder = encoder
        self.projector = nnclr_projector(encoder.embed_dim, hidden_dim, projection_dim)
        self.predictor = mlp_head(projection_dim, predictor_dim, projection_dim, bias=False)
        self.target_projector = make_teacher(self.projector) if ema_projector else None
        self.queue = SupportQueue(queue_size, projection_dim, generator=generator)
        self.frozen = self._freeze()

    def _freeze(self) -> list[nn.Module]:
        """Switch off the gradient of what is not trained; return these modules."""
        if self.trainable == "all":
            return []
        self.encoder.requires_grad_(False)
        if self.trainable == "head":
            return [self.encoder]
        half = len(self.encoder.blocks) // 2
        for module in (*self.encoder.blocks[half:], self.encoder.norm):
            module.requires_grad_(True)
        return [self.encoder.patch_embed, *self.encoder.blocks[:half]]

    def train(self, mode: bool = True) -> NNCLRTuning:
        """Train mode for what is trained; frozen parts stay in eval mode.

        Where: uaMix-MAE Sec. 3; chapter 09
        """
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def parameter_groups(self) -> list[dict]:
        """Groups of the trainable parameters with `lr_scale` and `decay_scale`; 1-D tensors are not decayed.

        Where: uaMix-MAE Sec. 4; chapter 09
        """
        scaled = [(head, 1.0, self.head_decay_scale) for head in (self.projector, self.predictor)]
        if self.trainable == "all":
            scaled.append((self.encoder, 1.0, 1.0))
        if self.trainable == "upper":
            blocks, depth = self.encoder.blocks, len(self.encoder.blocks)
            scaled.append((self.encoder.norm, 1.0, 1.0))
            for i in range(depth // 2, depth):  # layer decay: the lower the block, the slower
                scaled.append((blocks[i], self.layer_decay ** (depth - i), 1.0))
        groups = []
        for module, lr_scale, decay_scale in scaled:
            scales = {"lr_scale": lr_scale, "decay_scale": decay_scale}
            flat = [p for p in module.parameters() if p.dim() == 1]
            deep = [p for p in module.parameters() if p.dim() > 1]
            if deep:
                groups.append({"params": deep, "decayed": True, **scales})
            groups.append({"params": flat, "decayed": False, "weight_decay": 0.0, **scales})
        return groups

    def forward(
        self,
        anchor: Tensor,
        positive: Tensor,
        labels: Tensor,
        avoid: Tensor,
        ids: Tensor,
        lengths: Tensor | None = None,
        *,
        monitors: bool = True,
    ) -> dict[str, Tensor]:
        """`loss` with gradient and `monitors` without; see `TuningViews` for the arguments.

        In train mode the clean positives' projections enter the queue after the loss; mixtures never do.
        """
        if lengths is not None and on_host(lengths) and (lengths >= anchor.shape[1]).all():
            lengths = None  # whole clips need no mask
        loss, outputs = self.loss(anchor, positive, labels, avoid, ids, lengths)
        h_positive, z_positive, neighbours, predictions, labels = outputs
        self._remember(h_positive, z_positive, ids)
        if not monitors:
            return {"loss": loss}
        with torch.no_grad():
            nearest = cosines(predictions, neighbours).argmax(0)  # to each neighbour
            hit = labels.gather(1, nearest[:, None]).gt(0).float().mean()
            std, rank = spread_and_rank(z_positive)
        return {"loss": loss, "std": std, "rank": rank, "found": hit}

    def loss(
        self,
        anchor: Tensor,
        positive: Tensor,
        labels: Tensor,
        avoid: Tensor,
        ids: Tensor,
        lengths: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss; embedding and projection of the positives; neighbours, predictions and labels of the joint batch.

        Where: uaMix-MAE Eq. 4; chapter 09
        """
        h_anchor, h_positive = self._embed(anchor, positive, lengths)
        z_positive = self.projector(h_positive)
        neighbours = gather(self._lookup(h_anchor, avoid))  # without gradient
        predictions = gather(self.predictor(z_positive))
        labels = gather_labels(labels)
        loss = mixture_loss(neighbours, predictions, labels, self.temperature)
        if self.symmetric:
            # Whose mixtures hold this clip; a clip that is in none of them asks for nothing.
            back = labels.T / labels.sum(0).clamp_min(1e-6)[:, None]
            other = gather(self._lookup(h_positive, ids[:, None]))
            mixed = gather(self.predictor(self.projector(h_anchor)))
            loss = 0.5 * (loss + mixture_loss(other, mixed, back, self.temperature))
        return loss, (h_positive, z_positive, neighbours, predictions, labels)

    def _embed(
        self, anchor: Tensor, positive: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Embeddings `(B, D)` of both views; in one direction no gradient passes through the anchor."""
        if self.symmetric:  # rows of the encoder are independent: both in one call
            both = None if lengths is None else torch.cat([lengths, lengths])
            views = torch.cat([anchor, positive])
            return in_parts(self.encoder, self.n_parts, views, both).chunk(2)
        with torch.no_grad():
            h_anchor = in_parts(self.encoder, self.n_parts, anchor, lengths)
        return h_anchor, in_parts(self.encoder, self.n_parts, positive, lengths)

    @torch.no_grad()
    def _lookup(self, embedding: Tensor, avoid: Tensor) -> Tensor:
        """The neighbour `(B, projection_dim)` of each embedding; with `k=0` its own projection."""
        projector = self.projector if self.target_projector is None else self.target_projector
        query = projector(embedding)
        if self.k == 0:
            return F.normalize(query, dim=1)
        return self.queue.neighbours(query, avoid, k=self.k)

    @torch.no_grad()
    def _remember(self, embedding: Tensor, projection: Tensor, ids: Tensor) -> None:
        """Put the projections of clean clips into the queue, in train mode."""
        if self.target_projector is not None:
            projection = self.target_projector(embedding)
        if self.training:
            self.queue.push(gather(projection.detach()), gather(ids))

    def update_teacher(self, momentum: float) -> None:
        """Let the projector's moving average follow, its batch-norm statistics copied.

        Where: uaMix-MAE Sec. 3; chapter 09
        """
        if self.target_projector is not None:
            ema_update(self.target_projector, self.projector, momentum)
            for mine, new in zip(
                self.target_projector.buffers(), self.projector.buffers(), strict=True
            ):
                mine.copy_(new)

    def head_state(self) -> dict[str, Tensor]:
        """What step 2 takes over from step 1: projector, predictor and queue."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if name.startswith(("projector.", "predictor.", "queue."))
        }

    def load_head_state(self, state: dict[str, Tensor]) -> None:
        """Start from the head of step 1; the projector's moving average starts equal to the projector."""
        own = self.head_state()
        problems = sorted(
            name
            for name in own.keys() | state.keys()
            if name not in own or name not in state or own[name].shape != state[name].shape
        )
        if problems:
            raise ValueError(
                f"the head does not fit: {problems[:4]}; use the same sizes in both steps"
            )
        self.load_state_dict(self.state_dict() | state)
        if self.target_projector is not None:
            self.target_projector.load_state_dict(self.projector.state_dict())

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The network that is evaluated."""
        return {"tuned": self.encoder}
