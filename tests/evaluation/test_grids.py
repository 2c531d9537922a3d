"""Few-shot grids: which pools and cells there are, that groups stay apart, and what treatments of features change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiossl_lite.data.clips import Clips
from audiossl_lite.evaluation import conditioned, draw_episodes, score_episodes
from audiossl_lite.evaluation.grids import (
    TREATMENTS,
    Grid,
    Pool,
    class_pools,
    draw_column,
    mix_groups,
    treated_features,
)
from tests.evaluation.toys import silent_clips


def events(n_classes: int = 12, per_class: int = 8) -> Clips:
    """Pairs of clips from one recording."""
    labels = torch.arange(n_classes).repeat_interleave(per_class)
    names = tuple(f"kind {i:02d}" for i in range(n_classes))
    groups = torch.arange(n_classes * per_class) // 2
    return silent_clips({"event": labels}, {"event": names}, {"event": groups})


def voices(n_speakers: int = 4, n_digits: int = 6, takes: int = 3) -> Clips:
    speaker = torch.arange(n_speakers).repeat_interleave(n_digits * takes)
    digit = torch.arange(n_digits).repeat_interleave(takes).repeat(n_speakers)
    who, what = tuple(f"voice {i}" for i in range(n_speakers)), tuple(map(str, range(n_digits)))
    labels, groups = {"speaker": speaker, "digit": digit}, {"speaker": digit, "digit": speaker}
    return silent_clips(labels, {"speaker": who, "digit": what}, groups)


def noisy(labels: torch.Tensor, width: int = 16, noise: float = 1.0, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(int(labels.max()) + 1, width, generator=generator)
    return centres[labels] + noise * torch.randn(len(labels), width, generator=generator)


@pytest.fixture(scope="module")
def sets() -> list[Clips]:
    return [events(), voices()]


@pytest.fixture(scope="module")
def pools(sets) -> dict[str, Pool]:
    return {pool.name: pool for pool in class_pools(sets)}


def test_pools_are_all_classes_heard_ones_never_heard_ones_and_what_voices_say(pools):
    assert {name: pool.n_classes for name, pool in pools.items()} == {
        "events": 12, "events, heard": 9, "events, never heard": 3,
        "speakers": 4, "speakers, heard": 3,  # of one speaker never heard no episode can be made
        "digits, speakers apart": 6, "digits, speakers apart, speakers never heard": 6,
    }  # fmt: skip
    assert [pool.apart for pool in pools.values()] == ["recordings"] * 3 + ["digits"] * 2 + [
        "speakers"
    ] * 2
    never, whole = pools["events, never heard"].labels, pools["events"].labels
    heard = pools["events, heard"].labels
    assert ((never >= 0) ^ (heard >= 0)).all() and torch.equal(torch.maximum(never, heard), whole)
    assert (pools["digits, speakers apart, speakers never heard"].labels >= 0).sum() == 18


def test_digits_are_asked_from_other_voices_than_they_were_shown_in(sets, pools):
    grid = Grid([pools["digits, speakers apart"]], ways=(5,), shots=(1, 3), n_episodes=60)
    speaker = sets[1].labels["speaker"]
    assert set(grid.cells) == {f"digits, speakers apart, 5-way {k}-shot" for k in (1, 3)}
    for cell in grid.cells.values():
        for support, query in zip(cell.episodes.support, cell.episodes.query, strict=True):
            shown = set(speaker[support.flatten()].tolist())
            assert not shown & set(speaker[query[query >= 0]].tolist())


def test_cells_that_clips_cannot_fill_are_left_out_with_the_reason(pools):
    chosen = [pools["events"], pools["events, never heard"]]
    grid = Grid(chosen, ways=(2, 5, 40), shots=(1, 8), n_episodes=5)
    assert set(grid.cells) == {
        *(f"events, {n}-way 1-shot" for n in (2, 5, 12)),  # 40 ways become all twelve classes
        *(f"events, never heard, {n}-way 1-shot" for n in (2, 3)),
    }
    assert set(grid.left_out) == {name.replace("1-shot", "8-shot") for name in grid.cells}
    assert all("only 0 of" in reason for reason in grid.left_out.values())
    assert grid.cells["events, 12-way 1-shot"].n_classes == 12


def test_a_class_too_small_for_a_cell_is_counted_out():
    labels = torch.arange(6).repeat_interleave(torch.tensor([2, 9, 9, 9, 9, 9]))
    grid = Grid([Pool("events", 0, labels)], ways=(3,), shots=(1, 5), n_episodes=200)
    counts = {name: cell.n_classes for name, cell in grid.cells.items()}
    assert counts == {"events, 3-way 1-shot": 6, "events, 3-way 5-shot": 5}


def test_scores_are_those_of_the_protocol_for_every_seed(sets, pools):
    grid = Grid(list(pools.values()), n_episodes=40, seed=3)
    features = {
        "good": [[noisy(s.labels[s.task], noise=0.5, seed=i) for s in sets] for i in (0, 1)],
        "poor": [[noisy(s.labels[s.task], noise=3.0) for s in sets]],
    }
    found = grid.scores(features)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(
        features, len(grid.cells)
    )
    name = "events, heard, 5-way 5-shot"
    pool = pools["events, heard"]
    episodes = draw_episodes(pool.labels, k_shot=5, n_episodes=40, seed=3, groups=pool.groups)
    for seed in (0, 1):
        expected = 100 * score_episodes(features["good"][seed][0], episodes).numpy()
        np.testing.assert_array_equal(found["good"][name][seed], expected)
    assert found["good"][name].shape == (2, 40) and found["poor"][name].shape == (1, 40)
    assert found["good"][name].mean() > found["poor"][name].mean() + 10
    assert list(grid.scores(features, cells=[name])["poor"]) == [name]


def test_features_of_other_clips_are_refused(sets, pools):
    grid = Grid([pools["events"]], n_episodes=5)
    with pytest.raises(ValueError, match="good: 95 features for the 96 clips of events, 5-way"):
        grid.scores({"good": [[torch.zeros(95, 3), torch.zeros(72, 3)]]})


# --- groups mixed --------------------------------------------------------------------------------


def test_mixed_cells_ask_about_the_same_classes(pools):
    grid = Grid([pools["events"]], shots=(1, 3), n_episodes=80, mixed=True)
    assert [name for name in grid.cells if "mixed" in name] == [
        f"events, recordings mixed, 5-way {k}-shot" for k in (1, 3)
    ]
    labels = pools["events"].labels
    for k in (1, 3):
        apart = grid.cells[f"events, 5-way {k}-shot"].episodes
        mixed = grid.cells[f"events, recordings mixed, 5-way {k}-shot"].episodes
        assert mixed.support.shape == (80, 5, k) and mixed.query.shape == (80, 5, 8 - k)
        classes = labels[apart.support[:, :, :1]]
        assert (labels[mixed.support] == classes).all() and (labels[mixed.query] == classes).all()
        clips = torch.cat([mixed.support, mixed.query], 2).flatten(1)
        assert all(len(set(row)) == len(row) for row in clips.tolist())


def test_mixed_episodes_score_a_leak_that_parted_ones_do_not(pools):
    """Features that know the recording and nothing of the class."""
    pool = pools["events"]
    features = 10 * noisy(pool.groups, noise=0.0)
    grid = Grid([pool], shots=(1,), n_episodes=300, mixed=True)
    found = grid.scores({"recording": [[features]]})["recording"]
    assert abs(found["events, 5-way 1-shot"].mean() - 20) < 3
    # a seventh of the queries shares its recording with the one support clip of its class
    assert 25 < found["events, recordings mixed, 5-way 1-shot"].mean() < 40


def test_mixed_cells_stand_where_groups_matter_under_a_name_of_their_own(pools):
    labels = torch.arange(6).repeat_interleave(9)
    for groups in (None, torch.arange(54)):
        grid = Grid([Pool("events", 0, labels, groups)], n_episodes=5, mixed=True)
        assert list(grid.cells) == ["events, 5-way 1-shot", "events, 5-way 5-shot"]
    grid = Grid([pools["digits, speakers apart"]], shots=(1,), n_episodes=5, mixed=True)
    assert list(grid.cells) == [
        "digits, speakers apart, 5-way 1-shot", "digits, speakers mixed, 5-way 1-shot",
    ]  # fmt: skip


def test_labels_and_groups_may_be_strings(pools):
    """Numbers of two digits sort as these names do."""
    labels, groups = pools["events"].labels.clone(), pools["events"].groups
    labels[:8] = -1
    kinds = ["" if c < 0 else f"kind {c:02d}" for c in labels.tolist()]
    takes = [f"take {g:02d}" for g in groups.tolist()]
    numbers, words = Pool("x", 0, labels, groups), Pool("x", 0, kinds, takes)
    assert words.n_classes == numbers.n_classes == 11 and words.leaks
    assert not Pool("x", 0, kinds, [str(i) for i in range(96)]).leaks
    ours, theirs = (
        Grid([pool], shots=(1,), n_episodes=10, mixed=True).cells for pool in (words, numbers)
    )
    ours["column"], theirs["column"] = (
        draw_column("x", 0, *of, n_episodes=10) for of in ((kinds, takes), (labels, groups))
    )
    for name, cell in theirs.items():
        assert torch.equal(ours[name].episodes.support, cell.episodes.support), name
        assert torch.equal(ours[name].episodes.query, cell.episodes.query), name


def test_the_same_seed_gives_the_same_mixed_episodes(pools):
    labels = pools["events"].labels
    episodes = draw_episodes(labels, n_episodes=10)
    first, again, other = (mix_groups(episodes, labels, seed=seed) for seed in (2, 2, 3))
    assert torch.equal(first.query, again.query) and not torch.equal(first.query, other.query)


# --- treatments ----------------------------------------------------------------------------------


def test_treatments_condition_the_features_and_take_their_length(sets, pools):
    x, index = noisy(sets[0].labels["event"]) * 3 + 1, torch.arange(20)
    for fit in (None, [index]):
        part = x if fit is None else x[index]
        for name, (how, unit) in TREATMENTS.items():
            expected = conditioned(x, how, part)
            expected = expected / expected.norm(dim=1, keepdim=True) if unit else expected
            torch.testing.assert_close(treated_features([x], name, fit)[0], expected)
    with pytest.raises(KeyError, match="unknown treatment 'l2'"):
        treated_features([x], "l2")
    grid = Grid([pools["events"]], shots=(1,), n_episodes=50)
    stretched = {"x": [[x * torch.logspace(-2, 2, 16)]]}
    raw, scaled = (
        grid.scores(stretched, treatment=name, fit=[index])["x"]["events, 5-way 1-shot"].mean()
        for name in ("raw", "standardised")
    )
    assert scaled > raw + 10


def test_centring_alone_changes_no_score(sets, pools):
    grid = Grid([pools["events"]], n_episodes=50)
    features = {"x": [[noisy(sets[0].labels["event"], noise=2.0) + 7]]}
    raw, centred = (grid.scores(features, treatment=t)["x"] for t in ("raw", "centred"))
    for name, values in raw.items():
        np.testing.assert_allclose(values, centred[name], atol=1e-9)
        assert 20 < values.mean() < 95
