"""Positive pairs: two views of one clip, from one segment or from two.

ATST's question (Fig. 1, Table 1) is which pair to show the student and the teacher. `random_segments` cuts it,
`ViewMaker` adds frontend and augmentations in the order of the paper or of the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import on_host, send, total, world_size
from audiossl_lite.frontends import FLOAT32_EPS
from audiossl_lite.views.augmentations import LogMixupExp, RandomResizedCrop


def cut(x: Tensor, start: Tensor, size: int) -> Tensor:
    """Cut `size` samples or frames from each item at its own `start (B,)`: `(B, S, ...) -> (B, size, ...)`.

    Positions past the end of `x` are 0. Raises ValueError for a negative start.

    Where: ATST Sec. 2.2.1; chapter 03
    """
    if on_host(start) and (start < 0).any():
        raise ValueError(f"a segment cannot start before the clip, got start {int(start.min())}")
    start = send(start, x.device)
    index = start[:, None] + torch.arange(size, device=x.device)  # (B, size)
    inside = index < x.shape[1]
    out = x[torch.arange(len(x), device=x.device)[:, None], index.clamp(max=x.shape[1] - 1)]
    return out.mul_(inside.view(*inside.shape, *(1,) * (x.dim() - 2)))  # no second copy


def random_starts(lengths: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Uniform first positions of a segment of `size` inside clips of `lengths (B,)`; 0 for shorter clips.

    Where: ATST Sec. 2.2.1; chapter 03
    """
    room = (lengths - size).clamp_min(0) + 1
    draw = torch.rand(
        len(lengths), generator=generator, device=generator.device, dtype=torch.float64
    )
    return (send(draw, lengths.device) * room).long()


def random_crops(
    x: Tensor, size: int, generator: torch.Generator, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One segment of `size` of each item and its valid part, `(B, S, ...) -> (B, size, ...), (B,)`.

    `lengths (B,)`: valid part of padded items.

    Where: AudioMAE Sec. 4.1; chapter 06
    """
    if lengths is None:
        lengths = torch.full((len(x),), x.shape[1])
    start = random_starts(lengths, size, generator)
    return cut(x, start, size), (lengths - start).clamp(max=size)


def random_segments(
    x: Tensor,
    size: int,
    *,
    segments: str,
    generator: torch.Generator,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Two segments of `size` samples or frames: `(B, S, ...) -> (B, size, ...)` twice.

    `segments="one"`: the same segment twice (BYOL-A); `"two"`: two independent ones (ATST). `lengths (B,)`: valid
    part of padded clips; clips shorter than `size` are zero-padded at the end.

    Where: ATST Fig. 1; chapter 03
    """
    if segments not in ("one", "two"):
        raise ValueError(f"segments is 'one' or 'two', got {segments!r}")
    if lengths is None:
        lengths = torch.full((len(x),), x.shape[1])
    first = random_starts(lengths, size, generator)
    second = first if segments == "one" else random_starts(lengths, size, generator)
    return cut(x, first, size), cut(x, second, size)


def overlap_share(start_a: Tensor, start_b: Tensor, size: int) -> Tensor:
    """Share of a segment that two segments of equal `size` have in common, `(B,)` in [0, 1].

    Where: ATST Sec. 3.1; chapter 05
    """
    return (1.0 - (start_a - start_b).abs() / size).clamp_min(0.0)


class ViewNormalisation(nn.Module):
    """Both views of a batch, all cells together, to mean 0 and standard deviation 1: `(B, T, F)` twice, in and out.

    The deviation is the unbiased one. Several processes share mean and deviation; each holds equally many clips.

    Where: BYOL-A Sec. 3.4; chapter 03
    """

    @torch.no_grad()
    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        views = torch.stack([first, second])
        n_cells = views.numel() * world_size()
        # In float64 the order of a sum does not show, so that several processes find what one does.
        wide = torch.float32 if views.device.type == "mps" else torch.float64
        mean = total(views.sum(dtype=wide)) / n_cells
        views -= mean.to(views.dtype)
        variance = total(views.square().sum(dtype=wide)) / (n_cells - 1)
        first, second = views / variance.sqrt().clamp_min(FLOAT32_EPS).to(views.dtype)
        return first, second


class ViewMaker(nn.Module):
    """Clips to two augmented views: `(B, S)` waveforms or `(B, T, F)` spectrograms in, two `(B, T', F)` out.

    `crop_from="waveform"`: cut, then `frontend` (the authors' code); `"spectrogram"`: the input already is a
    spectrogram, cut it (the paper's text). `size`: segment length in samples or frames accordingly. Mixup and random
    resized crop can be switched off; `shared_memory`: both views share one mixup memory, as in BYOL-A;
    `normalise_views`: a `ViewNormalisation` comes last. Numbers of the clips (`ids`) are not needed.

    Where: ATST Fig. 1; chapter 03
    """

    def __init__(
        self,
        size: int,
        *,
        segments: str = "two",
        crop_from: str = "waveform",
        frontend: nn.Module | None = None,
        mixup: bool = True,
        resized_crop: bool = True,
        memory_size: int = 2048,
        shared_memory: bool = False,
        normalise_views: bool = False,
    ) -> None:
        super().__init__()
        if crop_from not in ("waveform", "spectrogram"):
            raise ValueError(f"crop_from is 'waveform' or 'spectrogram', got {crop_from!r}")
        if crop_from == "waveform" and frontend is None:
            raise ValueError("crop_from='waveform' needs a frontend")
        self.size, self.segments, self.crop_from = size, segments, crop_from
        self.frontend = frontend if crop_from == "waveform" else None
        first = LogMixupExp(memory_size=memory_size) if mixup else None
        second = LogMixupExp(memory_size=memory_size) if mixup and not shared_memory else first
        self.mixup = nn.ModuleList([first, second]) if mixup else None
        self.resized_crop = RandomResizedCrop() if resized_crop else None
        self.normalise_views = ViewNormalisation() if normalise_views else None

    @torch.no_grad()
    def forward(
        self,
        x: Tensor,
        generator: torch.Generator,
        lengths: Tensor | None = None,
        ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        views = random_segments(
            x, self.size, segments=self.segments, generator=generator, lengths=lengths
        )
        if self.frontend is not None:
            first = self.frontend(views[0])
            # One segment is looked at once; the augmentations below never write into their input.
            views = (first, first if self.segments == "one" else self.frontend(views[1]))
        if self.mixup is not None:
            views = tuple(mix(view, generator) for mix, view in zip(self.mixup, views, strict=True))
        if self.resized_crop is not None:
            views = tuple(self.resized_crop(view, generator) for view in views)
        return views if self.normalise_views is None else self.normalise_views(*views)
