"""The measured constants: what a box over all frequencies does to the square root of T-CutMix."""

from __future__ import annotations

import math

import pytest
import torch

from audiossl_lite.mixing import draw_lambda, t_cutmix


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def simulate(rule: str, alpha: float = 1.0, n: int = 100_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Label weight lambda and really kept share of many draws over 1024 frames."""
    lam = draw_lambda(n, alpha, seeded(0), per_sample=True)
    out = t_cutmix(
        torch.zeros(n, 1024, 1, dtype=torch.bool), rule=rule, lam=lam, generator=seeded(1),
        per_sample=True,
    )  # fmt: skip
    return lam, out.mask[..., 0].mean(1)


@pytest.mark.parametrize(
    ("alpha", "correlation", "wrong"), [(1.0, 0.36, 0.375), (0.5, 0.48, 0.33), (2.0, 0.25, 0.42)]
)
def test_the_label_of_the_paper_hardly_knows_what_was_kept(alpha, correlation, wrong):
    lam, kept = simulate("paper", alpha, 40_000)
    assert torch.corrcoef(torch.stack([lam, kept]))[0, 1].item() == pytest.approx(
        correlation, abs=0.02
    )
    flipped = ((lam > 0.5) != (kept > 0.5)).float().mean().item()
    assert flipped == pytest.approx(wrong, abs=0.01)
    if alpha == 1:
        assert kept.mean().item() == pytest.approx(0.583, abs=0.005)
        assert (lam - kept).abs().mean().item() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("lam", "kept"),
    [(0.0, 0.5), (0.1, 0.501), (0.25, 0.509), (0.5, 0.543), (0.75, 0.625), (0.9, 0.734), (1.0, 1)],
)
def test_the_mean_kept_share_given_lambda(lam, kept):
    """1 - sqrt(1 - lam) + (1 - lam) / 2: clipping hides most of what lambda says."""
    assert 1 - math.sqrt(1 - lam) + (1 - lam) / 2 == pytest.approx(kept, abs=1e-3)
    out = t_cutmix(
        torch.zeros(8000, 1024, 1, dtype=torch.bool), rule="effective", lam=lam,
        generator=seeded(2), per_sample=True,
    )  # fmt: skip
    assert out.weight.mean().item() == pytest.approx(kept, abs=0.012)


def test_the_linear_rule_keeps_what_its_label_says():
    lam, kept = simulate("linear", n=20_000)
    assert (lam - kept).abs().max() <= 0.5 / 1024 + 1e-6


@pytest.mark.parametrize("alpha", [0.3, 1.0, 3.0])
def test_lambda_has_the_beta_distribution(alpha):
    lam = draw_lambda(40_000, alpha, seeded(0), per_sample=True)
    assert ((lam >= 0) & (lam <= 1)).all()
    assert lam.mean().item() == pytest.approx(0.5, abs=0.01)
    assert lam.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.003)
    one = draw_lambda(5, alpha, seeded(0), per_sample=False)
    assert one.shape == (5,) and len(set(one.tolist())) == 1
