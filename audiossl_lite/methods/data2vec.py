"""data2vec 2.0, EAT's objective: a student that sees a few patches predicts what its teacher makes of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.encoders.transformer import in_parts
from audiossl_lite.losses import masked_reconstruction_loss
from audiossl_lite.methods.distributed import joint_mean
from audiossl_lite.methods.health import effective_rank
from audiossl_lite.methods.teacher import ema_update, make_teacher


def averaged_targets(outputs: Sequence[Tensor], counted: Tensor | None = None) -> Tensor:
    """norm(mean_l((y_l - mean_i y_l) / std_i y_l)): outputs `(B, N, D)` of blocks l become targets `(B, N, D)`.

    Each block is normalised over the tokens i of a clip, every channel on its own (instance norm), so that all blocks
    count alike; the mean over blocks is normalised over the channels of each token (layer norm). `counted (B, N)`: 0
    for tokens that mean and deviation pass over. In float32.

    Where: data2vec 2.0 Sec. 3.1; EAT, official code; chapter 17
    """
    blocks = [y.float() for y in outputs]
    centred = [y - mean_of_counted(y, counted)[:, None] for y in blocks]
    variance = [mean_of_counted(y.square(), counted)[:, None] for y in centred]
    mean = torch.stack([y * (v + 1e-5).rsqrt() for y, v in zip(centred, variance)]).mean(0)
    return F.layer_norm(mean, mean.shape[-1:])


def mean_of_counted(tokens: Tensor, counted: Tensor | None = None) -> Tensor:
    """The mean `(B, D)` of the tokens `(B, N, D)` that count: `counted (B, N)` is 1 for them, by default for all."""
    if counted is None:
        return tokens.mean(1)
    share = counted / counted.sum(1, keepdim=True).clamp_min(1.0)
    return (tokens * share[..., None]).sum(1)


class Data2Vec(nn.Module):
    """A student of visible patches, its teacher of all, and a decoder that predicts the teacher at hidden patches.

    `encoder`: an `AudioMAEEncoder`. `decoder(latent (B, 1 + K, D), restore (B, N)) -> (B, N, D)`. `top_blocks`: the
    blocks of the teacher whose outputs are averaged. `utterance_weight`: of the second loss, in which CLS predicts the
    mean target of the clip; 0 leaves it out (data2vec 2.0, speech). Several maskings of a clip share one pass of the
    teacher. `n_parts`: the encoders take the batch in that many parts, see `in_parts`.

    Where: data2vec 2.0 Sec. 3; EAT Sec. 3; chapter 17
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        top_blocks: int,
        utterance_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 1 <= top_blocks <= len(encoder.blocks):
            raise ValueError(f"top_blocks is 1 to {len(encoder.blocks)}, got {top_blocks}")
        self.student, self.decoder, self.teacher = encoder, decoder, make_teacher(encoder)
        self.top_blocks, self.utterance_weight = top_blocks, utterance_weight
        self.n_parts, self.projection_dim = 1, encoder.embed_dim

    @torch.no_grad()
    def targets(self, spec: Tensor, counted: Tensor | None = None) -> Tensor:
        """What the teacher makes of every patch of `spec (B, T, F)`, `(B, N, D)`; `counted` as in `forward`.

        Averaged is what the feed-forward half of a block adds, not the sum that it is added to, in which each token
        carries its own position from block to block.

        Where: data2vec 2.0 Sec. 3.1; EAT, official code; chapter 17
        """
        x, outputs = self.teacher.embed(spec), []
        for block in self.teacher.blocks:
            x = x + block.attn(block.norm1(x))
            update = block.mlp(block.norm2(x))
            x = x + update
            outputs.append(update[:, 1:])  # without CLS
        return averaged_targets(outputs[-self.top_blocks :], counted)

    def forward(
        self,
        spec: Tensor,
        kept: Tensor,
        mask: Tensor,
        restore: Tensor,
        counted: Tensor | None = None,
        *,
        monitors: bool = False,
    ) -> dict[str, Tensor]:
        """`loss` with gradient, and the health `monitors` without.

        `spec (B, T, F)`; `kept (B * M, K)`, `mask`, `restore (B * M, N)`: M maskings a clip, clip by clip, as
        `MaskedViews` gives them. `counted (B, N)`: 0 for patches that neither targets nor loss count (padding), by
        default none.

        Where: data2vec 2.0 Sec. 3.3; EAT Sec. 3; chapter 17
        """
        loss, outputs = self.loss(spec, kept, mask, restore, counted)
        return {"loss": loss, **self._monitors(*outputs)} if monitors else {"loss": loss}

    def loss(
        self,
        spec: Tensor,
        kept: Tensor,
        mask: Tensor,
        restore: Tensor,
        counted: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss, and for the monitors its two parts, latents `(B * M, 1 + K, D)` and targets `(B, N, D)`."""
        n_masks = len(kept) // len(spec)
        targets = in_parts(self.targets, self.n_parts, spec, counted)
        clones = spec.repeat_interleave(n_masks, 0)
        latent = in_parts(self.student.sequence, self.n_parts, clones, kept)
        predicted = self.decoder(latent, restore)

        judged = mask if counted is None else mask * counted.repeat_interleave(n_masks, 0)
        wanted = targets.repeat_interleave(n_masks, 0)
        clip = mean_of_counted(targets, counted).repeat_interleave(n_masks, 0)
        frame = masked_reconstruction_loss(predicted, wanted, judged, norm_patches=False)
        frame = joint_mean(frame, judged.sum())
        utterance = (latent[:, 0].float() - clip).square().mean()
        loss = frame + self.utterance_weight * utterance
        return loss, (frame, utterance, latent, targets)

    @torch.no_grad()
    def _monitors(
        self, frame: Tensor, utterance: Tensor, latent: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        clips = latent[:, 1:].float().mean(1).view(len(targets), -1, latent.shape[2]).mean(1)
        # Targets have mean square 1. What does not differ between clips can be said without listening.
        between_clips = targets.var(0, correction=0).mean()
        return {
            "frame_loss": frame,
            "utterance_loss": utterance,
            "between_clips": between_clips,
            "rank": effective_rank(clips),
        }

    def update_teacher(self, momentum: float) -> None:
        """Let the teacher follow; call after every optimiser step.

        Where: data2vec 2.0 Sec. 3.1; chapter 17
        """
        ema_update(self.teacher, self.student, momentum)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The networks that can be evaluated, the one the method keeps first: EAT is fine-tuned from the student."""
        return {"student": self.student, "teacher": self.teacher}
