"""Augmentations against item-by-item definitions; seeds, neutral parameters, memory, draw statistics."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from audiossl_lite.views.augmentations import (
    LogMixupExp,
    RandomGain,
    RandomResizedCrop,
    SpecAugment,
    TimeRoll,
    log_mixup_exp,
    resized_crop,
    time_roll,
    uniform,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spectrograms(b: int, t: int, f: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(b, t, f, generator=seeded(seed)) - 1


# --- log-mixup-exp ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(b=st.integers(1, 4), t=st.integers(1, 6), f=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_log_mixup_exp_adds_sounds_cell_by_cell(b, t, f, seed):
    spec, other = 4 * spectrograms(b, t, f, seed), 4 * spectrograms(b, t, f, seed + 1)
    ratio = torch.rand(b, generator=seeded(seed))
    out = log_mixup_exp(spec, other, ratio)
    eps = torch.finfo(torch.float32).eps
    for i in range(b):
        for j in range(t):
            for k in range(f):
                x, z, alpha = spec[i, j, k].item(), other[i, j, k].item(), ratio[i].item()
                expected = math.log((1 - alpha) * math.exp(x) + alpha * math.exp(z) + eps)
                assert out[i, j, k].item() == pytest.approx(expected, abs=1e-5)


def test_log_mixup_exp_ratio_zero_is_the_identity_and_one_the_other():
    spec, other = spectrograms(3, 5, 4), spectrograms(3, 5, 4, seed=1)
    torch.testing.assert_close(log_mixup_exp(spec, other, torch.zeros(3)), spec, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_mixup_exp(spec, other, torch.ones(3)), other, atol=1e-6, rtol=0)


def test_the_first_batch_passes_unmixed_and_later_ones_come_from_memory():
    """Re-derive a run of the module: the memory is a queue of unmixed inputs, oldest first."""
    mix, mine = LogMixupExp(max_ratio=0.4, memory_size=7), seeded(5)
    held: list[torch.Tensor] = []
    for step in range(6):
        spec = spectrograms(3, 4, 2, seed=step)
        before = spec.clone()
        out = mix(spec, mine)
        assert torch.equal(spec, before), "the input was changed in place"
        if step == 0:
            assert torch.equal(out, spec)
        else:
            # Every output is a mix of its own input with one remembered clip at one ratio below 0.4.
            for item, mixed in zip(spec, out, strict=True):
                found = []
                for z in held:
                    ratio = ((mixed.exp() - item.exp()) / (z.exp() - item.exp())).median()
                    back = log_mixup_exp(item[None], z[None], ratio[None])[0]
                    if torch.allclose(back, mixed, atol=1e-5) and 0 <= ratio < 0.4 + 1e-4:
                        found.append(ratio)
                assert found, f"step {step}: an output is not a mix with a remembered clip"
        held = (held + list(before))[-7:]
        assert torch.equal(mix.remembered(), torch.stack(held))
    assert mix.seen == 18


def test_the_memory_keeps_the_newest_of_a_large_batch():
    mix = LogMixupExp(memory_size=4)
    spec = spectrograms(10, 2, 2)
    mix(spec, seeded(0))
    assert torch.equal(mix.remembered(), spec[-4:])


def test_the_memory_survives_a_state_dict():
    first, mine = LogMixupExp(memory_size=6), seeded(1)
    for step in range(3):
        first(spectrograms(4, 3, 2, seed=step), mine)
    second = LogMixupExp(memory_size=6)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.memory, first.memory)
    assert second.seen == 12
    assert second.memory.data_ptr() != first.memory.data_ptr()
    spec = spectrograms(4, 3, 2, seed=9)
    assert torch.equal(first(spec, seeded(2)), second(spec, seeded(2)))
    empty = LogMixupExp(memory_size=6)
    second.load_state_dict(empty.state_dict())
    assert torch.equal(second(spec, seeded(2)), spec), "an empty memory mixes nothing"


def test_the_ratio_is_uniform_below_its_maximum():
    mix = LogMixupExp(max_ratio=0.4, memory_size=1)
    mix(torch.zeros(1, 1, 1), seeded(0))
    out = mix(torch.full((20_000, 1, 1), 1.0), seeded(1)).flatten()
    ratio = (math.e - out.exp()) / (math.e - 1)
    assert ratio.min() >= -1e-5
    assert ratio.max() < 0.4001
    assert ratio.mean().item() == pytest.approx(0.2, abs=0.005)
    assert ratio.std().item() == pytest.approx(0.4 / math.sqrt(12), abs=0.005)


def test_another_shape_than_the_memory_is_refused():
    mix = LogMixupExp()
    mix(spectrograms(2, 4, 3), seeded(0))
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 3\)"):
        mix(spectrograms(2, 5, 3), seeded(0))


@pytest.mark.parametrize("options", [{"max_ratio": 1.0}, {"max_ratio": -0.1}, {"memory_size": 0}])
def test_bad_mixup_settings_are_refused(options):
    with pytest.raises(ValueError, match="max_ratio lies in"):
        LogMixupExp(**options)


# --- random resized crop ---------------------------------------------------------------------


def naive_resized_crop(item, top, left, bands, frames):
    """Cut from a wide canvas of zeros, stretch back with torch's own bicubic: `(T, F) -> (T, F)`."""
    n_frames, n_bands = item.shape
    margin = 3 * n_frames
    canvas = torch.zeros(n_bands, n_frames + 2 * margin)  # (mel, time), as the official layout
    canvas[:, margin : margin + n_frames] = item.T
    crop = canvas[top : top + bands, margin + left : margin + left + frames]
    out = F.interpolate(
        crop[None, None], size=(n_bands, n_frames), mode="bicubic", align_corners=True
    )
    return out[0, 0].T


@settings(max_examples=80, deadline=None)
@given(data=st.data(), b=st.integers(1, 4), t=st.integers(2, 40), f=st.integers(2, 16))
def test_resized_crop_equals_cutting_and_interpolating_each_item(data, b, t, f):
    spec = spectrograms(b, t, f, seed=data.draw(st.integers(0, 999)))
    bands = [data.draw(st.integers(1, f)) for _ in range(b)]
    frames = [data.draw(st.integers(1, int(1.5 * t))) for _ in range(b)]
    top = [data.draw(st.integers(0, f - h)) for h in bands]
    left = [data.draw(st.integers(-t, t)) for _ in range(b)]
    out = resized_crop(spec, *(torch.tensor(v) for v in (top, left, bands, frames)))
    assert out.shape == spec.shape
    for i in range(b):
        expected = naive_resized_crop(spec[i], top[i], left[i], bands[i], frames[i])
        torch.testing.assert_close(out[i], expected, atol=2e-5, rtol=0)


def test_resized_crop_at_full_size_and_over_the_whole_canvas():
    spec = spectrograms(3, 601, 64, seed=3)
    window = {
        "top": torch.tensor([0, 20, 0]),
        "left": torch.tensor([-150, 100, 0]),
        "bands": torch.tensor([64, 40, 64]),
        "frames": torch.tensor([901, 373, 601]),
    }
    out = resized_crop(spec, **window)
    for i in range(3):
        expected = naive_resized_crop(spec[i], *(int(value[i]) for value in window.values()))
        torch.testing.assert_close(out[i], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(out[2], spec[2], atol=1e-6, rtol=0)


def test_scale_one_without_a_margin_is_the_identity():
    crop = RandomResizedCrop(freq_scale=(1.0, 1.0), time_scale=(1.0, 1.0), canvas_time=1.0)
    spec = spectrograms(4, 30, 8)
    torch.testing.assert_close(crop(spec, seeded(0)), spec, atol=1e-6, rtol=0)


def test_the_drawn_windows_have_the_published_statistics():
    window = RandomResizedCrop().draw(20_000, 601, 64, seeded(0))
    bands, frames = window["bands"], window["frames"]
    assert (bands == 64).float().mean().item() == pytest.approx(0.552, abs=0.015)
    assert bands.float().mean().item() == pytest.approx(57.95, abs=0.25)
    assert frames.float().mean().item() == pytest.approx(630.6, abs=4)
    assert bands.min() >= 38
    assert frames.min() >= 360
    assert frames.max() <= 901
    # always inside the canvas, and uniform over the room that is left
    top, left = window["top"], window["left"] + 150
    assert (top >= 0).all() and (top + bands <= 64).all()
    assert (left >= 0).all() and (left + frames <= 901).all()
    room = 901 - frames
    share = (left / room.clamp_min(1))[room > 50]
    assert share.mean().item() == pytest.approx(0.5, abs=0.01)
    assert share.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.01)
    assert (left == 0).any() and (left == room).any()
    tops = top[bands == 60]
    assert set(tops.tolist()) == {0, 1, 2, 3, 4}


def test_byol_a_windows_have_the_published_statistics():
    frames = RandomResizedCrop().draw(20_000, 96, 64, seeded(1))["frames"]
    assert frames.float().mean().item() == pytest.approx(100.3, abs=0.6)
    assert (frames.min(), frames.max()) == (57, 143)
    assert (frames > 96).float().mean().item() == pytest.approx(0.543, abs=0.015)


@pytest.mark.parametrize(
    "options", [{"freq_scale": (0.0, 1.0)}, {"time_scale": (1.5, 0.6)}, {"canvas_time": 0.9}]
)
def test_bad_crop_settings_are_refused(options):
    with pytest.raises(ValueError, match=r"scale|canvas_time"):
        RandomResizedCrop(**options)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), t=st.integers(2, 30), seed=st.integers(0, 999))
def test_a_padded_clip_is_cropped_as_if_it_were_alone(data, t, seed):
    spec = spectrograms(3, t, 6, seed)
    lengths = torch.tensor([data.draw(st.integers(2, t)) for _ in range(3)])
    spec[torch.arange(t) >= lengths[:, None]] = float("nan")
    window = RandomResizedCrop().draw(3, lengths, 6, seeded(seed))
    out = resized_crop(spec, **window, lengths=lengths)
    again = RandomResizedCrop()(spec, seeded(seed), lengths)
    torch.testing.assert_close(out, again, atol=0, rtol=0, equal_nan=True)
    for i, n in enumerate(lengths.tolist()):
        alone = naive_resized_crop(spec[i, :n], *(int(value[i]) for value in window.values()))
        torch.testing.assert_close(out[i, :n], alone, atol=2e-5, rtol=0)
        assert torch.isnan(out[i, n:]).all()


# --- gain and roll ---------------------------------------------------------------------------


def test_random_gain_is_uniform_in_decibels():
    out = RandomGain(-6, 3)(torch.ones(20_000, 2), seeded(0))
    assert torch.equal(out[:, 0], out[:, 1])
    gain_db = 20 * out[:, 0].log10()
    assert gain_db.min() >= -6.001 and gain_db.max() <= 3.001
    assert gain_db.mean().item() == pytest.approx(-1.5, abs=0.06)
    assert gain_db.std().item() == pytest.approx(9 / math.sqrt(12), abs=0.05)


def test_no_gain_is_the_identity_and_a_reversed_range_is_refused():
    wave = torch.randn(3, 50, generator=seeded(0))
    assert torch.equal(RandomGain(0, 0)(wave, seeded(0)), wave)
    with pytest.raises(ValueError, match="low_db must not exceed"):
        RandomGain(3, -3)


@pytest.mark.parametrize("shape", [(3, 11), (3, 11, 4)])
def test_time_roll_equals_torch_roll_item_by_item(shape):
    x = torch.randn(shape, generator=seeded(0))
    for shift in ([0, 1, 10], [11, -1, 25], [5, 5, 5]):
        expected = torch.stack([torch.roll(item, s, dims=0) for item, s in zip(x, shift)])
        assert torch.equal(time_roll(x, torch.tensor(shift)), expected)


@pytest.mark.parametrize("shape", [(3, 11), (3, 11, 4)])
def test_only_the_valid_part_of_a_padded_clip_turns(shape):
    x, lengths = torch.randn(shape, generator=seeded(0)), torch.tensor([11, 4, 1])
    out = time_roll(x, torch.tensor([3, 6, 2]), lengths)
    for i, (shift, n) in enumerate([(3, 11), (6, 4), (2, 1)]):
        assert torch.equal(out[i, :n], torch.roll(x[i, :n], shift, dims=0))
        assert torch.equal(out[i, n:], x[i, n:])
    drawn = TimeRoll()(x.expand(3, *shape[1:]), seeded(1), lengths)
    assert torch.equal(drawn[1, 4:], x[1, 4:])
    assert torch.equal(drawn[1, :4].flatten().sort().values, x[1, :4].flatten().sort().values)


def test_spec_augment_covers_one_stretch_and_one_band_of_every_size():
    cover = SpecAugment(5, 3, fill=-2.0)
    lengths = torch.tensor([12, 4]).repeat(2000)
    out = cover(torch.ones(4000, 12, 8), seeded(0), lengths)
    for size, valid in ((5, 12), (4, 4)):
        covered = out[lengths == valid] == -2
        assert not covered[:, valid:].any()
        frames = covered[:, :valid].all(2)  # a full-height stretch
        bands = covered[:, :valid].all(1)
        assert torch.equal(covered[:, :valid], frames[:, :, None] | bands[:, None])
        edges = frames.int().diff(dim=1, prepend=torch.zeros(len(frames), 1, dtype=torch.int))
        assert (edges == 1).sum(1).max() == 1, "one stretch, not several"
        partly = frames.sum(1)[~bands.all(1) & ~frames.all(1)]
        assert set(partly.tolist()) == set(range(min(size, valid - 1) + 1))
        assert covered[:, 0].any() and covered[:, valid - 1].any()
        assert set(bands[~frames.all(1)].sum(1).tolist()) == {0, 1, 2, 3}
    assert torch.equal(SpecAugment(0, 0)(out, seeded(0)), out)
    shares, sizes = SpecAugment(0.25, 0.5), SpecAugment(3, 4)  # of 12 and of 8
    assert torch.equal(shares(out, seeded(1)), sizes(out, seeded(1)))
    with pytest.raises(ValueError, match="must not be negative"):
        SpecAugment(-1, 3)


def test_random_roll_keeps_the_samples_and_reaches_every_shift():
    x = torch.arange(6.0).repeat(2000, 1)
    out = TimeRoll()(x, seeded(0))
    assert torch.equal(out.sort(dim=1).values, x)
    shares = torch.bincount(out[:, 0].long(), minlength=6) / 2000
    assert (shares - 1 / 6).abs().max() < 0.035


# --- what all share --------------------------------------------------------------------------

MODULES = {
    "mixup": lambda: _filled_mixup(),
    "crop": RandomResizedCrop,
    "gain": RandomGain,
    "roll": TimeRoll,
    "cover": lambda: SpecAugment(8, 4, fill=7.0),
}


def _filled_mixup() -> LogMixupExp:
    mix = LogMixupExp(memory_size=8)
    mix(spectrograms(8, 20, 6, seed=77), seeded(0))
    return mix


def _input(name: str) -> torch.Tensor:
    spec = spectrograms(5, 20, 6, seed=3)
    return spec.flatten(1) if name == "gain" else spec


@pytest.mark.parametrize("name", MODULES)
def test_the_same_seed_gives_the_same_output_and_another_seed_another(name):
    x = _input(name)
    first, again = MODULES[name]()(x, seeded(4)), MODULES[name]()(x, seeded(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, MODULES[name]()(x, seeded(5)))
    assert first.shape == x.shape
    assert torch.isfinite(first).all()
    assert not any(torch.equal(first[0], other) for other in first[1:])


@pytest.mark.parametrize("name", MODULES)
def test_nothing_draws_from_global_state(name):
    before = torch.random.get_rng_state()
    MODULES[name]()(_input(name), seeded(4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_uniform_covers_its_range():
    draw = uniform(10_000, -2.0, 5.0, seeded(0), torch.device("cpu"))
    assert draw.min() >= -2 and draw.max() < 5
    assert draw.mean().item() == pytest.approx(1.5, abs=0.08)
