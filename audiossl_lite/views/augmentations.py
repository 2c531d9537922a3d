"""Batched, seeded augmentations: one draw per clip, all clips of a batch at once.

Spectrograms are `(B, T, F)`, waveforms `(B, S)`. Each augmentation splits in two: a pure function of its parameters
(tested item by item) and a module that draws them on the host, where `lengths` are at home, and sends them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import on_host, send
from audiossl_lite.common.padding import valid_frames
from audiossl_lite.frontends import FLOAT32_EPS, log_power

EPS = FLOAT32_EPS  # keeps the logarithm of Eq. 2 finite


def log_mixup_exp(spec: Tensor, other: Tensor, ratio: Tensor) -> Tensor:
    """Mix two log spectrograms as sounds add: log((1 - ratio) exp(spec) + ratio exp(other) + eps).

    `spec`, `other (B, T, F)`, `ratio (B,)`: the share of `other`; 0 returns `spec` up to eps.

    Where: BYOL-A Eq. 2; chapter 03
    """
    ratio = ratio.view(-1, 1, 1)
    if torch.is_grad_enabled() and (spec.requires_grad or other.requires_grad):
        return torch.log((1.0 - ratio) * spec.exp() + ratio * other.exp() + EPS)
    mixed = spec.exp().mul_(1.0 - ratio)  # in place: a temporary costs more than the arithmetic
    return mixed.add_(other.exp().mul_(ratio)).add_(EPS).log_()


class LogMixupExp(nn.Module):
    """Put a quiet earlier clip in the background of each clip: `(B, T, F) -> (B, T, F)`.

    Earlier clips come from a first-in-first-out memory of `memory_size` unmixed inputs; the first batch passes
    unmixed. The share of the background is uniform in [0, max_ratio). The memory is a buffer: it moves with the
    module and is saved in checkpoints, so that a resumed run draws what the uninterrupted one would have drawn.

    Where: BYOL-A Sec. 3.2; chapter 03
    """

    def __init__(self, max_ratio: float = 0.4, memory_size: int = 2048) -> None:
        super().__init__()
        if not 0.0 <= max_ratio < 1.0 or memory_size < 1:
            raise ValueError(
                f"max_ratio lies in [0, 1) and memory_size above 0, got {max_ratio}, {memory_size}"
            )
        self.max_ratio, self.memory_size = max_ratio, memory_size
        # A ring: the k-th input ever seen lies at place k modulo the size.
        # (memory_size, T, F) once something was seen.
        self.register_buffer("memory", torch.empty(0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self._count = 0  # `seen` as a number, so that a GPU is not asked for it at every step

    def __len__(self) -> int:
        """How many inputs are remembered."""
        return min(self._count, self.memory_size)

    def remembered(self) -> Tensor:
        """The remembered inputs `(n, T, F)`, oldest first."""
        order = torch.arange(self._count - len(self), self._count) % self.memory_size
        return self.memory[order.to(self.memory.device)]

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        if prefix + "memory" in state_dict:  # empty, or as large as the inputs made it
            self.memory = torch.empty_like(state_dict[prefix + "memory"], device=self.memory.device)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._count = int(self.seen)

    @torch.no_grad()
    def forward(self, spec: Tensor, generator: torch.Generator) -> Tensor:
        mixed = spec
        n = spec.shape[0]
        if not self.memory.numel():
            self.memory = spec.new_zeros(self.memory_size, *spec.shape[1:])
        elif self.memory.shape[1:] != spec.shape[1:]:
            raise ValueError(
                f"the memory holds spectrograms of shape {tuple(self.memory.shape[1:])}, "
                f"got {tuple(spec.shape[1:])}; use one LogMixupExp per segment length"
            )
        if len(self):
            ratio = uniform(n, 0.0, self.max_ratio, generator, spec.device)
            pick = torch.randint(len(self), (n,), generator=generator, device=generator.device)
            place = (self._count - len(self) + pick) % self.memory_size  # pick 0: the oldest
            mixed = log_mixup_exp(spec, self.memory[send(place, spec.device)], ratio)
        newest = spec[-self.memory_size :]
        first = self._count + n - len(newest)
        place = torch.arange(first, first + len(newest), device=spec.device) % self.memory_size
        self.memory[place] = newest.to(self.memory.dtype)
        self._count += n
        self.seen += n
        return mixed


def resized_crop(
    spec: Tensor,
    top: Tensor,
    left: Tensor,
    bands: Tensor,
    frames: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Cut a window from each spectrogram and stretch it back to full size: `(B, T, F) -> (B, T, F)`.

    `left`, `frames (B,)`: first frame and width of the window in frames, `left` counted from the first frame of the
    spectrogram (negative: into the empty canvas before it); `top`, `bands (B,)`: lowest band and height. What lies
    outside the spectrogram is 0. Bicubic with aligned corners, as one sparse product per axis for the whole batch.
    With `lengths (B,)` the valid part of a padded clip is treated as if it were the whole clip; padding stays.

    Where: BYOL-A Sec. 3.3; chapter 03
    """
    n_frames, n_bands = spec.shape[1:]
    valid = None if lengths is None else valid_frames(lengths, n_frames)[..., None]
    sound = spec if valid is None else torch.where(valid, spec, 0.0)
    out = _resize_rows(sound, *_cubic_taps(left, frames, n_frames, lengths))
    index, weight = _cubic_taps(top, bands, n_bands)
    if on_host(spec):  # few bands: one small matrix for each clip
        inside = (index >= 0) & (index < n_bands)
        matrix = weight.new_zeros(len(spec), n_bands, n_bands)
        matrix.scatter_add_(2, index.clamp(0, n_bands - 1), weight * inside)
        out = torch.bmm(out, matrix.transpose(1, 2))
    else:
        out = _resize_rows(out.transpose(1, 2), index, weight).transpose(1, 2).contiguous()
    return out if valid is None else torch.where(valid, out, spec)


class RandomResizedCrop(nn.Module):
    """Random shift and stretch in time and frequency: `(B, T, F) -> (B, T, F)`.

    The spectrogram lies in the middle of a canvas of zeros `canvas_time` times as long; a window of `time_scale` x
    T frames and `freq_scale` x F bands (cut to the canvas) is placed uniformly and stretched back to (T, F).

    Where: BYOL-A Sec. 3.3; chapter 03
    """

    def __init__(
        self,
        freq_scale: tuple[float, float] = (0.6, 1.5),
        time_scale: tuple[float, float] = (0.6, 1.5),
        canvas_time: float = 1.5,
    ) -> None:
        super().__init__()
        for low, high in (freq_scale, time_scale):
            if not 0.0 < low <= high:
                raise ValueError(f"a scale is a pair 0 < low <= high, got {(low, high)}")
        if canvas_time < 1.0:
            raise ValueError(f"canvas_time is at least 1, got {canvas_time}")
        self.freq_scale, self.time_scale, self.canvas_time = freq_scale, time_scale, canvas_time

    def draw(
        self, n: int, n_frames: int | Tensor, n_bands: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Windows of `resized_crop` for `n` clips of `n_frames` (one number or one each), each `(n,)` long."""
        cpu = torch.device("cpu")
        n_frames = torch.as_tensor(n_frames)
        canvas = (n_frames.double() * self.canvas_time).long()
        bands = (uniform(n, *self.freq_scale, generator, cpu) * n_bands).long().clamp(1, n_bands)
        frames = (uniform(n, *self.time_scale, generator, cpu) * n_frames).long().clamp_min(1)
        frames = torch.minimum(frames, canvas)
        top = (uniform(n, 0.0, 1.0, generator, cpu) * (n_bands - bands + 1)).long()
        left = (uniform(n, 0.0, 1.0, generator, cpu) * (canvas - frames + 1)).long()
        left = left - (canvas - n_frames) // 2
        return {"top": top, "left": left, "bands": bands, "frames": frames}

    @torch.no_grad()
    def forward(
        self, spec: Tensor, generator: torch.Generator, lengths: Tensor | None = None
    ) -> Tensor:
        n, n_frames, n_bands = spec.shape
        size = n_frames if lengths is None else lengths.cpu()
        window = self.draw(n, size, n_bands, generator)
        numbers = send(torch.stack([*window.values()]), spec.device)
        lengths = None if lengths is None else send(lengths, spec.device)
        return resized_crop(spec, **dict(zip(window, numbers, strict=True)), lengths=lengths)


class RandomGain(nn.Module):
    """Make each waveform louder or softer by a uniform number of dB: `(B, S) -> (B, S)`.

    Where: uaMix-MAE Fig. 1 (DA); chapter 03
    """

    def __init__(self, low_db: float = -6.0, high_db: float = 6.0) -> None:
        super().__init__()
        if low_db > high_db:
            raise ValueError(f"low_db must not exceed high_db, got {low_db} and {high_db}")
        self.low_db, self.high_db = low_db, high_db

    @torch.no_grad()
    def forward(self, waveform: Tensor, generator: torch.Generator) -> Tensor:
        gain_db = uniform(len(waveform), self.low_db, self.high_db, generator, waveform.device)
        return waveform * (10.0 ** (gain_db / 20.0))[:, None]


class SpectralGain(nn.Module):
    """Louder or softer by a uniform number of dB, on a normalised log filter bank: `(B, T, F) -> (B, T, F)`.

    A factor g on the waveform adds 2 ln g to the natural log power, so it can be done without the waveform; only
    cells at the floor differ. `log_unit`: what one unit of the normalised spectrogram is worth in natural log. With
    `lengths (B,)` padding stays as it is.

    Where: uaMix-MAE Fig. 1 (DA); chapter 09
    """

    def __init__(self, limit_db: float = 6.0, log_unit: float = 2 * 4.5689974) -> None:
        super().__init__()
        if limit_db < 0 or not log_unit > 0:
            raise ValueError(
                f"limit_db must not be negative and log_unit positive, got {limit_db}, {log_unit}"
            )
        self.limit_db, self.log_unit = limit_db, log_unit

    @torch.no_grad()
    def forward(
        self, spec: Tensor, generator: torch.Generator, lengths: Tensor | None = None
    ) -> Tensor:
        gain_db = uniform(len(spec), -self.limit_db, self.limit_db, generator, spec.device)
        louder = spec + (log_power(gain_db) / self.log_unit)[:, None, None]
        if lengths is None:
            return louder
        valid = valid_frames(send(lengths, spec.device), spec.shape[1])[..., None]
        return torch.where(valid, louder, spec)


def time_roll(x: Tensor, shift: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Rotate each item in time, what leaves at the end enters at the start: `(B, S)` or `(B, T, F)`, `shift (B,)`.

    With `lengths (B,)` only the valid part of a padded clip turns; the padding stays where it is.

    Where: uaMix-MAE Fig. 1 (DA); chapter 03
    """
    n = x.shape[1]
    position = torch.arange(n, device=x.device)
    size = torch.full_like(shift, n) if lengths is None else send(lengths, x.device)
    turned = (position - shift[:, None]) % size[:, None]  # (B, n)
    index = torch.where(position < size[:, None], turned, position)
    return x[torch.arange(len(x), device=x.device)[:, None], index]


class TimeRoll(nn.Module):
    """Rotate each clip by a uniform share of its length: `(B, S)` or `(B, T, F)`, same shape out.

    Where: uaMix-MAE Fig. 1 (DA); chapter 03
    """

    @torch.no_grad()
    def forward(
        self, x: Tensor, generator: torch.Generator, lengths: Tensor | None = None
    ) -> Tensor:
        size = torch.full((len(x),), x.shape[1]) if lengths is None else lengths.cpu()
        shift = (uniform(len(x), 0.0, 1.0, generator, torch.device("cpu")) * size).long()
        return time_roll(x, send(shift, x.device), lengths)


class SpecAugment(nn.Module):
    """Cover one stretch of time and one band of frequency with `fill`: `(B, T, F) -> (B, T, F)`.

    Each stretch is uniform in length up to `max_frames`, `max_bands`, and in place; a fraction of 1 is a share of all
    frames or bands. With `lengths (B,)` the stretch of time is drawn within the valid part of a padded clip, and
    padding stays as it is.

    Where: uaMix-MAE Fig. 1 (DA); AudioMAE Sec. 4.1; chapter 03
    """

    def __init__(self, max_frames: float, max_bands: float, fill: float = 0.0) -> None:
        super().__init__()
        if max_frames < 0 or max_bands < 0:
            raise ValueError(f"sizes must not be negative, got {max_frames} and {max_bands}")
        self.max_frames, self.max_bands, self.fill = max_frames, max_bands, fill

    @torch.no_grad()
    def forward(
        self, spec: Tensor, generator: torch.Generator, lengths: Tensor | None = None
    ) -> Tensor:
        n_clips, n_frames, n_bands = spec.shape
        cpu = torch.device("cpu")
        lengths = torch.full((n_clips,), n_frames) if lengths is None else lengths.cpu()
        numbers = [lengths]
        for n, n_all, most in (
            (lengths, n_frames, self.max_frames),
            (torch.full((n_clips,), n_bands), n_bands, self.max_bands),
        ):
            limit = round(most * n_all) if 0 < most < 1 else most
            size = (uniform(n_clips, 0.0, 1.0, generator, cpu) * (n.clamp_max(limit) + 1)).long()
            first = (uniform(n_clips, 0.0, 1.0, generator, cpu) * (n - size + 1)).long()
            numbers += [first, first + size]
        lengths, *ends = send(torch.stack(numbers), spec.device)
        first_frame, last_frame, first_band, last_band = (end[:, None] for end in ends)
        frame, band = (torch.arange(n, device=spec.device) for n in (n_frames, n_bands))
        in_time = (frame >= first_frame) & (frame < last_frame)  # (B, T)
        in_freq = (band >= first_band) & (band < last_band)  # (B, F)
        covered = in_time[:, :, None] | in_freq[:, None, :]
        covered = covered & valid_frames(lengths, n_frames)[..., None]
        return torch.where(covered, self.fill, spec)


def _cubic_taps(
    start: Tensor, size: Tensor, n_out: int, stretched: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Four source indices and weights per output cell, for a crop [start, start + size) resized to n_out.

    Bicubic (a = -0.75) with aligned corners; taps outside the crop repeat its border: `F.interpolate` on the crop.
    `stretched (B,)`: the crop fills only the first so many of the n_out cells.
    """
    real = torch.float32 if start.device.type == "mps" else torch.float64  # MPS has no float64
    cells = torch.full_like(size, n_out) if stretched is None else stretched
    step = (size - 1).to(real) / (cells - 1).clamp_min(1)
    position = torch.arange(n_out, device=start.device).to(real) * step[:, None]  # (B, n_out)
    base = position.floor()
    t = (position - base)[..., None]
    distance = torch.cat([t + 1.0, t, 1.0 - t, 2.0 - t], dim=-1)  # (B, n_out, 4)
    a = -0.75
    near = ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0
    far = ((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a
    weight = torch.where(distance <= 1.0, near, far)
    index = base.long()[..., None] + torch.arange(-1, 3, device=start.device)
    index = torch.minimum(index.clamp_min(0), (size - 1)[:, None, None]) + start[:, None, None]
    return index, weight.float()


def _resize_rows(x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of four rows per output row; rows outside `x (B, R, C)` count as zero."""
    inside = (index >= 0) & (index < x.shape[1])
    weight = weight * inside
    index = index.clamp(0, x.shape[1] - 1)
    if on_host(x):  # the four rows are summed in one pass, without temporaries
        first = torch.arange(len(x))[:, None, None] * x.shape[1]
        return nn.functional.embedding_bag(
            (index + first).view(-1, 4),
            x.reshape(-1, x.shape[2]),
            per_sample_weights=weight.view(-1, 4),
            mode="sum",
        ).view(len(x), -1, x.shape[2])
    batch = torch.arange(len(x), device=x.device)[:, None]
    out = weight[..., 0, None] * x[batch, index[..., 0]]
    for tap in range(1, 4):
        out = torch.addcmul(out, weight[..., tap, None], x[batch, index[..., tap]])
    return out


def uniform(
    n: int, low: float, high: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """`n` uniform numbers in [low, high), drawn on the generator's device and sent to `device`, `(n,)`."""
    draw = torch.rand(n, generator=generator, device=generator.device)
    return send(low + (high - low) * draw, device)
