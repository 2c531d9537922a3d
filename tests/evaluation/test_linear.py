"""Linear evaluation: the published features, a frozen encoder, no peeking, no leaks."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from audiossl_lite.encoders import atst_small, atst_tiny, audiomae_tiny, byola_tiny
from audiossl_lite.evaluation import (
    centre_crop,
    cross_validation,
    frozen_features,
    linear_evaluation,
    make_folds,
)
from audiossl_lite.evaluation.heads import train_heads
from audiossl_lite.evaluation.statistics import mean_interval
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend
from tests.evaluation.toys import QUICK_LINEAR as QUICK
from tests.evaluation.toys import clouds, several


def changed(**changes):
    return dataclasses.replace(QUICK, **changes)


def shuffled(data, seed: int = 0):
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return dataclasses.replace(data, targets=data.targets[order])


class Stored(nn.Module):
    """A frontend that looks its spectrograms up: the first sample of a waveform is the clip's number."""

    min_samples = edge_samples = 0
    frame_multiple, pad_value = 1, 0.0

    def __init__(self, spec: torch.Tensor) -> None:
        super().__init__()
        self.spec = spec

    def n_frames(self, samples):
        return samples // 160 + 1

    def forward(self, waveform):
        return self.spec[waveform[:, 0].long()]

    def waveforms(self) -> torch.Tensor:
        n, frames, _ = self.spec.shape
        number = torch.arange(n, dtype=torch.float32)
        return number[:, None].repeat(1, (frames - 1) * 160)


@pytest.mark.parametrize(
    ("case", "frames", "lengths"),
    [
        ("f601_full", 601, [601, 601]),
        ("f601_padded", 601, [601, 401]),
        ("f401_full", 401, [401, 401]),
        ("f1001_full", 1001, [1001, 1001]),
        ("f1001_short2", 1001, [1001, 700]),
    ],
)
def test_frozen_features_equal_the_reference(case, frames, lengths, reference, made_up_weights):
    fixture = reference("atst_small")
    encoder = atst_small()
    encoder.load_state_dict(made_up_weights(fixture["keys"]))
    length, seed = (1001, 1) if frames == 1001 else (601, 0)
    x = torch.randn(2, 1, 64, length, generator=torch.Generator().manual_seed(seed))
    frontend = Stored(x[:, 0].transpose(1, 2).contiguous()[:, :frames])
    samples = (torch.tensor(lengths) - 1) * 160
    config = preset("linear", "paper")
    out = frozen_features(encoder, frontend, frontend.waveforms(), samples, config=config)
    assert out.shape == (2, 24 * 384)
    torch.testing.assert_close(out[:, ::37], fixture[case]["feat_linear12"], atol=1e-4, rtol=0)


def test_the_centre_of_long_clips_is_kept():
    waves = torch.arange(40.0).repeat(3, 1)
    lengths = torch.tensor([40, 25, 8])
    cut, kept = centre_crop(waves, lengths, 16 / 16_000)
    assert cut.shape == (3, 16) and kept.tolist() == [16, 16, 8]
    assert cut[0].tolist() == list(range(12, 28))
    assert cut[1].tolist() == list(range(4, 20))
    assert cut[2, :8].tolist() == list(range(8))
    same, unchanged = centre_crop(waves, lengths, 1.0)
    assert torch.equal(same, waves) and torch.equal(unchanged, lengths)
    with pytest.raises(ValueError, match="max_s must be positive"):
        centre_crop(waves, lengths, 0.0)


@pytest.mark.parametrize(
    ("maker", "frontend", "width"),
    [
        (atst_tiny, ATSTFrontend(), 2 * 4 * 128),
        (lambda: audiomae_tiny(n_frames=128, n_mels=64), AudioMAEFrontend(128, n_mels=64), 192),
        (byola_tiny, BYOLAFrontend(), 128),
    ],
    ids=["atst", "audiomae", "byola"],
)
def test_a_frozen_encoder_stays_bit_identical_and_in_its_mode(maker, frontend, width):
    torch.manual_seed(0)
    encoder = maker().train()
    before = copy.deepcopy(encoder.state_dict())
    waves = 0.1 * torch.randn(6, 16_000, generator=torch.Generator().manual_seed(0))
    features = frozen_features(
        encoder, frontend, waves, torch.tensor([16_000, 9_000] * 3), config=QUICK
    )
    assert features.shape == (6, width) and not features.requires_grad
    data = dataclasses.replace(clouds(3, 2), inputs=features)
    linear_evaluation(data, data, QUICK, select_on="test")
    assert encoder.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_batch_norm_has_no_parameters_and_can_be_switched_off():
    result = linear_evaluation(clouds(), clouds(seed=1), QUICK)
    norm = result.head[0]
    assert isinstance(norm, nn.BatchNorm1d) and not list(norm.parameters())
    assert not norm.affine and not result.head.training
    assert sum(p.numel() for p in result.head.parameters()) == (8 + 1) * 4
    plain = linear_evaluation(clouds(), clouds(seed=1), changed(normalise=False))
    assert isinstance(plain.head[0], nn.Identity)


def test_separable_classes_are_learned_and_shuffled_labels_are_not():
    result = linear_evaluation(clouds(), clouds(seed=1), QUICK, seed=3)
    assert result.score == 1.0
    train, test = clouds(40, spread=1.0), clouds(100, seed=1, spread=1.0)
    lost = [linear_evaluation(shuffled(train, s), test, QUICK, seed=s).score for s in range(5)]
    assert np.mean(lost) == pytest.approx(0.25, abs=0.12)
    many = linear_evaluation(several(300), several(200, seed=1), QUICK)
    assert many.score > 0.9
    chance = linear_evaluation(shuffled(several(300)), several(200, seed=1), QUICK)
    base = several(200, seed=1).targets.mean()
    assert chance.score == pytest.approx(float(base), abs=0.12)


def test_only_the_validation_data_choose():
    train, test = clouds(20, spread=2.5), clouds(20, seed=2, spread=2.5)
    validation = clouds(10, seed=3, spread=2.5)
    one = linear_evaluation(train, test, QUICK, validation=validation)
    other = linear_evaluation(train, shuffled(test), QUICK, validation=validation)
    assert (one.epoch, one.learning_rate) == (other.epoch, other.learning_rate)
    torch.testing.assert_close(one.outputs, other.outputs, atol=0, rtol=0)
    assert one.selection_score == one.curve.max() == other.selection_score
    at = one.epochs.index(one.epoch), QUICK.learning_rates.index(one.learning_rate)
    assert one.curve[at] == one.selection_score
    assert one.n_train == len(train)


def test_a_second_training_uses_the_validation_data_with_the_rate_and_epochs_that_were_chosen():
    train, validation, test = (clouds(n, seed=n, spread=4.0) for n in (20, 10, 15))
    plain = linear_evaluation(train, test, QUICK, validation=validation)
    again = linear_evaluation(train, test, changed(refit=True), validation=validation)
    assert (plain.epoch, plain.learning_rate) == (again.epoch, again.learning_rate)
    assert (plain.n_train, again.n_train) == (80, 120)
    assert torch.equal(plain.curve, again.curve) and not torch.equal(plain.outputs, again.outputs)
    both = train.joined(validation)
    rate = changed(learning_rates=(plain.learning_rate,), evaluate_every=99)
    expected = train_heads(both, both, rate, stop_at=plain.epoch).head
    torch.testing.assert_close(again.outputs, expected(test.inputs).detach())
    peeked = linear_evaluation(train, test, changed(refit=True), select_on="test")
    assert peeked.score == peeked.selection_score, "the test data are never trained on"


def test_choosing_on_test_data_never_scores_lower_than_any_epoch():
    train, test = clouds(12, spread=2.5), clouds(12, seed=2, spread=2.5)
    peeked = linear_evaluation(train, test, QUICK, select_on="test")
    assert peeked.score == peeked.selection_score == peeked.curve.max()
    assert peeked.n_train == len(train)
    honest = linear_evaluation(train, test, QUICK)
    assert honest.n_train < len(train), "some training clips were held out"
    with pytest.raises(ValueError, match="nothing is to be chosen on test data"):
        linear_evaluation(train, test, QUICK, validation=test, select_on="test")
    with pytest.raises(ValueError, match="one of validation, test, got 'luck'"):
        linear_evaluation(train, test, QUICK, select_on="luck")


def test_cross_validation_tests_every_clip_once_and_gives_an_interval():
    data = dataclasses.replace(clouds(12, spread=5.0), groups=torch.arange(48) // 2)
    folds = make_folds(data.targets, 4, groups=data.groups)
    result = cross_validation(data, folds, QUICK)
    assert [len(fold.outputs) for fold in result.folds] == folds.bincount().tolist()
    scores = [fold.score for fold in result.folds]
    mean, half = mean_interval(np.array(scores))
    assert (result.mean, result.half_width) == (mean, half) and half > 0
    for part in result.folds:
        rest = 48 - len(part.outputs)
        assert 0.7 * rest < part.n_train < rest
    plain = cross_validation(dataclasses.replace(data, groups=None), folds, QUICK)
    for fold, part in enumerate(plain.folds):
        following = int((folds == (fold + 1) % 4).sum())
        assert part.n_train == 48 - len(part.outputs) - following
    peeked = cross_validation(data, folds, QUICK, select_on="test")
    assert all(p.n_train == 48 - len(p.outputs) for p in peeked.folds)


def test_a_leak_or_a_missing_class_is_named():
    data = dataclasses.replace(clouds(6), groups=torch.arange(24) // 3)
    folds = torch.arange(24) % 3
    with pytest.raises(ValueError, match=r"groups \[0, 1, .* lie in more than one fold"):
        cross_validation(data, folds, QUICK)
    with pytest.raises(ValueError, match=r"groups \[0, 1.*training and the test"):
        linear_evaluation(data, data, QUICK)
    alone = folds.where(data.targets != 3, torch.tensor(1))
    data = dataclasses.replace(data, groups=None)
    for way, message in (
        ("validation", "fold 0: .*, which the validation data"),
        ("test", "fold 1:"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            cross_validation(data, alone, QUICK, select_on=way)
        assert "no training clip has the classes ['wind']" in str(caught.value)
    with pytest.raises(ValueError, match=r"classes \['wind'\], which the test data"):
        linear_evaluation(clouds().subset(range(36)), clouds(seed=1), QUICK)
    with pytest.raises(ValueError, match="three folds or more, got"):
        cross_validation(clouds(), torch.arange(48) % 2, QUICK)
    with pytest.raises(ValueError, match="one fold per clip"):
        cross_validation(clouds(), torch.arange(3), QUICK)
    straddling = dataclasses.replace(clouds(2, seed=5), groups=torch.full((8,), 77))
    test = dataclasses.replace(clouds(2, seed=6), groups=torch.full((8,), 77))
    data = dataclasses.replace(data, groups=torch.arange(24))
    with pytest.raises(ValueError, match=r"groups \[77\] lie in the validation and the test"):
        linear_evaluation(data, test, QUICK, validation=straddling)


def test_the_same_seed_gives_the_same_result_and_nothing_touches_the_global_state():
    state = torch.get_rng_state()
    train, test = clouds(12, spread=2.0), clouds(12, seed=1, spread=2.0)
    a, b, c = (linear_evaluation(train, test, QUICK, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(a.outputs, b.outputs) and torch.equal(a.curve, b.curve)
    assert not torch.equal(a.outputs, c.outputs)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(a.head(test.inputs), a.outputs)
