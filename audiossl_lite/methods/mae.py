"""The masked autoencoder: encode the few visible patches, predict the hidden ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.augmentations import uniform, valid_frames
from audiossl_lite.devices import send
from audiossl_lite.encoders.audiomae import PATCH, patchify, unpatchify, valid_patches
from audiossl_lite.losses import masked_reconstruction_loss
from audiossl_lite.masking import Masking, structured_masking, unstructured_masking
from audiossl_lite.parallel import total, world_size
from audiossl_lite.recompute import in_parts
from audiossl_lite.views import cut, random_starts


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

        Where: AudioMAE Sec. 3; chapter 06
        """
        predicted = in_parts(self.predict, self.n_parts, spec, kept, restore)
        judged = mask if counted is None else mask * counted
        loss = masked_reconstruction_loss(
            predicted.float(), patchify(spec), judged, self.norm_patches
        )
        if (
            world_size() > 1
        ):  # a mean over the hidden patches of all processes, not a mean of their means
            loss = loss * (judged.sum() * world_size() / total(judged.sum()))
        return {"loss": loss}

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
        """There is no teacher; the momentum is ignored.

        Where: AudioMAE Sec. 3; chapter 06
        """

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The network that is evaluated; the decoder is thrown away.

        Where: AudioMAE Sec. 3; chapter 06
        """
        return {"encoder": self.encoder}


def draw_masking(
    n_clips: int,
    grid: tuple[int, int],
    generator: torch.Generator,
    *,
    ratio: float = 0.8,
    structured: bool = False,
    time_ratio: float = 0.6,
    freq_ratio: float = 0.5,
    device: str | torch.device = "cpu",
) -> Masking:
    """A random masking of `grid` (times, bands) patches for each of `n_clips`: tokens, or whole times and bands.

    The noise is drawn where the generator is and sorted on `device`.

    Where: AudioMAE Sec. 3; chapter 06
    """

    def noise(size: int) -> Tensor:
        return send(torch.rand(n_clips, size, generator=generator, device=generator.device), device)

    n_time, n_freq = grid
    if structured:
        return structured_masking(noise(n_time), noise(n_freq), time_ratio, freq_ratio)
    return unstructured_masking(noise(n_time * n_freq), ratio)


class MaskedViews(nn.Module):
    """Filter banks `(B, T, F)` to what `MAE` takes: a crop of `n_frames`, perhaps louder or softer, and its masking.

    `lengths (B,)`: valid frames; crops lie inside them, and shorter clips are filled with `pad_value`.
    `gain_db`: greatest change of level, uniform in +-gain_db; `norm_scale` is the divisor of the frontend's
    normalisation (2 std), which turns decibels into its units. `count_padding`: whether patches without a valid frame
    enter the loss, as published.

    Where: AudioMAE Sec. 4; chapter 06
    """

    def __init__(
        self,
        n_frames: int,
        *,
        ratio: float = 0.8,
        structured: bool = False,
        time_ratio: float = 0.6,
        freq_ratio: float = 0.5,
        gain_db: float = 0.0,
        norm_scale: float = 9.1379948,
        pad_value: float = 0.46703,
        count_padding: bool = False,
    ) -> None:
        super().__init__()
        if n_frames % PATCH or n_frames < PATCH:
            raise ValueError(f"a crop is a multiple of {PATCH} frames, got {n_frames}")
        self.n_frames, self.ratio, self.structured = n_frames, ratio, structured
        self.time_ratio, self.freq_ratio, self.gain_db = time_ratio, freq_ratio, gain_db
        self.norm_scale, self.pad_value, self.count_padding = norm_scale, pad_value, count_padding

    @torch.no_grad()
    def forward(
        self,
        spec: Tensor,
        generator: torch.Generator,
        lengths: Tensor | None = None,
        ids: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        if lengths is None:
            lengths = torch.full((len(spec),), spec.shape[1])
        start = random_starts(lengths, self.n_frames, generator)
        left = (lengths - start).clamp(max=self.n_frames)  # valid frames of the crop
        left = send(left, spec.device)
        crop = cut(spec, start, self.n_frames)
        if self.gain_db:
            gain = uniform(len(spec), -self.gain_db, self.gain_db, generator, spec.device)
            # A gain in dB adds to the natural log of power: 10 dB are ln 10.
            crop = crop + (gain * 0.230258509 / self.norm_scale)[:, None, None]
        crop = crop.masked_fill(~valid_frames(left, self.n_frames)[..., None], self.pad_value)
        grid = (self.n_frames // PATCH, spec.shape[2] // PATCH)
        masking = draw_masking(
            len(spec), grid, generator, ratio=self.ratio, structured=self.structured,
            time_ratio=self.time_ratio, freq_ratio=self.freq_ratio, device=spec.device,
        )  # fmt: skip
        if self.count_padding:
            counted = torch.ones_like(masking.mask)
        else:
            counted = valid_patches(left, self.n_frames, spec.shape[2]).float()
        return crop, masking.kept, masking.mask, masking.restore, counted
