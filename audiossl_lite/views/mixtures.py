"""What uaMix-MAE sees: two augmentations of a clip, the first perhaps mixed with another clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import send, world_size
from audiossl_lite.common.padding import valid_frames
from audiossl_lite.mixing import Mixture, mixup, t_cutmix, tf_cutmix, virtual_labels
from audiossl_lite.views.augmentations import (
    RandomResizedCrop,
    SpecAugment,
    SpectralGain,
    TimeRoll,
)
from audiossl_lite.views.segments import random_segments

MIXINGS = ("none", "mixup", "tf_cutmix", "t_cutmix")
# Shares of frames and bands that SpecAugment covers at most: 192 of 1024 and 48 of 128 in AudioMAE's fine-tuning.
COVERED = (192 / 1024, 48 / 128)


class TuningViews(nn.Module):
    """Filter banks `(B, T, F)` and clip ids to what `NNCLRTuning` takes: anchor, positive, labels, ids to avoid, ids.

    Both views are augmented (gain, a roll in time, then random resized crop or SpecAugment); the anchor is then mixed
    by `mixing` with the clip from the other end of the batch. `rule`: the T-CutMix rule; `other (B, T, F)`: what the
    positive is made of, if not of the same crop. Returns anchor `(B, T, F)`, positive `(B, T, F)`, virtual labels
    `(B, B)`, `avoid (B, 2)` (own and partner's id), `ids (B,)`, `lengths (B,)`.

    Where: uaMix-MAE Fig. 1; chapter 09
    """

    def __init__(
        self,
        mixing: str = "t_cutmix",
        *,
        rule: str = "paper",
        alpha: float = 1.0,
        per_sample: bool = False,
        gain_db: float = 6.0,
        log_unit: float = 2 * 4.5689974,
        augmentation: str = "resized_crop",
    ) -> None:
        super().__init__()
        if mixing not in MIXINGS:
            raise ValueError(f"mixing is one of {', '.join(MIXINGS)}, got {mixing!r}")
        if augmentation not in ("resized_crop", "spec_augment", "none"):
            raise ValueError(
                f"augmentation is resized_crop, spec_augment or none, got {augmentation!r}"
            )
        self.mixing, self.rule, self.alpha, self.per_sample = mixing, rule, alpha, per_sample
        self.gain, self.roll = SpectralGain(gain_db, log_unit), TimeRoll()
        self.last: nn.Module | None = None
        if augmentation == "resized_crop":
            self.last = RandomResizedCrop()
        elif augmentation == "spec_augment":
            self.last = SpecAugment(*COVERED)

    def augment(self, spec: Tensor, generator: torch.Generator, lengths: Tensor | None) -> Tensor:
        """One augmented view of each clip, `(B, T, F) -> (B, T, F)`; padding behind `lengths (B,)` stays as it is.

        Where: uaMix-MAE Fig. 1 (DA); chapter 09
        """
        spec = self.roll(self.gain(spec, generator, lengths), generator, lengths)
        return spec if self.last is None else self.last(spec, generator, lengths)

    def mix(self, spec: Tensor, generator: torch.Generator, lengths: Tensor | None) -> Mixture:
        """The mixture of each clip with its partner.

        Where: uaMix-MAE Eq. 2; chapter 08
        """
        options = {"alpha": self.alpha, "per_sample": self.per_sample}
        options |= {"generator": generator, "lengths": lengths}
        if self.mixing == "t_cutmix":
            return t_cutmix(spec, rule=self.rule, **options)
        return {"mixup": mixup, "tf_cutmix": tf_cutmix}[self.mixing](spec, **options)

    @torch.no_grad()
    def forward(
        self,
        spec: Tensor,
        generator: torch.Generator,
        lengths: Tensor | None = None,
        *,
        ids: Tensor,
        other: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        anchor = self.augment(spec, generator, lengths)
        positive = self.augment(spec if other is None else other, generator, lengths)
        if lengths is None:
            lengths = torch.full((len(spec),), spec.shape[1])
        mixture = None if self.mixing == "none" else self.mix(anchor, generator, lengths)
        if world_size() > 1:  # else `DistributedDataParallel` would send them, and wait
            lengths = send(lengths, spec.device)
        if mixture is None:
            labels = torch.eye(len(spec), device=spec.device)
            return anchor, positive, labels, torch.stack([ids, ids], dim=1), ids, lengths
        avoid = torch.stack([ids, ids[mixture.partner]], dim=1)
        return mixture.spec, positive, virtual_labels(mixture), avoid, ids, lengths


class CroppedViews(nn.Module):
    """Random crops of `n_frames` inside each longer clip before the views of tuning: what the encoder was trained on.

    `segments="one"`: both views from one crop; `"two"`: from two independent ones, as in ATST. Takes and returns what
    `TuningViews` does; clips that end within the crop go on with `pad_value`.

    Where: uaMix-MAE Fig. 1; chapter 09
    """

    def __init__(
        self, n_frames: int, pad_value: float, views: TuningViews, segments: str = "one"
    ) -> None:
        super().__init__()
        if segments not in ("one", "two"):
            raise ValueError(f"segments is 'one' or 'two', got {segments!r}")
        self.n_frames, self.pad_value, self.views = n_frames, pad_value, views
        # None, which leaves no trace in a run's identity: runs of earlier versions had one crop.
        self.segments = None if segments == "one" else segments

    @torch.no_grad()
    def forward(
        self,
        spec: Tensor,
        generator: torch.Generator,
        lengths: Tensor | None = None,
        *,
        ids: Tensor,
    ) -> tuple[Tensor, ...]:
        if spec.shape[1] <= self.n_frames:
            return self.views(spec, generator, lengths, ids=ids)
        if lengths is None:
            lengths = torch.full((len(spec),), spec.shape[1])
        left = lengths.clamp(max=self.n_frames)
        past_end = ~valid_frames(send(left, spec.device), self.n_frames)[..., None]
        crop, other = (
            x.masked_fill(past_end, self.pad_value)
            for x in random_segments(
                spec,
                self.n_frames,
                segments=self.segments or "one",
                generator=generator,
                lengths=lengths,
            )
        )
        return self.views(crop, generator, left, ids=ids, other=other)
