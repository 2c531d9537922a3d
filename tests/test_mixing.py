"""Mixtures against a clip-by-clip definition; what the label promises and what the mixture holds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiossl_lite.mixing import (
    RULES,
    Mixture,
    mixup,
    t_cutmix,
    tf_cutmix,
    virtual_labels,
)

MIXERS = {
    "paper": lambda spec, **options: t_cutmix(spec, rule="paper", **options),
    "effective": lambda spec, **options: t_cutmix(spec, rule="effective", **options),
    "linear": lambda spec, **options: t_cutmix(spec, rule="linear", **options),
    "tf_cutmix": tf_cutmix,
    "mixup": mixup,
}
CORRECTED = ("effective", "linear", "tf_cutmix", "mixup")
seeds = st.integers(0, 2**31 - 1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(b: int, t: int, f: int, lengths=None) -> torch.Tensor:
    """Every cell says whose it is, when and which band; padding is NaN, so that it shows wherever it enters."""
    clip, frame, band = torch.meshgrid(
        torch.arange(b), torch.arange(t), torch.arange(f), indexing="ij"
    )
    spec = (clip * 10_000 + frame * 20 + band).float()
    if lengths is not None:
        spec[torch.arange(t) >= lengths[:, None]] = float("nan")
    return spec


def naive_t_cutmix(spec, rule, lam, start, lengths):
    """Eq. 2 and 3 for one clip at a time, as the design says: `lam`, `start`, `lengths` one per clip."""
    mixed, weights = spec.clone(), []
    n = len(spec)
    for i in range(n):
        j = n - 1 - i
        room = min(int(lengths[i]), int(lengths[j]))
        share = 1 - lam[i] if rule == "linear" else math.sqrt(1 - lam[i])
        width = int(torch.tensor(room * share).round())
        end = min(start[i] + width, room)
        for t in range(start[i], end):
            mixed[i, t] = spec[j, t]
        replaced = max(end - start[i], 0)
        weights.append(lam[i] if rule == "paper" else 1 - replaced / int(lengths[i]))
    return mixed, torch.tensor(weights)


@settings(max_examples=120, deadline=None)
@given(
    data=st.data(), rule=st.sampled_from(RULES), b=st.integers(1, 5), t=st.integers(1, 40),
    padded=st.booleans(),
)  # fmt: skip
def test_t_cutmix_equals_the_clip_by_clip_definition(data, rule, b, t, padded):
    lam = [data.draw(st.sampled_from([0.0, 0.2, 0.36, 0.6, 0.75, 0.96, 1.0])) for _ in range(b)]
    start = [data.draw(st.integers(0, t)) for _ in range(b)]
    lengths = torch.tensor([data.draw(st.integers(1, t)) if padded else t for _ in range(b)])
    spec = clips(b, t, 3)
    out = t_cutmix(spec, rule=rule, lam=lam, start=start, lengths=lengths if padded else None)
    expected, weight = naive_t_cutmix(spec, rule, lam, start, lengths)
    assert torch.equal(out.spec, expected)
    torch.testing.assert_close(out.weight, weight, atol=1e-6, rtol=0)
    assert torch.equal(spec, clips(b, t, 3)), "the input was changed in place"


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", MIXERS)
@settings(max_examples=20, deadline=None)
@given(
    b=st.integers(1, 6), t=st.integers(2, 50), f=st.integers(1, 6), seed=seeds,
    per_sample=st.booleans(), alpha=st.sampled_from([0.2, 1.0, 4.0]),
)  # fmt: skip
def test_what_every_mixture_promises(name, b, t, f, seed, per_sample, padded, alpha):
    lengths = torch.randint(1, t + 1, (b,), generator=seeded(seed)) if padded else None
    spec = clips(b, t, f, lengths)
    out = MIXERS[name](
        spec, alpha=alpha, generator=seeded(seed), lengths=lengths, per_sample=per_sample
    )
    assert out.partner.tolist() == list(range(b - 1, -1, -1))
    assert out.spec.shape == out.mask.shape == spec.shape
    assert out.weight.shape == (b,) and out.weight.dtype == torch.float32
    assert ((out.weight >= 0) & (out.weight <= 1)).all()
    valid = torch.full((b,), t) if lengths is None else lengths
    inside = torch.arange(t) < valid[:, None]
    # every cell is the anchor's and the partner's, in the proportion of the mask
    other = spec[out.partner]
    blend = out.mask * spec + (1 - out.mask) * other
    expected = torch.where(out.mask == 1, spec, torch.where(out.mask == 0, other, blend))
    torch.testing.assert_close(out.spec, expected, equal_nan=True, atol=2e-2, rtol=0)
    # padding never enters the valid part, and stays behind it
    assert torch.isfinite(out.spec[inside]).all()
    assert torch.isnan(out.spec[~inside]).all()
    # boxes never enter the frames that only one of the two clips has
    shared = torch.arange(t) < torch.minimum(valid, valid[out.partner])[:, None]
    assert (out.mask[~shared] == 1).all()
    if name in CORRECTED:
        kept = torch.stack([m[:n].mean() for m, n in zip(out.mask, valid)])
        torch.testing.assert_close(out.weight, kept, atol=2e-6, rtol=0)
    labels = virtual_labels(out)
    torch.testing.assert_close(labels.sum(1), torch.ones(b), atol=1e-6, rtol=0)
    if not per_sample and (not padded or name == "paper"):
        torch.testing.assert_close(labels.sum(0), torch.ones(b), atol=1e-6, rtol=0)
        assert torch.equal(labels, labels.T)


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("per_sample", [False, True])
def test_lambda_one_is_the_identity(name, per_sample):
    spec = clips(4, 23, 5)
    for seed in range(20):
        out = MIXERS[name](spec, lam=1.0, generator=seeded(seed), per_sample=per_sample)
        assert torch.equal(out.spec, spec)
        assert torch.equal(virtual_labels(out), torch.eye(4))


@pytest.mark.parametrize("name", ["linear", "tf_cutmix", "mixup"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_lambda_zero_swaps_the_clips(name, per_sample):
    spec = clips(4, 23, 5)
    for seed in range(20):
        out = MIXERS[name](spec, lam=0.0, generator=seeded(seed), per_sample=per_sample)
        assert torch.equal(out.spec, spec.flip(0))
        assert torch.equal(virtual_labels(out), torch.eye(4).flip(1))


@pytest.mark.parametrize("rule", ["paper", "effective"])
def test_lambda_zero_swaps_where_the_box_of_the_paper_starts_at_the_first_frame(rule):
    spec = clips(4, 23, 5)
    out = t_cutmix(spec, rule=rule, lam=0.0, start=0)
    assert torch.equal(out.spec, spec.flip(0))
    assert torch.equal(virtual_labels(out), torch.eye(4).flip(1))


def test_a_late_start_shortens_the_box_and_only_the_paper_label_does_not_notice():
    spec = clips(2, 100, 3)
    paper = t_cutmix(spec, rule="paper", lam=0.0, start=60)
    effective = t_cutmix(spec, rule="effective", lam=0.0, start=60)
    assert torch.equal(paper.spec, effective.spec)
    assert paper.mask[:, :, 0].sum(1).tolist() == [60, 60]
    assert paper.weight.tolist() == [0, 0]
    assert effective.weight.tolist() == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
def test_the_width_of_the_box(lam):
    spec = clips(2, 1000, 3)
    for rule, share in (("paper", math.sqrt(1 - lam)), ("linear", 1 - lam)):
        mask = t_cutmix(spec, rule=rule, lam=lam, start=0).mask
        assert (mask[0, :, 0] == 0).sum() == round(1000 * share)
    linear = t_cutmix(spec, rule="linear", lam=lam, generator=seeded(1))
    assert linear.weight.tolist() == pytest.approx([lam, lam], abs=1e-6)


def test_the_linear_box_lies_inside_the_clip_and_reaches_both_ends():
    starts = set()
    for seed in range(400):
        mask = t_cutmix(clips(2, 12, 1), rule="linear", lam=0.5, generator=seeded(seed)).mask
        replaced = (mask[0, :, 0] == 0).nonzero().flatten().tolist()
        assert len(replaced) == 6 and replaced == list(range(replaced[0], replaced[0] + 6))
        starts.add(replaced[0])
    assert starts == set(range(7))


def test_the_time_frequency_box_is_a_rectangle_of_area_one_minus_lambda():
    spec = clips(512, 200, 100)
    out = tf_cutmix(spec, lam=0.64, generator=seeded(0), per_sample=True)
    hole = out.mask == 0
    rows, columns = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(rows * columns, hole.sum((1, 2)))
    assert rows.max() == 120 and columns.max() == 60  # 0.6 of each side where nothing is clipped
    whole = (rows == 120) & (columns == 60)
    assert (1 - out.weight[whole]).tolist() == pytest.approx([0.36] * int(whole.sum()))
    # a uniform centre is clipped at one of the ends with probability 0.6 on each axis
    assert whole.float().mean().item() == pytest.approx(0.16, abs=0.06)
    assert hole.any(2)[:, 0].any() and hole.any(2)[:, -1].any()


@pytest.mark.parametrize("name", MIXERS)
def test_one_lambda_a_batch_makes_the_mirrored_rows_mirror_mixtures(name):
    spec = clips(6, 30, 4)
    out = MIXERS[name](spec, generator=seeded(3))
    assert len(set(out.weight.tolist())) == 1
    assert torch.equal(out.mask, out.mask.flip(0))
    torch.testing.assert_close(out.spec + out.spec.flip(0), spec + spec.flip(0))
    each = MIXERS[name](spec, generator=seeded(3), per_sample=True)
    assert len(set(each.weight.tolist())) > 3


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_equals_its_pairs(rule):
    spec, lengths = clips(6, 40, 3), torch.tensor([40, 31, 12, 25, 40, 7])
    lam, start = torch.rand(6, generator=seeded(0)), torch.randint(0, 20, (6,), generator=seeded(1))
    whole = t_cutmix(spec, rule=rule, lam=lam, start=start, lengths=lengths, per_sample=True)
    for i in range(3):
        pair = torch.tensor([i, 5 - i])
        two = t_cutmix(
            spec[pair], rule=rule, lam=lam[pair], start=start[pair], lengths=lengths[pair]
        )
        assert torch.equal(whole.spec[pair], two.spec)
        assert torch.equal(whole.weight[pair], two.weight)
        assert torch.equal(whole.mask[pair], two.mask)


def test_mixup_is_the_weighted_sum_and_a_batch_equals_its_pairs():
    spec, lam = torch.randn(4, 9, 3, generator=seeded(0)), torch.tensor([0.1, 0.6, 0.9, 0.3])
    out = mixup(spec, lam=lam)
    for i in range(4):
        expected = lam[i] * spec[i] + (1 - lam[i]) * spec[3 - i]
        torch.testing.assert_close(out.spec[i], expected)
    assert torch.equal(out.weight, lam)


def test_mixup_of_padded_clips_weighs_what_was_really_mixed():
    spec, lengths = clips(2, 10, 2), torch.tensor([10, 4])
    out = mixup(spec, lam=0.5, lengths=lengths)
    assert torch.equal(out.spec[:, 4:], spec[:, 4:])
    torch.testing.assert_close(out.spec[0, :4], (spec[0, :4] + spec[1, :4]) / 2)
    assert out.weight.tolist() == pytest.approx([0.8, 0.5])
    assert torch.equal(mixup(spec, lam=0.3).weight, torch.tensor([0.3, 0.3]))


@pytest.mark.parametrize("name", MIXERS)
def test_the_middle_clip_of_an_odd_batch_is_mixed_with_itself(name):
    spec = clips(5, 20, 4)
    out = MIXERS[name](spec, generator=seeded(1), per_sample=True)
    torch.testing.assert_close(out.spec[2], spec[2])
    assert virtual_labels(out)[2].tolist() == pytest.approx([0, 0, 1, 0, 0])


@pytest.mark.parametrize("name", MIXERS)
def test_the_same_seed_gives_the_same_mixture_and_global_state_is_left_alone(name):
    spec, before = clips(6, 60, 8), torch.random.get_rng_state()
    one, two = (MIXERS[name](spec, generator=seeded(5)) for _ in range(2))
    for ours, theirs in zip(vars(one).values(), vars(two).values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(one.spec, MIXERS[name](spec, generator=seeded(6)).spec)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_three_rules_share_their_draws():
    """The variants of an experiment see the same lambda for the same seed."""
    paper, linear = (
        t_cutmix(clips(4, 1000, 2), rule=rule, generator=seeded(8)) for rule in ("paper", "linear")
    )
    assert linear.weight.tolist() == pytest.approx(paper.weight.tolist(), abs=1e-3)


# --- labels and errors -----------------------------------------------------------------------------


def test_virtual_labels_name_the_anchor_and_the_partner():
    blank = torch.zeros(4, 1, 1)
    mixture = Mixture(blank, torch.tensor([0.7, 0.2, 1.0, 0.0]), torch.tensor([3, 2, 1, 0]), blank)
    expected = torch.tensor([[0.7, 0, 0, 0.3], [0, 0.2, 0.8, 0], [0, 0, 1.0, 0], [1.0, 0, 0, 0.0]])
    torch.testing.assert_close(virtual_labels(mixture), expected)


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -0.1}, "lam lies in"),
        ({"lam": 1.1}, "lam lies in"),
        ({"lam": float("nan")}, "lam lies in"),
        ({"lam": [0.5, 0.5]}, r"one per clip \(4\)"),
        ({"alpha": 0.0}, "alpha must be positive"),
        ({"alpha": -1.0}, "alpha must be positive"),
        ({"lengths": torch.tensor([3, 3])}, "valid frames of each of the 4"),
        ({"lengths": torch.tensor([3, 3, 0, 3])}, "1 to 8"),
        ({"lengths": torch.tensor([3, 9, 1, 3])}, "1 to 8"),
    ],
)
def test_bad_arguments_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        MIXERS[name](clips(4, 8, 2), **options)


def test_an_unknown_rule_and_a_negative_start_are_refused():
    with pytest.raises(ValueError, match="paper, effective, linear, got 'papr'"):
        t_cutmix(clips(4, 8, 2), rule="papr")
    with pytest.raises(ValueError, match="0 or later"):
        t_cutmix(clips(4, 8, 2), lam=0.5, start=-1)
