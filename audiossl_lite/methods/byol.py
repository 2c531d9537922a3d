"""BYOL: a student predicts its own slow-moving teacher's view of the same clip. BYOL-A and ATST are this class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.encoders.transformer import in_parts
from audiossl_lite.losses import byol_loss
from audiossl_lite.methods.distributed import looks_across_rows
from audiossl_lite.methods.heads import mlp_head
from audiossl_lite.methods.health import spread, spread_and_rank
from audiossl_lite.methods.teacher import ema_update, make_teacher


class BYOL(nn.Module):
    """Student (encoder, projector, predictor) and teacher (encoder, projector): two views in, a loss out.

    `encoder`: `(B, T, F) -> (B, encoder.embed_dim)`. `reduction="sum"`: L + L' as in the papers; `"mean"`: half of
    it, as ATST's official code. `joint_views`: both views in one forward, so that batch-norm sees both (ATST's code);
    otherwise one forward each (BYOL-A's). Three switches break the method on purpose: `predictor=False`,
    `stop_gradient=False`, and a momentum of 0 in `update_teacher`. `n_parts`: the encoders take the batch in that many
    parts, see `in_parts`.

    Where: ATST Sec. 2.1; BYOL-A Sec. 3.1; chapter 04
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        hidden_dim: int = 4096,
        projection_dim: int = 256,
        head_bias: bool = True,
        reduction: str = "sum",
        joint_views: bool = False,
        predictor: bool = True,
        stop_gradient: bool = True,
    ) -> None:
        super().__init__()
        if reduction not in ("sum", "mean"):
            raise ValueError(
                f"reduction is 'sum' (L + L') or 'mean' (half of it), got {reduction!r}"
            )
        self.reduction, self.joint_views, self.stop_gradient = reduction, joint_views, stop_gradient
        self.n_parts, self.projection_dim = 1, projection_dim
        self._one_by_one = looks_across_rows(encoder)
        projector = mlp_head(encoder.embed_dim, hidden_dim, projection_dim, bias=head_bias)
        self.student = nn.ModuleDict({"encoder": encoder, "projector": projector})
        self.teacher = make_teacher(self.student)
        self.predictor: nn.Module = nn.Identity()
        if predictor:
            self.predictor = mlp_head(projection_dim, hidden_dim, projection_dim, bias=head_bias)

    def project(self, network: nn.ModuleDict, groups: list[Tensor]) -> list[Tensor]:
        """Projections `(B, projection_dim)` of each group of views `(B, T, F)`; batch norm sees one group at a time.

        An encoder without batch norm treats clips independently: it takes all groups in one call.
        """
        encoder, projector = network["encoder"], network["projector"]
        if self._one_by_one:
            embeddings = [encoder(views) for views in groups]
        else:
            embeddings = in_parts(encoder, self.n_parts, torch.cat(groups)).chunk(len(groups))
        return [projector(h) for h in embeddings]

    def forward(self, first: Tensor, second: Tensor, *, monitors: bool = True) -> dict[str, Tensor]:
        """`loss` with gradient, and the health `monitors` without, from two views `(B, T, F)` of the same clips.

        Where: ATST Sec. 2.1; chapter 04
        """
        loss, outputs = self.loss(first, second)
        return {"loss": loss, **self._monitors(*outputs)} if monitors else {"loss": loss}

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss, and for the monitors projections, predictions and targets `(2B, D)`; views as in `forward`.

        Where: ATST Sec. 2.1; chapter 04
        """
        groups = [torch.cat([first, second])] if self.joint_views else [first, second]
        projections = self.project(self.student, groups)
        predictions = torch.cat(
            [self.predictor(z) for z in projections]
        )  # (2B, D), first views, then second
        if self.stop_gradient:
            with torch.no_grad():
                targets = torch.cat(self.project(self.teacher, groups))
        else:  # no separate teacher to learn from: the student is its own target
            targets = torch.cat(projections)

        prediction_1, prediction_2 = predictions.chunk(2)
        target_1, target_2 = targets.chunk(2)
        loss = byol_loss(prediction_1, target_2) + byol_loss(prediction_2, target_1)
        if self.reduction == "mean":
            loss = loss / 2
        return loss, (torch.cat(projections), predictions, targets)

    @torch.no_grad()
    def _monitors(self, student: Tensor, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        std, rank = spread_and_rank(student)
        agreement = nn.functional.cosine_similarity(student.float(), target.float()).mean()
        return {
            "std": std,
            "teacher_std": spread(target),
            "rank": rank,
            "student_teacher_cosine": agreement,
            "prediction_std": spread(prediction),
        }

    def update_teacher(self, momentum: float) -> None:
        """Let the teacher follow; call after every optimiser step.

        Where: ATST Sec. 2.1; chapter 04
        """
        ema_update(self.teacher, self.student, momentum)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The networks that can be evaluated, the one the method keeps first.

        Without stop-gradient that is the student: no teacher ever runs, so its batch-norm has seen nothing.

        Where: ATST Sec. 2.2.2; chapter 05
        """
        names = ("teacher", "student") if self.stop_gradient else ("student", "teacher")
        return {name: getattr(self, name)["encoder"] for name in names}
