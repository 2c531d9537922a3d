"""The masked autoencoder: encode the few visible patches, predict the hidden ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.encoders.audiomae import patchify, unpatchify
from audiossl_lite.encoders.transformer import in_parts
from audiossl_lite.losses import masked_reconstruction_loss
from audiossl_lite.methods.distributed import joint_mean
from audiossl_lite.views.masks import Masking


class MAE(nn.Module):
    """Encoder of visible patches, decoder of all, loss on the hidden ones.

    `encoder.sequence(spec, kept) -> (B, 1 + K, D)`; `decoder(latent, restore) -> (B, N, 256)`. `norm_patches`: the
    target of a patch is its pattern (mean 0, variance 1), not its loudness. `n_parts`: encoder and decoder take the
    batch in that many parts, see `in_parts`.

    Where: AudioMAE Sec. 3; chapter 06
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, norm_patches: bool = True):
        super().__init__()
        self.encoder, self.decoder, self.norm_patches = encoder, decoder, norm_patches
        self.n_parts = 1

    def predict(self, spec: Tensor, kept: Tensor, restore: Tensor) -> Tensor:
        """Predicted patches `(B, N, 256)` of `spec (B, T, F)`, of which the encoder sees `kept (B, K)` only.

        Where: AudioMAE Sec. 3; chapter 06
        """
        return self.decoder(self.encoder.sequence(spec, kept), restore)

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
        """`loss` over the hidden patches of `spec (B, T, F)`; `kept`, `mask`, `restore` as in `Masking`.

        `counted (B, N)`: 0 for patches that the loss passes over (padding), by default none. The loss is all that is
        monitored.
        """
        return {"loss": self.loss(spec, kept, mask, restore, counted)}

    def loss(
        self,
        spec: Tensor,
        kept: Tensor,
        mask: Tensor,
        restore: Tensor,
        counted: Tensor | None = None,
    ) -> Tensor:
        """The loss; arguments as in `forward`."""
        predicted = in_parts(self.predict, self.n_parts, spec, kept, restore)
        judged = mask if counted is None else mask * counted
        loss = masked_reconstruction_loss(
            predicted.float(), patchify(spec), judged, self.norm_patches
        )
        return joint_mean(loss, judged.sum())

    @torch.no_grad()
    def reconstruct(self, spec: Tensor, masking: Masking) -> Tensor:
        """`spec (B, T, F)` with its hidden patches replaced by predictions.

        With `norm_patches` the network predicts a pattern only. Loudness and contrast of each hidden patch are then
        taken from the true patch, as usual for display: the picture is better informed than the network.

        Where: AudioMAE Sec. 4.5; chapter 06
        """
        patches = patchify(spec)
        predicted = self.predict(spec, masking.kept, masking.restore).float()
        if self.norm_patches:
            spread = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
            predicted = predicted * spread + patches.mean(-1, keepdim=True)
        return unpatchify(
            torch.where(masking.mask[..., None] > 0, predicted, patches), spec.shape[2]
        )

    def update_teacher(self, momentum: float) -> None:
        """There is no teacher; the momentum is ignored."""

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The network that is evaluated; the decoder is thrown away."""
        return {"encoder": self.encoder}
