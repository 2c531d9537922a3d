"""Which patches are hidden: the counts and orders of the published code, item by item."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiossl_lite.views.masks import (
    MaskedViews,
    Masking,
    draw_masking,
    inverse_block_masking,
    structured_masking,
    unstructured_masking,
)


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def check(masking: Masking, n_tokens: int) -> None:
    """What every masking must satisfy."""
    visible_first = torch.cat(
        [masking.kept, masking.mask.argsort(dim=1, stable=True)[:, masking.kept.shape[1] :]], dim=1
    )
    for row in range(len(masking.kept)):
        kept = masking.kept[row].tolist()
        assert len(set(kept)) == len(kept)
        assert {i for i in range(n_tokens) if masking.mask[row, i] == 0} == set(kept)
        assert sorted(masking.restore[row].tolist()) == list(range(n_tokens))
        assert [int(masking.restore[row, token]) for token in kept] == list(range(len(kept)))
        assert (masking.restore[row] >= len(kept)).float().equal(masking.mask[row])
        assert sorted(visible_first[row].tolist()) == list(range(n_tokens))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 70),
    ratio=st.floats(0.0, 0.95),
    batch=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_unstructured_masking_keeps_the_tokens_of_least_noise(n, ratio, batch, seed):
    n_keep = int(n * (1.0 - ratio))
    noise = seeded(batch, n, seed=seed)
    if n_keep == 0:
        with pytest.raises(ValueError, match="mask ratio"):
            unstructured_masking(noise, ratio)
        return
    masking = unstructured_masking(noise, ratio)
    check(masking, n)
    for row in range(batch):
        order = sorted(range(n), key=lambda i: float(noise[row, i]))
        assert masking.kept[row].tolist() == order[:n_keep], "in the order of their noise"


@settings(max_examples=30, deadline=None)
@given(
    times=st.integers(2, 12), bands=st.integers(2, 8), seed=st.integers(0, 9),
    time_ratio=st.floats(0.0, 0.5), freq_ratio=st.floats(0.0, 0.5),
)  # fmt: skip
def test_structured_masking_is_the_crossing_of_visible_times_and_bands(
    times, bands, seed, time_ratio, freq_ratio
):
    noise_time, noise_freq = seeded(2, times, seed=seed), seeded(2, bands, seed=seed + 100)
    masking = structured_masking(noise_time, noise_freq, time_ratio, freq_ratio)
    check(masking, times * bands)
    for row in range(2):
        t = sorted(range(times), key=lambda i: float(noise_time[row, i]))
        f = sorted(range(bands), key=lambda i: float(noise_freq[row, i]))
        t, f = t[: int(times * (1 - time_ratio))], f[: int(bands * (1 - freq_ratio))]
        expected = [i * bands + j for i in sorted(t) for j in sorted(f)]
        assert masking.kept[row].tolist() == expected, "in raster order"


def naive_blocks(centres: list[int], times: int, bands: int, block: int) -> set[int]:
    """Tokens of the squares around the centres, cell by cell."""
    tokens = set()
    for centre in centres:
        for dt in range(block):
            for df in range(block):
                t, f = centre // bands + dt - block // 2, centre % bands + df - block // 2
                if 0 <= t < times and 0 <= f < bands:
                    tokens.add(t * bands + f)
    return tokens


@settings(max_examples=60, deadline=None)
@given(
    times=st.integers(2, 20), bands=st.integers(2, 8), block=st.integers(1, 6),
    n_blocks=st.integers(1, 5), ratio=st.floats(0.3, 0.9), seed=st.integers(0, 99),
)  # fmt: skip
def test_inverse_block_masking_keeps_squares_and_an_exact_share(
    times, bands, block, n_blocks, ratio, seed
):
    n = times * bands
    n_keep = int(n * (1.0 - ratio))
    centres = (seeded(2, n_blocks, seed=seed) * n).long()
    noise = seeded(2, n, seed=seed + 100)
    if n_keep == 0:
        with pytest.raises(ValueError, match="mask ratio"):
            inverse_block_masking(centres, noise, (times, bands), ratio, block)
        return
    masking = inverse_block_masking(centres, noise, (times, bands), ratio, block)
    check(masking, n)
    assert masking.mask.sum(1).tolist() == [n - n_keep] * 2
    for row in range(2):
        squares = naive_blocks(centres[row].tolist(), times, bands, block)
        kept = set(masking.kept[row].tolist())
        assert squares <= kept or kept <= squares, "whole squares, or nothing but squares"
        inside = sorted(squares, key=lambda i: float(noise[row, i]))
        outside = sorted(set(range(n)) - squares, key=lambda i: float(noise[row, i]))
        assert kept == set((inside + outside)[:n_keep])


def test_as_many_squares_are_drawn_as_would_hold_the_share_and_a_little():
    """EAT: int(512 * 0.27 / 25) = 5 squares of 5 x 5 for 102 of 64 x 8 patches."""
    drawn = draw_masking(400, (64, 8), torch.Generator().manual_seed(0), ratio=0.8, block=5)
    assert drawn.kept.shape == (400, 102)
    generator = torch.Generator().manual_seed(0)
    centres = (torch.rand(400, 5, generator=generator) * 512).long()
    noise = torch.rand(400, 512, generator=generator)
    expected = inverse_block_masking(centres, noise, (64, 8), 0.8, 5)
    assert torch.equal(drawn.kept, expected.kept)
    few = draw_masking(3, (6, 4), torch.Generator().manual_seed(0), ratio=0.8, block=5)
    assert few.kept.shape == (3, 4)  # one square, although int(24 * 0.27 / 25) is 0


def test_a_crop_has_as_many_maskings_as_asked_for():
    spec = seeded(3, 160, 64)
    views = MaskedViews(96, ratio=0.5, block=2, n_masks=4)
    crop, kept, mask, restore, counted = views(spec, torch.Generator().manual_seed(1))
    assert (len(crop), len(kept), len(mask), len(restore), len(counted)) == (3, 12, 12, 12, 3)
    assert len({tuple(row) for row in mask.tolist()}) == 12


def test_the_published_sizes():
    assert unstructured_masking(seeded(1, 512), 0.8).kept.shape == (1, 102)
    structured = structured_masking(seeded(1, 64), seeded(1, 8), 0.6, 0.5)
    assert structured.kept.shape == (1, 25 * 4)
    fine_tuning = structured_masking(seeded(1, 64), seeded(1, 8), 0.2, 0.2)
    assert fine_tuning.kept.shape == (1, 51 * 6)


@pytest.mark.parametrize(("time_ratio", "freq_ratio"), [(1.0, 0.5), (0.5, 0.9)])
def test_a_masking_that_leaves_nothing_is_refused(time_ratio, freq_ratio):
    with pytest.raises(ValueError, match="keep"):
        structured_masking(seeded(1, 8), seeded(1, 4), time_ratio, freq_ratio)


def test_a_ratio_of_zero_hides_nothing():
    assert not unstructured_masking(seeded(2, 9), 0.0).mask.any()


@pytest.mark.parametrize("structured", [False, True])
def test_drawing_uses_the_generator_alone(structured):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    draws = [
        draw_masking(2, (8, 4), torch.Generator().manual_seed(seed), structured=structured)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(draws[0].kept, draws[1].kept)
    assert not torch.equal(draws[0].kept, draws[2].kept)
    noise = torch.Generator().manual_seed(0)
    time_then_freq = [torch.rand(2, n, generator=noise) for n in (8, 4)]
    if structured:
        assert torch.equal(draws[0].mask, structured_masking(*time_then_freq, 0.6, 0.5).mask)
