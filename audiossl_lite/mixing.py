"""Unsupervised audio mixtures: two clips become one, and a virtual label says how much of each is in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audiossl_lite.devices import send

RULES = ("paper", "effective", "linear")


@dataclass(frozen=True)
class Mixture:
    """Mixed clips: `spec (B, T, F)`, label `weight (B,)` of the anchor, `partner (B,)` long, `mask (B, T, F)`.

    `mask` is the share of each cell that stays with the anchor (0 or 1 for boxes, lambda for MixUp).

    Where: uaMix-MAE Eq. 2; chapter 08
    """

    spec: Tensor
    weight: Tensor
    partner: Tensor
    mask: Tensor


def draw_lambda(
    n: int, alpha: float, generator: torch.Generator | None, *, per_sample: bool
) -> Tensor:
    """lambda ~ Beta(alpha, alpha), one for the batch or one for each sample, `(n,)`.

    Where: uaMix-MAE Sec. 3; chapter 08
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    count = n if per_sample else 1
    shape = torch.full((2, count), float(alpha))
    gamma = torch._standard_gamma(shape.double(), generator=generator)
    lam = (gamma[0] / gamma.sum(0)).float()
    return lam if per_sample else lam.expand(n)


def _given(value, n: int, name: str) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float32).cpu()
    value = value.expand(n) if value.dim() == 0 else value
    if value.shape != (n,):
        raise ValueError(
            f"{name} is one number or one per clip ({n}), got shape {tuple(value.shape)}"
        )
    return value


def _lambda(lam, n: int, alpha: float, generator, per_sample: bool) -> Tensor:
    """lambda as given, or drawn, `(n,)`."""
    if lam is None:
        return draw_lambda(n, alpha, generator, per_sample=per_sample)
    lam = _given(lam, n, "lam")
    if not ((lam >= 0) & (lam <= 1)).all():
        raise ValueError(f"lam lies in [0, 1], got {lam.tolist()[:4]}")
    return lam


def _valid(lengths: Tensor | None, n: int, n_frames: int) -> Tensor:
    """Valid frames of each clip, `(n,)` long."""
    if lengths is None:
        return torch.full((n,), n_frames)
    lengths = torch.as_tensor(lengths).cpu()
    if lengths.shape != (n,) or (lengths < 1).any() or (lengths > n_frames).any():
        raise ValueError(
            f"lengths holds the valid frames of each of the {n} clips, 1 to {n_frames}, "
            f"got {lengths.tolist()[:4] if lengths.dim() else lengths.item()}"
        )
    return lengths


def _uniform(n: int, generator: torch.Generator | None, per_sample: bool) -> Tensor:
    draw = torch.rand(n if per_sample else 1, generator=generator)
    return draw if per_sample else draw.expand(n)


def t_cutmix(
    spec: Tensor,
    *,
    alpha: float = 1.0,
    rule: str = "paper",
    lam=None,
    start=None,
    generator: torch.Generator | None = None,
    lengths: Tensor | None = None,
    per_sample: bool = False,
) -> Mixture:
    """Replace a stretch of time of each clip by the same stretch of its partner, all bands: `(B, T, F) -> Mixture`.

    The partner of clip i is clip B - 1 - i. `rule="paper"`: the stretch has T sqrt(1 - lam) frames, starts anywhere
    and is clipped at the end, the label weight is lam (Eq. 2-3 as written); `"effective"`: the same stretch, the
    weight is the share that is really kept; `"linear"`: T (1 - lam) frames inside the clip, the weight is the kept
    share. `lengths (B,)` limits the stretch to the frames that both clips have. `lam`, `start` (frames) may be given.

    Where: uaMix-MAE Eq. 2, 3; chapter 08
    """
    if rule not in RULES:
        raise ValueError(f"rule is one of {', '.join(RULES)}, got {rule!r}")
    n = len(spec)
    lam, valid, room = _draw(spec, lam, alpha, generator, lengths, per_sample)
    share = 1.0 - lam if rule == "linear" else (1.0 - lam).sqrt()
    width = (room * share).round().long()
    if start is None:
        place = _uniform(n, generator, per_sample)
        free = room - width + 1 if rule == "linear" else room
        first = (place * free).long()
    else:
        first = _given(start, n, "start").long()
        if (first < 0).any():
            raise ValueError(f"start is a frame, 0 or later, got {first.tolist()[:4]}")
    last = torch.minimum(first + width, room)
    kept = 1.0 - (last - first).clamp_min(0) / valid
    inside = _between(first, last, spec, axis=1)  # (B, T)
    box = inside[..., None].expand(-1, -1, spec.shape[2])
    return _with_box(spec, box, lam if rule == "paper" else kept)


def _draw(
    spec: Tensor, lam, alpha: float, generator, lengths: Tensor | None, per_sample: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """lambda, valid frames of each clip, and frames that it shares with its partner, each `(B,)` on the host."""
    lam = _lambda(lam, len(spec), alpha, generator, per_sample)
    valid = _valid(lengths, len(spec), spec.shape[1])
    return lam, valid, torch.minimum(valid, valid.flip(0))


def _between(first: Tensor, last: Tensor, spec: Tensor, axis: int) -> Tensor:
    """True from `first (B,)` to before `last (B,)` along an axis of `spec`, `(B, size)` where `spec` is."""
    first, last = send(torch.stack([first, last]), spec.device)
    place = torch.arange(spec.shape[axis], device=spec.device)
    return (place >= first[:, None]) & (place < last[:, None])


def _partner(spec: Tensor) -> Tensor:
    """The clip that each clip is mixed with: the one at the other end of the batch, `(B,)`."""
    return torch.arange(len(spec) - 1, -1, -1, device=spec.device)


def _with_box(spec: Tensor, box: Tensor, weight: Tensor) -> Mixture:
    """The mixture whose cells in `box (B, T, F)` come from the partner."""
    partner = _partner(spec)
    mixed = torch.where(box, spec[partner], spec)
    return Mixture(mixed, send(weight.float(), spec.device), partner, (~box).float())


def tf_cutmix(
    spec: Tensor,
    *,
    alpha: float = 1.0,
    lam=None,
    generator: torch.Generator | None = None,
    lengths: Tensor | None = None,
    per_sample: bool = False,
) -> Mixture:
    """Replace a box in time and frequency, both sides sqrt(1 - lam) long, centre uniform, clipped at the border.

    The label weight is the share that is really kept. Arguments as `t_cutmix`.

    Where: uaMix-MAE Table 3; chapter 08
    """
    n, _, n_bands = spec.shape
    lam, valid, room = _draw(spec, lam, alpha, generator, lengths, per_sample)
    side = (1.0 - lam).sqrt()

    def span(size: Tensor) -> tuple[Tensor, Tensor]:
        centre = (_uniform(n, generator, per_sample) * size).long()
        half = (size * side).round().long()
        whole = lam == 0  # the neutral end: the whole partner, wherever the centre falls
        low = torch.where(whole, 0, (centre - half // 2).clamp_min(0))
        high = torch.where(whole, size, torch.minimum(centre - half // 2 + half, size))
        return low, high

    t_low, t_high = span(room)
    f_low, f_high = span(torch.full((n,), n_bands))
    in_time, in_freq = _between(t_low, t_high, spec, 1), _between(f_low, f_high, spec, 2)
    box = in_time[:, :, None] & in_freq[:, None, :]
    cells = (t_high - t_low).clamp_min(0) * (f_high - f_low).clamp_min(0)
    return _with_box(spec, box, 1.0 - cells / (valid * n_bands))


def mixup(
    spec: Tensor,
    *,
    alpha: float = 1.0,
    lam=None,
    generator: torch.Generator | None = None,
    lengths: Tensor | None = None,
    per_sample: bool = False,
) -> Mixture:
    """lam * clip + (1 - lam) * partner, label weight lam: `(B, T, F) -> Mixture`.

    With `lengths (B,)` only frames that both clips have are mixed; the weight is then the share of the anchor's
    valid frames that stays its own.

    Where: uaMix-MAE Table 3; chapter 08
    """
    lam, valid, room = _draw(spec, lam, alpha, generator, lengths, per_sample)
    weight = lam + (1.0 - lam) * (1.0 - room / valid)  # lam where the partner is as long
    partner, weight, lam = _partner(spec), *send(torch.stack([weight, lam]), spec.device)
    shared = _between(torch.zeros_like(room), room, spec, axis=1)  # (B, T)
    mask = torch.where(shared, lam[:, None], 1.0)[..., None].expand(-1, -1, spec.shape[2])
    blend = mask * spec + (1.0 - mask) * spec[partner]
    mixed = torch.where(shared[..., None], blend, spec)
    return Mixture(mixed, weight, partner, mask)


def virtual_labels(mixture: Mixture) -> Tensor:
    """Soft labels over the batch, `(B, B)`: weight on the anchor, the rest on the partner; rows sum to 1.

    Where: uaMix-MAE Eq. 3; chapter 08
    """
    n = len(mixture.weight)
    labels = torch.diag(mixture.weight)
    rows = torch.arange(n, device=labels.device)
    labels[rows, mixture.partner] += 1.0 - mixture.weight
    return labels
