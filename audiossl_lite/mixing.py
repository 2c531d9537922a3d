"""Unsupervised audio mixtures: two clips become one, and a virtual label says how much of each is in it.

The partner of clip i is clip B - 1 - i. lambda ~ Beta(alpha, alpha) is one number for the batch or, with
`per_sample`, one for each clip; `lam` (one number or `(B,)`) may be passed instead. `lengths (B,)` are the valid
frames of padded clips: only frames that both clips have are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audiossl_lite.common.devices import send

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

    x <- m * x + (1 - m) * x_partner, with m = 0 in the stretch and 1 elsewhere. `rule="paper"`: the stretch has
    T sqrt(1 - lam) frames, starts anywhere and is clipped at the end, the label weight is lam (Eq. 2-3 as written);
    `"effective"`: the same stretch, the weight is the share of the clip that it leaves; `"linear"`: T (1 - lam) frames
    inside the clip, the weight is the share that is left. `start`: its first frame, one number or `(B,)`.

    Where: uaMix-MAE Eq. 2, 3; chapter 08
    """
    if rule not in RULES:
        raise ValueError(f"rule is one of {', '.join(RULES)}, got {rule!r}")
    lam, valid, shared = _draw(spec, lam, alpha, generator, lengths, per_sample)
    width = (shared * (1.0 - lam if rule == "linear" else (1.0 - lam).sqrt())).round().long()
    if start is None:
        starts = shared - width + 1 if rule == "linear" else shared
        first = (_uniform(len(spec), generator, per_sample) * starts).long()
    else:
        first = _start(start, len(spec))
    last = torch.minimum(first + width, shared)
    left = 1.0 - (last - first).clamp_min(0) / valid
    stretch = _between(first, last, spec, axis=1)  # (B, T)
    box = stretch[..., None].expand(-1, -1, spec.shape[2])
    return _with_box(spec, box, lam if rule == "paper" else left)


def virtual_labels(mixture: Mixture) -> Tensor:
    """Soft labels over the batch, `(B, B)`: weight on the anchor, the rest on the partner; rows sum to 1.

    Where: uaMix-MAE Eq. 3; chapter 08
    """
    labels = torch.diag(mixture.weight)
    rows = torch.arange(len(labels), device=labels.device)
    labels[rows, mixture.partner] += 1.0 - mixture.weight
    return labels


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

    The label weight is the share of the clip that the box leaves.

    Where: uaMix-MAE Table 3; chapter 08
    """
    n, _, n_bands = spec.shape
    lam, valid, shared = _draw(spec, lam, alpha, generator, lengths, per_sample)
    side = (1.0 - lam).sqrt()

    def span(size: Tensor) -> tuple[Tensor, Tensor]:
        centre = (_uniform(n, generator, per_sample) * size).long()
        length = (size * side).round().long()
        low = centre - length // 2
        high = torch.minimum(low + length, size)
        whole = lam == 0  # the neutral end: the whole partner, wherever the centre falls
        return torch.where(whole, 0, low.clamp_min(0)), torch.where(whole, size, high)

    t_low, t_high = span(shared)
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

    Where the partner is shorter, the weight is the share of the anchor's valid frames that stays its own.

    Where: uaMix-MAE Table 3; chapter 08
    """
    lam, valid, shared = _draw(spec, lam, alpha, generator, lengths, per_sample)
    weight = lam + (1.0 - lam) * (1.0 - shared / valid)  # lam where the partner is as long
    partner, weight, lam = _partner(spec), *send(torch.stack([weight, lam]), spec.device)
    both = _between(torch.zeros_like(shared), shared, spec, axis=1)  # (B, T)
    mask = torch.where(both, lam[:, None], 1.0)[..., None].expand(-1, -1, spec.shape[2])
    blend = mask * spec + (1.0 - mask) * spec[partner]
    return Mixture(torch.where(both[..., None], blend, spec), weight, partner, mask)


def _partner(spec: Tensor) -> Tensor:
    """The clip that each clip is mixed with: the one at the other end of the batch, `(B,)`."""
    return torch.arange(len(spec) - 1, -1, -1, device=spec.device)


def _with_box(spec: Tensor, box: Tensor, weight: Tensor) -> Mixture:
    """The mixture whose cells in `box (B, T, F)` come from the partner."""
    partner = _partner(spec)
    mixed = torch.where(box, spec[partner], spec)
    return Mixture(mixed, send(weight.float(), spec.device), partner, (~box).float())


def _between(first: Tensor, last: Tensor, spec: Tensor, axis: int) -> Tensor:
    """True from `first (B,)` to before `last (B,)` along an axis of `spec`, `(B, size)` where `spec` is."""
    first, last = send(torch.stack([first, last]), spec.device)
    place = torch.arange(spec.shape[axis], device=spec.device)
    return (place >= first[:, None]) & (place < last[:, None])


def draw_lambda(
    n: int, alpha: float, generator: torch.Generator | None, *, per_sample: bool
) -> Tensor:
    """lambda ~ Beta(alpha, alpha), one for the batch or one for each sample, `(n,)`.

    Where: uaMix-MAE Sec. 3; chapter 08
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    shape = torch.full((2, n if per_sample else 1), float(alpha))
    gamma = torch._standard_gamma(shape.double(), generator=generator)
    return (gamma[0] / gamma.sum(0)).float().expand(n)


def _uniform(n: int, generator: torch.Generator | None, per_sample: bool) -> Tensor:
    return torch.rand(n if per_sample else 1, generator=generator).expand(n)


def _draw(
    spec: Tensor, lam, alpha: float, generator, lengths: Tensor | None, per_sample: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """lambda, valid frames of each clip, and frames that it shares with its partner, each `(B,)` on the host."""
    n, n_frames = spec.shape[:2]
    if lam is None:
        lam = draw_lambda(n, alpha, generator, per_sample=per_sample)
    else:
        lam = _one_each(lam, n, "lam")
        if not ((lam >= 0) & (lam <= 1)).all():
            raise ValueError(f"lam lies in [0, 1], got {lam.tolist()[:4]}")
    valid = torch.full((n,), n_frames) if lengths is None else torch.as_tensor(lengths).cpu()
    if valid.shape != (n,) or (valid < 1).any() or (valid > n_frames).any():
        raise ValueError(
            f"lengths holds the valid frames of each of the {n} clips, 1 to {n_frames}, "
            f"got {valid.tolist()[:4] if valid.dim() else valid.item()}"
        )
    return lam, valid, torch.minimum(valid, valid.flip(0))


def _start(start, n: int) -> Tensor:
    first = _one_each(start, n, "start").long()
    if (first < 0).any():
        raise ValueError(f"start is a frame, 0 or later, got {first.tolist()[:4]}")
    return first


def _one_each(value, n: int, name: str) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float32).cpu()
    value = value.expand(n) if value.dim() == 0 else value
    if value.shape != (n,):
        raise ValueError(
            f"{name} is one number or one per clip ({n}), got shape {tuple(value.shape)}"
        )
    return value
