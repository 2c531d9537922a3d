"""What fine-tuning feeds its network: mixtures of clips and labels, hidden patches, spectrograms; and its losses."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audiossl_lite.evaluation import spectrograms
from audiossl_lite.evaluation.finetune import soft_loss
from audiossl_lite.evaluation.finetune_views import FineTuneViews, power_mixup
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend
from tests.evaluation.toys import noise

ATST = preset("finetune_atst", "paper")
MAE = preset("finetune_audiomae", "paper")


def shown(config, spec, labels, generator, lengths, **options):
    """Spectrograms, labels and patches that the network is given."""
    made = FineTuneViews(config, labels, **{"log_unit": 9.0, "fill": 0.0} | options)
    out, same, kept, mixed = made(spec, generator, lengths, ids=torch.arange(len(spec)))
    assert same is lengths
    return out, mixed, kept


def only(**changes):
    """Settings with every change of the data switched off, except these."""
    off = {"mixup_probability": 0.0, "resized_crop": False, "spec_frames": 0, "spec_bands": 0,
           "gain_db": 0.0, "mask_time": 0.0, "mask_freq": 0.0}  # fmt: skip
    return dataclasses.replace(MAE, **off | changes)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 9), seed=st.integers(0, 99), share=st.floats(0, 1), rule=st.integers(0, 1))
def test_mixed_labels_sum_to_one_and_say_what_is_in_the_clip(n, seed, share, rule):
    kind = ("linear", "power")[rule]
    config = only(mixup_probability=share, mixup=kind, mixup_alpha=0.5)
    spec = torch.arange(n).float()[:, None, None].expand(n, 6, 4)
    labels = torch.eye(n)
    lengths = torch.full((n,), 6)
    out, mixed, kept = shown(config, spec, labels, torch.Generator().manual_seed(seed), lengths)
    torch.testing.assert_close(mixed.sum(1), torch.ones(n))
    assert kept is None and (mixed >= 0).all() and out.isfinite().all()
    own = mixed.diagonal()
    if kind == "linear":
        expected = own * torch.arange(n) + (1 - own) * torch.arange(n).flip(0)
        torch.testing.assert_close(out[:, 0, 0], expected, atol=1e-5, rtol=1e-5)
    if share == 0:
        assert torch.equal(out, spec) and torch.equal(mixed, labels)


def test_a_share_of_the_clips_is_mixed_and_alpha_sets_how_evenly():
    n = 400
    spec, labels, lengths = noise(n, 4, 4), torch.eye(n), torch.full((n,), 4)
    for alpha, even in ((10.0, True), (0.1, False)):
        config = only(mixup_probability=0.5, mixup_alpha=alpha, mixup="linear")
        generator = torch.Generator().manual_seed(0)
        _, mixed, _ = shown(config, spec, labels, generator, lengths)
        own = mixed.diagonal()
        assert (own == 1).float().mean().item() == pytest.approx(0.5, abs=0.08)
        assert (own[own < 1].sub(0.5).abs().mean() < 0.25) == even


def test_power_mixup_adds_powers_like_waveforms_without_interference():
    scale, mean = 9.0, -4.0
    power = noise(2, 3, 4).exp()
    spec = (power.log() - mean) / scale
    weight, partner = torch.tensor([0.3, 0.3]), torch.tensor([1, 0])
    out = power_mixup(spec, weight, partner, log_unit=scale)
    expected = ((0.09 * power + 0.49 * power[partner]).log() - mean) / scale
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(power_mixup(spec, torch.ones(2), partner, log_unit=scale), spec)
    short = power_mixup(spec, weight, partner, log_unit=scale, lengths=torch.tensor([3, 1]))
    torch.testing.assert_close(short[0, 1:], spec[0, 1:] + 2 * math.log(0.3) / scale)
    assert torch.equal(short[1, 1:], spec[1, 1:]), "padding stays"


def test_power_mixup_is_close_to_the_filter_bank_of_mixed_waveforms():
    frontend = AudioMAEFrontend(48)
    waves = 0.3 * noise(2, 8_000) * torch.tensor([[1.0], [0.2]])
    spec, frames = spectrograms(frontend, waves)
    weight, partner = torch.tensor([0.4, 0.7]), torch.tensor([1, 0])
    true = frontend(0.4 * waves[:1] + 0.6 * waves[1:])[:, : spec.shape[1]]
    ours = power_mixup(spec, weight, partner, log_unit=frontend.log_unit, lengths=frames)
    gap = (ours[0] - true[0])[: int(frames[0])]
    assert abs(float(gap.mean())) < 0.03, "no bias, where the loudest bands differ by chance"
    assert float((spec[0] - true[0])[: int(frames[0])].abs().mean()) > 2 * float(gap.abs().mean())


@pytest.mark.parametrize(
    "frontend",
    [ATSTFrontend("paper"), BYOLAFrontend(), AudioMAEFrontend(48)],
    ids=lambda f: type(f),
)
def test_the_scale_turns_decibels_of_gain_into_the_frontend_s_units(frontend):
    wave = 0.1 * noise(1, 8_000)
    soft, loud = frontend(wave), frontend(wave * 10.0 ** (6.0 / 20.0))
    real = slice(0, 40)
    expected = 6.0 * math.log(10.0) / 10.0 / frontend.log_unit
    shift = (loud - soft)[:, real]
    shift = shift[soft[:, real] > soft.min()]  # a band without a bin stays at the floor
    torch.testing.assert_close(shift, torch.full_like(shift, expected), atol=2e-3, rtol=0)
    config = only(gain_db=6.0)
    lengths = torch.tensor([40])
    out, _, _ = shown(
        config, soft, torch.ones(1, 1), torch.Generator().manual_seed(1), lengths,
        log_unit=frontend.log_unit,
    )  # fmt: skip
    change = out - soft
    assert change[:, real].unique().numel() < 60 and abs(float(change[0, 0, 0])) <= expected
    assert float(change[0, 0, 0]) != 0 and not change[:, 40:].any()


def test_stretches_are_covered_with_the_fill_and_patches_are_hidden_by_rows_and_columns():
    spec, labels, lengths = noise(6, 64, 32), torch.eye(6), torch.full((6,), 64)
    generator = torch.Generator().manual_seed(0)
    config = only(spec_frames=20, spec_bands=8)
    out, _, _ = shown(config, spec, labels, generator, lengths, fill=0.467)
    touched = out != spec
    assert (out[touched] == 0.467).all() and 0 < touched.float().mean() < 0.6
    config = only(mask_time=0.5, mask_freq=0.5)
    out, _, kept = shown(config, spec, labels, generator, lengths)
    assert torch.equal(out, spec) and kept.shape == (6, 2 * 1)
    rows, columns = kept // 2, kept % 2
    assert all(len(row.unique()) == 2 for row in rows)
    assert all(len(column.unique()) == 1 for column in columns)
    full, lengths = noise(2, 1024, 128), torch.tensor([1024, 998])
    _, _, kept = shown(MAE, full, torch.eye(2), generator, lengths)
    assert kept.shape == (2, 51 * 6), "as many as the official code keeps"


@pytest.mark.parametrize("config", [ATST, MAE], ids=["atst", "audiomae"])
def test_views_depend_on_their_generator_alone_and_do_not_change_their_input(config):
    spec, labels, lengths = noise(6, 64, 32), torch.eye(6), torch.tensor([64, 50, 64, 30, 64, 64])
    copy_of, state = spec.clone(), torch.get_rng_state()
    a, b, c = (
        shown(config, spec, labels, torch.Generator().manual_seed(seed), lengths)
        for seed in (5, 5, 6)
    )
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert not torch.equal(a[0], c[0]) and a[0].isfinite().all()
    assert torch.equal(spec, copy_of) and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a[0][3, 30:], spec[3, 30:]) or config is MAE, "padding stays"


def test_settings_that_make_no_sense_are_refused():
    for changes, message in (
        ({"mixup": "cut"}, "'linear' or 'power', got 'cut'"),
        ({"head": "atst"}, "only head 'audiomae' hides patches"),
    ):
        with pytest.raises(ValueError, match=message):
            FineTuneViews(dataclasses.replace(MAE, **changes), torch.eye(2), log_unit=9.0, fill=0.0)


def test_losses_take_soft_labels():
    logits, hard = noise(5, 3), torch.tensor([0, 2, 1, 1, 0])
    labels = nn.functional.one_hot(hard, 3).float()
    expected = nn.functional.cross_entropy(logits, hard)
    torch.testing.assert_close(soft_loss(logits, labels, "ce"), expected)
    soft = 0.7 * labels + 0.3 * labels.flip(0)
    parts = [soft_loss(logits, part, "ce") for part in (labels, labels.flip(0))]
    torch.testing.assert_close(soft_loss(logits, soft, "ce"), 0.7 * parts[0] + 0.3 * parts[1])
    p = logits.sigmoid()
    by_hand = -(soft * p.log() + (1 - soft) * (1 - p).log()).mean()
    torch.testing.assert_close(soft_loss(logits, soft, "bce"), by_hand)
    with pytest.raises(ValueError, match="'bce' or 'ce', got 'mse'"):
        soft_loss(logits, labels, "mse")
