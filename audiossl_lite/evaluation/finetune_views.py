"""What fine-tuning feeds a network: clips mixed with their labels, stretched, covered, and hidden in part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.common.padding import valid_frames
from audiossl_lite.encoders.audiomae import PATCH
from audiossl_lite.evaluation.settings import FineTuning
from audiossl_lite.mixing import draw_lambda, mixup
from audiossl_lite.training.sources import data_digest
from audiossl_lite.views.augmentations import (
    RandomResizedCrop,
    SpecAugment,
    SpectralGain,
    uniform,
)
from audiossl_lite.views.masks import structured_masking


def power_mixup(
    spec: Tensor, weight: Tensor, partner: Tensor, *, log_unit: float, lengths: Tensor | None = None
) -> Tensor:
    """The log powers of weight * clip + (1 - weight) * partner as waveforms add, without their interference.

    `spec (B, T, F)` holds ln(power) / `log_unit` up to a constant; `weight (B,)` of the anchor's waveform, `partner
    (B,)` its index. Past the end of a shorter partner (`lengths (B,)`) the anchor is alone, only softer; past its own
    end nothing changes. Weight 1 returns `spec`.

    Where: AudioMAE, official code; chapter 11
    """
    weight = weight.to(spec)[:, None, None]
    own = spec + 2.0 * weight.log() / log_unit
    other = spec[partner] + 2.0 * torch.log1p(-weight) / log_unit
    if lengths is not None:
        valid = valid_frames(lengths.to(spec.device), spec.shape[1])[..., None]  # (B, T, 1)
        other = other.masked_fill(~valid[partner], -torch.inf)
    mixed = torch.logaddexp(own * log_unit, other * log_unit) / log_unit
    mixed = torch.where(weight < 1.0, mixed, spec)
    return mixed if lengths is None else torch.where(valid, mixed, spec)


class FineTuneViews(nn.Module):
    """Spectrograms `(B, T, F)` and clip ids to what `FineTuningMethod` takes, by the settings.

    In order: gain, mixup of clips and labels, random resized crop, stretches of time and bands covered, and for
    AudioMAE the patches that the encoder is shown. `labels (n, K)` of all clips. Returns the spectrograms, their
    `lengths (B,)`, `kept (B, M)` or None, and the labels (rows of one-label tasks still sum to 1). `log_unit`: of the
    frontend; `fill`: what covered cells become.

    Where: ATST Sec. 3.2; AudioMAE Sec. 4, official code; chapter 11
    """

    def __init__(self, config: FineTuning, labels: Tensor, *, log_unit: float, fill: float) -> None:
        super().__init__()
        if config.mixup not in ("linear", "power"):
            raise ValueError(f"mixup is 'linear' or 'power', got {config.mixup!r}")
        self.register_buffer("labels", labels, persistent=False)
        self.of_labels = data_digest(labels)
        self.mixup, self.alpha = config.mixup, config.mixup_alpha
        self.probability = config.mixup_probability
        self.gain = SpectralGain(config.gain_db, log_unit) if config.gain_db else None
        self.mask_time, self.mask_freq = config.mask_time, config.mask_freq
        if (self.mask_time or self.mask_freq) and config.head != "audiomae":
            raise ValueError(f"only head 'audiomae' hides patches, not {config.head!r}")
        self.log_unit = log_unit
        self.crop = RandomResizedCrop() if config.resized_crop else None
        covers = config.spec_frames or config.spec_bands
        self.cover = SpecAugment(config.spec_frames, config.spec_bands, fill) if covers else None

    @torch.no_grad()
    def forward(
        self, spec: Tensor, generator: torch.Generator, lengths: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        labels = self.labels[ids]
        if self.gain is not None:
            spec = self.gain(spec, generator, lengths)
        if self.probability:
            spec, labels = self.mix(spec, labels, generator, lengths)
        if self.crop is not None:
            spec = self.crop(spec, generator, lengths)
        if self.cover is not None:
            spec = self.cover(spec, generator, lengths)
        kept = None
        if self.mask_time or self.mask_freq:
            noise = [
                torch.rand(len(spec), size // PATCH, generator=generator, device=generator.device)
                for size in spec.shape[1:]
            ]
            kept = structured_masking(*noise, self.mask_time, self.mask_freq).kept.to(spec.device)
        return spec, lengths, kept, labels

    def mix(
        self, spec: Tensor, labels: Tensor, generator: torch.Generator, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mix a share of the clips, and their labels, with weights from Beta(alpha, alpha), one a clip."""
        n = len(spec)
        weight = draw_lambda(n, self.alpha, generator, per_sample=True)
        weight = weight.clamp_min(1e-6)  # its logarithm is needed
        chosen = uniform(n, 0.0, 1.0, generator, torch.device("cpu")) < self.probability
        weight = torch.where(chosen, weight, 1.0)
        # The weight goes to the labels as drawn, also where a shorter partner ends before the clip does.
        mixture = mixup(spec, lam=weight, lengths=lengths)
        partner, weight = mixture.partner, weight.to(spec.device)
        mixed = mixture.spec
        if self.mixup == "power":
            mixed = power_mixup(spec, weight, partner, log_unit=self.log_unit, lengths=lengths)
        return mixed, weight[:, None] * labels + (1.0 - weight[:, None]) * labels[partner]
