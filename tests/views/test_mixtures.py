"""What uaMix-MAE sees: two augmented views, the first mixed, with labels and the ids that must not be found."""

from __future__ import annotations

import math

import pytest
import torch

from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.mixing import mixup, t_cutmix, tf_cutmix, virtual_labels
from audiossl_lite.views.augmentations import RandomGain
from audiossl_lite.views.mixtures import MIXINGS, CroppedViews, SpectralGain, TuningViews

B, T, MELS = 6, 48, 16
IDS = torch.tensor([70, 3, 41, 8, 15, 22])
LENGTHS = torch.tensor([48, 20, 33, 48, 9, 40])
AUGMENTATIONS = ("resized_crop", "spec_augment", "none")
MIXERS = {
    "mixup": mixup,
    "tf_cutmix": tf_cutmix,
    "t_cutmix": lambda spec, **options: t_cutmix(spec, rule="linear", **options),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(lengths=None) -> torch.Tensor:
    spec = torch.randn(B, T, MELS, generator=seeded(0))
    if lengths is not None:
        spec[torch.arange(T) >= lengths[:, None]] = float("nan")
    return spec


def plain(mixing: str, **options) -> TuningViews:
    """Views that only roll: the gain and the last augmentation are off."""
    return TuningViews(mixing, gain_db=0.0, augmentation="none", **options)


# --- gain -----------------------------------------------------------------------------------------


def test_a_spectral_gain_is_a_gain_of_the_waveform():
    """Louder sound through the frontend equals the shifted filter bank, away from the floor."""
    frontend = AudioMAEFrontend(96)
    waveform = 0.1 * torch.randn(4, 15_600, generator=seeded(0))
    quiet = frontend(waveform)
    gain = SpectralGain(6.0, 2 * frontend.std)
    louder = gain(quiet, seeded(3))
    expected = frontend(RandomGain(-6.0, 6.0)(waveform, seeded(3)))
    floor = (math.log(torch.finfo(torch.float32).eps) - frontend.mean) / (2 * frontend.std)
    above = torch.minimum(quiet, expected) > floor + 0.01
    assert above.float().mean() > 0.95
    torch.testing.assert_close(louder[above], expected[above], atol=1e-4, rtol=0)
    assert not torch.allclose(louder[0] - quiet[0], louder[1] - quiet[1], atol=1e-3)


def test_the_gain_is_uniform_in_decibels_and_zero_is_the_identity():
    out = SpectralGain(6.0, 2.0)(torch.zeros(20_000, 1, 1), seeded(0)).flatten()
    decibels = out * 2.0 * 10 / math.log(10)
    assert decibels.abs().max() <= 6.0001
    assert decibels.mean().item() == pytest.approx(0, abs=0.1)
    assert decibels.std().item() == pytest.approx(12 / math.sqrt(12), abs=0.05)
    spec = clips()
    assert torch.equal(SpectralGain(0.0)(spec, seeded(0)), spec)


# --- the pieces of a batch ---------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_shapes_labels_and_ids(mixing, augmentation, lengths):
    views, spec = TuningViews(mixing, augmentation=augmentation), clips(lengths)
    before = spec.clone()
    anchor, positive, labels, avoid, ids, valid = views(spec, seeded(1), lengths, ids=IDS)
    assert anchor.shape == positive.shape == spec.shape
    assert labels.shape == (B, B) and avoid.shape == (B, 2)
    torch.testing.assert_close(labels.sum(1), torch.ones(B))
    assert torch.equal(ids, IDS)
    assert torch.equal(avoid[:, 0], IDS)
    assert torch.equal(avoid[:, 1], IDS if mixing == "none" else IDS.flip(0))
    assert valid.tolist() == ([T] * B if lengths is None else LENGTHS.tolist())
    assert torch.equal(spec.nan_to_num(9), before.nan_to_num(9)), "the input was changed in place"
    # padding (NaN here) neither enters the clips nor leaves its place
    inside = torch.arange(T) < valid[:, None]
    for view in (anchor, positive):
        assert torch.isfinite(view[inside]).all()
        assert not inside.all() or lengths is None
        assert torch.isnan(view[~inside]).all()


@pytest.mark.parametrize("mixing", MIXERS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_the_anchor_is_mixed_after_augmentation_and_the_positive_stays_clean(mixing, lengths):
    """The same draws one by one: two augmented views, then the mixture of the first."""
    views, spec = TuningViews(mixing, rule="linear", alpha=0.7), clips()
    anchor, positive, labels, *_ = views(spec, seeded(4), lengths, ids=IDS)
    draws = seeded(4)
    first = views.augment(spec, draws, lengths)
    second = views.augment(spec, draws, lengths)
    mixture = MIXERS[mixing](first, alpha=0.7, generator=draws, lengths=lengths)
    assert torch.equal(positive, second)
    assert torch.equal(anchor, mixture.spec)
    assert torch.equal(labels, virtual_labels(mixture))
    assert not torch.equal(first, second)


def test_no_mixing_gives_unit_labels_and_two_different_views_of_the_same_clip():
    anchor, positive, labels, *_ = plain("none")(clips(), seeded(2), ids=IDS)
    assert torch.equal(labels, torch.eye(B))
    assert not torch.equal(anchor, positive)
    for view in (anchor, positive):  # rolled, nothing else: the same frames in another order
        torch.testing.assert_close(view.sum(1), clips().sum(1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rule", ["paper", "effective", "linear"])
def test_the_rule_reaches_the_mixture(rule):
    views = plain("t_cutmix", rule=rule)
    _, _, labels, *_ = views(clips(), seeded(7), ids=IDS)
    draws = seeded(7)
    first, _ = views.augment(clips(), draws, None), views.augment(clips(), draws, None)
    mixture = t_cutmix(first, rule=rule, generator=draws)
    assert torch.equal(labels, virtual_labels(mixture))


def test_one_lambda_a_batch_or_one_a_clip():
    one = plain("t_cutmix", rule="linear")(clips(), seeded(3), ids=IDS)[2]
    each = plain("t_cutmix", rule="linear", per_sample=True)(clips(), seeded(3), ids=IDS)[2]
    assert len(set(one.diagonal().tolist())) == 1
    assert len(set(each.diagonal().tolist())) > 3
    torch.testing.assert_close(one.sum(0), torch.ones(B))


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_same_seed_gives_the_same_views_and_global_state_is_left_alone(mixing):
    views, before = TuningViews(mixing), torch.random.get_rng_state()
    one, two, other = (views(clips(), seeded(s), ids=IDS) for s in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not one[0].requires_grad and not views.state_dict()


@pytest.mark.parametrize("augmentation", ["resized_crop", "spec_augment"])
def test_a_padded_clip_is_augmented_as_if_it_were_alone(augmentation):
    """A short clip keeps its sound: the window or the cover is drawn over its valid part only."""
    lengths = torch.full((400,), 10)
    spec = torch.ones(400, 100, 128)
    spec[:, 10:] = -5.0
    view = TuningViews("none", gain_db=0.0, augmentation=augmentation).augment(
        spec, seeded(0), lengths
    )
    assert (view[:, 10:] == -5.0).all()
    sound = view[:, :10]
    assert sound.min() >= -0.2, "padding entered the clip"
    assert (sound > 0.5).float().mean() > 0.35, "most of the sound is gone"
    assert (sound > 0.5).flatten(1).any(1).float().mean() > 0.85, "whole clips are gone"


def test_spec_augment_covers_as_much_of_a_small_clip_as_of_the_paper_s():
    views = TuningViews("none", gain_db=0.0, augmentation="spec_augment")
    for frames, bands in ((1024, 128), (208, 64)):
        out = views.augment(torch.ones(300, frames, bands), seeded(0), None)
        assert 0.24 < (out == 0).float().mean() < 0.3


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="none, mixup, tf_cutmix, t_cutmix, got 'cutmix'"):
        TuningViews("cutmix")
    with pytest.raises(ValueError, match="augmentation is resized_crop"):
        TuningViews(augmentation="crop")
    with pytest.raises(ValueError, match="limit_db must not be negative"):
        TuningViews(gain_db=-1.0)
    with pytest.raises(ValueError, match="log_unit positive"):
        SpectralGain(6.0, 0.0)


def test_crops_lie_inside_the_clip_and_padding_is_padding():
    views = CroppedViews(16, -9.0, TuningViews("none", gain_db=0.0, augmentation="none"))
    spec = torch.arange(40.0)[None, :, None].expand(2, 40, 4).clone()
    spec[1, 6:] = 77.0  # past the end of a clip of 6 frames
    ids, lengths = torch.tensor([4, 5]), torch.tensor([40, 6])
    anchor, _, _, _, same, left = views(spec, torch.Generator().manual_seed(0), lengths, ids=ids)
    assert anchor.shape == (2, 16, 4) and left.tolist() == [16, 6] and torch.equal(same, ids)
    assert (anchor[1, 6:] == -9.0).all() and set(anchor[1, :6, 0].tolist()) == set(
        map(float, range(6))
    )
    assert sorted(anchor[0, :, 0].tolist()) == list(
        range(int(anchor[0].min()), int(anchor[0].min()) + 16)
    )
    short = spec[:, :16]  # what fits is left as it is, and nothing is drawn for it
    plain = TuningViews("mixup", gain_db=3.0)
    crops = CroppedViews(16, -9.0, plain)
    lengths = torch.tensor([16, 6])
    drawn = [v(short, torch.Generator().manual_seed(1), lengths, ids=ids) for v in (plain, crops)]
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_two_crops_show_another_part_of_the_clip_and_one_crop_the_same():
    """The number of a frame is its value: an anchor and a positive of 16 frames each, of clips of 40 and of 6."""
    spec = torch.arange(40.0)[None, :, None].expand(200, 40, 4).clone()
    lengths = torch.full((200,), 40)
    lengths[::2] = 6
    plain_views = TuningViews("none", gain_db=0.0, augmentation="none")
    plain_views.augment = lambda x, *_: x
    for segments in ("one", "two"):
        views = CroppedViews(16, -9.0, plain_views, segments)
        anchor, positive, *_, left = views(
            spec, torch.Generator().manual_seed(0), lengths, ids=torch.arange(200)
        )
        assert left.tolist() == [6, 16] * 100
        for view in (anchor, positive):
            assert (view[1::2].diff(dim=1) == 1).all()
            assert (view[::2, :6] == spec[::2, :6]).all() and (view[::2, 6:] == -9.0).all()
        moved = (anchor[1::2, 0, 0] != positive[1::2, 0, 0]).float().mean()
        assert moved == 0 if segments == "one" else moved > 0.9
    with pytest.raises(ValueError, match="segments is 'one' or 'two', got 'three'"):
        CroppedViews(16, -9.0, plain_views, "three")
