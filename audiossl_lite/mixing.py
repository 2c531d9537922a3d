"""Unsupervised audio mixtures: two clips become one, and a virtual label says how much of each is in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
    n, n_frames, _ = spec.shape
    partner = torch.arange(n - 1, -1, -1)
    lam = _lambda(lam, n, alpha, generator, per_sample)
    valid = _valid(lengths, n, n_frames)
    room = torch.minimum(valid, valid[partner])  # frames that anchor and partner share
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
    frame = torch.arange(n_frames)
    inside = (frame >= first[:, None]) & (frame < last[:, None])  # (B, T)
    kept = 1.0 - inside.sum(1) / valid
    box = inside[..., None].expand(-1, -1, spec.shape[2])
    return _with_box(spec, box, partner, lam if rule == "paper" else kept)


def _with_box(spec: Tensor, box: Tensor, partner: Tensor, weight: Tensor) -> Mixture:
    """The mixture whose cells in `box (B, T, F)` come from the partner."""
    box, partner = box.to(spec.device), partner.to(spec.device)
    mixed = torch.where(box, spec[partner], spec)
    return Mixture(mixed, weight.float().to(spec.device), partner, (~box).float())


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
    n, n_frames, n_bands = spec.shape
    partner = torch.arange(n - 1, -1, -1)
    lam = _lambda(lam, n, alpha, generator, per_sample)
    valid = _valid(lengths, n, n_frames)
    room = torch.minimum(valid, valid[partner])
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
    frame, band = torch.arange(n_frames), torch.arange(n_bands)
    in_time = (frame >= t_low[:, None]) & (frame < t_high[:, None])
    in_freq = (band >= f_low[:, None]) & (band < f_high[:, None])
    box = in_time[:, :, None] & in_freq[:, None, :]
    return _with_box(spec, box, partner, 1.0 - box.sum((1, 2)) / (valid * n_bands))


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
    n, n_frames, _ = spec.shape
    partner = torch.arange(n - 1, -1, -1)
    lam = _lambda(lam, n, alpha, generator, per_sample)
    valid = _valid(lengths, n, n_frames)
    room = torch.minimum(valid, valid[partner])
    shared = torch.arange(n_frames) < room[:, None]  # (B, T)
    mask = torch.where(shared, lam[:, None], 1.0)[..., None].expand(-1, -1, spec.shape[2])
    weight = lam + (1.0 - lam) * (1.0 - room / valid)  # lam where the partner is as long
    mask, partner = mask.to(spec.device), partner.to(spec.device)
    blend = mask * spec + (1.0 - mask) * spec[partner]
    mixed = torch.where(shared[..., None].to(spec.device), blend, spec)
    return Mixture(mixed, weight.to(spec.device), partner, mask)


def virtual_labels(mixture: Mixture) -> Tensor:
    """Soft labels over the batch, `(B, B)`: weight on the anchor, the rest on the partner; rows sum to 1.

    Where: uaMix-MAE Eq. 3; chapter 08
    """
    n = len(mixture.weight)
    labels = torch.diag(mixture.weight)
    rows = torch.arange(n, device=labels.device)
    labels[rows, mixture.partner] += 1.0 - mixture.weight
    return labels
