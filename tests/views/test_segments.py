"""Positive pairs: what is cut, from where, how uniformly, and what the two views share."""

from __future__ import annotations

import math

import pytest
import torch

from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend
from audiossl_lite.training.identity import module_digest
from audiossl_lite.views.augmentations import LogMixupExp, RandomResizedCrop
from audiossl_lite.views.segments import (
    ViewMaker,
    ViewNormalisation,
    cut,
    overlap_share,
    random_segments,
    random_starts,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramps(b: int, s: int) -> torch.Tensor:
    """Every sample says which clip and which position it is; none is zero."""
    return torch.arange(b).double()[:, None] * 10_000 + torch.arange(1, s + 1)


@pytest.mark.parametrize("extra", [(), (3,)])
def test_cut_equals_slicing_each_item(extra):
    x = torch.randn(4, 20, *extra, generator=seeded(0))
    starts = [0, 7, 13, 18]
    out = cut(x, torch.tensor(starts), 7)
    for i, start in enumerate(starts):
        expected = torch.zeros(7, *extra)
        part = x[i, start : start + 7]
        expected[: len(part)] = part
        assert torch.equal(out[i], expected)


def test_a_negative_start_is_refused():
    with pytest.raises(ValueError, match="got start -2"):
        cut(ramps(2, 9), torch.tensor([0, -2]), 3)


def test_one_segment_is_the_same_twice_and_two_are_not():
    x = ramps(50, 300)
    same = random_segments(x, 100, segments="one", generator=seeded(0))
    assert torch.equal(*same)
    first, second = random_segments(x, 100, segments="two", generator=seeded(0))
    assert (first[:, 0] != second[:, 0]).float().mean() > 0.9
    for segment in (first, second):
        # consecutive samples of the right clip
        assert torch.equal(segment - segment[:, :1], torch.arange(100.0).double().expand(50, 100))
        assert torch.equal((segment[:, 0] // 10_000).long(), torch.arange(50))


def test_starts_are_uniform_over_every_possible_position():
    starts = random_starts(torch.full((22_000,), 20), 10, seeded(0))
    counts = torch.bincount(starts, minlength=11)
    assert len(counts) == 11
    assert (counts / 2000 - 1).abs().max() < 0.1
    # first and second segment are independent
    first, second = random_segments(
        ramps(1, 20).expand(22_000, -1), 10, segments="two", generator=seeded(1)
    )
    both = torch.stack([first[:, 0], second[:, 0]])
    assert torch.corrcoef(both)[0, 1].abs() < 0.02


def test_segments_stay_inside_the_valid_part_of_padded_clips():
    x, lengths = ramps(2000, 60), torch.tensor([60, 31, 30, 12]).repeat(500)
    x = x * (torch.arange(60) < lengths[:, None])
    for segment in random_segments(x, 30, segments="two", generator=seeded(0), lengths=lengths):
        filled = (segment != 0).sum(1)
        assert torch.equal(filled, lengths.clamp(max=30)), "padding was cut although sound was left"
        short = segment[lengths == 12]
        assert (short[:, 12:] == 0).all() and (short[:, :12] != 0).all()
        starts = (segment[lengths == 31][:, 0] % 10_000).long()
        assert set(starts.tolist()) == {1, 2}


def test_a_clip_shorter_than_the_segment_is_padded_at_the_end():
    first, _ = random_segments(ramps(3, 8), 12, segments="two", generator=seeded(0))
    assert first.shape == (3, 12)
    assert torch.equal(first[:, :8], ramps(3, 8))
    assert (first[:, 8:] == 0).all()


def test_another_number_of_segments_is_refused():
    with pytest.raises(ValueError, match="'one' or 'two', got 'three'"):
        random_segments(ramps(2, 9), 3, segments="three", generator=seeded(0))


def test_overlap_share_counts_common_positions():
    starts_a, starts_b = torch.tensor([0, 0, 5, 9, 30]), torch.tensor([0, 3, 0, 0, 1])
    naive = [
        len(set(range(a, a + 10)) & set(range(b, b + 10))) / 10
        for a, b in zip(starts_a.tolist(), starts_b.tolist(), strict=True)
    ]
    assert overlap_share(starts_a, starts_b, 10).tolist() == pytest.approx(naive)


def test_two_six_second_segments_of_ten_seconds_always_share_two_seconds():
    """What arithmetic says about the paper's "at least 1 second"."""
    lengths = torch.full((5000,), 160_000)
    a, b = (random_starts(lengths, 96_000, seeded(seed)) for seed in (0, 1))
    shared_s = overlap_share(a, b, 96_000) * 6
    assert shared_s.min() >= 2
    assert shared_s.min() < 2.3


# --- the whole pipeline ----------------------------------------------------------------------


def noise(b: int, s: int) -> torch.Tensor:
    return 0.1 * torch.randn(b, s, generator=seeded(9))


@pytest.mark.parametrize("segments", ["one", "two"])
def test_without_augmentations_a_view_is_the_frontend_of_a_cut(segments):
    frontend = ATSTFrontend()
    views = ViewMaker(8000, segments=segments, frontend=frontend, mixup=False, resized_crop=False)
    wave, lengths = noise(3, 16_000), torch.tensor([16_000, 9000, 8000])
    first, second = views(wave, seeded(2), lengths)
    expected = random_segments(wave, 8000, segments=segments, generator=seeded(2), lengths=lengths)
    assert first.shape == (3, 51, 64)
    assert torch.equal(first, frontend(expected[0]))
    assert torch.equal(second, frontend(expected[1]))
    assert torch.equal(first, second) == (segments == "one")


def test_spectrogram_views_cut_frames():
    spec = torch.randn(3, 80, 64, generator=seeded(0))
    views = ViewMaker(20, crop_from="spectrogram", mixup=False, resized_crop=False)
    assert views.frontend is None
    first, second = views(spec, seeded(1))
    expected = random_segments(spec, 20, segments="two", generator=seeded(1))
    assert torch.equal(first, expected[0]) and torch.equal(second, expected[1])


def test_one_segment_still_gives_two_different_augmented_views():
    views = ViewMaker(8000, segments="one", frontend=ATSTFrontend())
    first, second = views(noise(4, 16_000), seeded(0))
    assert first.shape == second.shape == (4, 51, 64)
    assert not torch.allclose(first, second, atol=1e-3)


def test_the_same_seed_gives_the_same_views():
    pairs = []
    for seed in (3, 3, 4):
        views = ViewMaker(8000, frontend=ATSTFrontend())
        views(noise(4, 16_000), seeded(0))
        pairs.append(views(noise(4, 16_000), seeded(seed)))
    assert torch.equal(pairs[0][0], pairs[1][0]) and torch.equal(pairs[0][1], pairs[1][1])
    assert not torch.equal(pairs[0][0], pairs[2][0])


@pytest.mark.parametrize(("shared", "stored"), [(False, 5), (True, 10)])
def test_the_views_have_a_memory_each_or_share_one(shared, stored):
    spec = torch.randn(5, 30, 64, generator=seeded(0))
    views = ViewMaker(10, crop_from="spectrogram", resized_crop=False, shared_memory=shared)
    first, second = views(spec, seeded(0))
    assert len(views.mixup[0]) == len(views.mixup[1]) == stored
    assert (views.mixup[0] is views.mixup[1]) == shared
    expected = random_segments(spec, 10, segments="two", generator=seeded(0))
    assert torch.equal(first, expected[0]), "the first view of the first batch passes unmixed"
    assert torch.equal(second, expected[1]) == (not shared)


@pytest.mark.parametrize("shared", [False, True])
def test_the_state_of_the_views_can_be_saved_and_resumed(shared):
    def make() -> ViewMaker:
        return ViewMaker(8000, frontend=ATSTFrontend(), memory_size=6, shared_memory=shared)

    first, second = make(), make()
    for seed in range(3):
        first(noise(4, 16_000), seeded(seed))
    second.load_state_dict(first.state_dict())
    ours, theirs = first(noise(4, 16_000), seeded(7)), second(noise(4, 16_000), seeded(7))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    again = first(noise(4, 16_000), seeded(8)), second(noise(4, 16_000), seeded(8))
    assert torch.equal(again[0][1], again[1][1])


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("mean_b", [-40.0, 0.0, 3.0])
def test_normalised_views_have_one_mean_and_one_deviation_over_every_cell_of_both(n, mean_b):
    first = 2.0 + 5.0 * torch.randn(n, 9, 4, generator=seeded(0))
    second = mean_b + 0.5 * torch.randn(n, 9, 4, generator=seeded(1))
    before = first.clone(), second.clone()
    found = ViewNormalisation()(first, second)
    cells = [float(x) for view in (first, second) for clip in view for row in clip for x in row]
    mean = sum(cells) / len(cells)
    std = (sum((x - mean) ** 2 for x in cells) / (len(cells) - 1)) ** 0.5
    for view, out in zip((first, second), found, strict=True):
        torch.testing.assert_close(out, (view - mean) / std, rtol=1e-5, atol=1e-5)
    both = torch.cat(found)
    assert both.mean().abs() < 1e-5 and both.std().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(first, before[0]) and torch.equal(second, before[1]), "written into"


def test_normalisation_comes_last_and_draws_nothing():
    """What the other views are is the same to the last bit, batch after batch, with it or without."""
    options = {
        "frontend": BYOLAFrontend(),
        "segments": "one",
        "shared_memory": True,
        "memory_size": 6,
    }
    plain, normalised = (ViewMaker(8000, **options, normalise_views=on) for on in (False, True))
    generators = seeded(3), seeded(3)
    for seed in range(3):
        views = plain(noise(4, 16_000) * (seed + 1), generators[0])
        found = normalised(noise(4, 16_000) * (seed + 1), generators[1])
        expected = ViewNormalisation()(*views)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert not torch.allclose(found[0], views[0], atol=1e-2)
        assert torch.equal(plain.mixup[0].memory, normalised.mixup[0].memory)
    assert torch.equal(*(generator.get_state() for generator in generators))


def test_switched_off_everything_is_as_if_the_option_were_not_there():
    """Recorded runs are gone on with by the digest of their views, and draw what they drew."""
    options = {"segments": "one", "frontend": BYOLAFrontend(), "shared_memory": True}
    views = ViewMaker(8000, **options)
    digests = [
        module_digest(views),
        module_digest(ViewMaker(8000, **options, normalise_views=True)),
    ]
    del views.normalise_views
    assert module_digest(views) == digests[0] != digests[1]
    views, mix, crop = ViewMaker(8000, **options), LogMixupExp(), RandomResizedCrop()
    wave, ours, theirs = noise(4, 16_000), seeded(4), seeded(4)
    for _ in range(2):
        segment, _ = random_segments(wave, 8000, segments="one", generator=theirs)
        mixed = [mix(options["frontend"](segment), theirs) for _ in range(2)]
        by_hand = [crop(view, theirs) for view in mixed]
        assert all(torch.equal(a, b) for a, b in zip(views(wave, ours), by_hand, strict=True))


@pytest.mark.parametrize("normalise", [False, True])
def test_views_are_finite_for_silence_and_carry_no_gradient(normalise):
    views = ViewMaker(8000, frontend=ATSTFrontend(), normalise_views=normalise)
    silent = torch.zeros(2, 16_000)
    for _ in range(2):
        first, _ = views(silent, seeded(0))
        assert torch.isfinite(first).all()
        assert not first.requires_grad
    assert math.isfinite(first.mean())


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="'waveform' or 'spectrogram', got 'mel'"):
        ViewMaker(10, crop_from="mel")
    with pytest.raises(ValueError, match="needs a frontend"):
        ViewMaker(10)
