"""Few-shot evaluation against sklearn's nearest centroid, and every property of the protocol."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid

from audiossl_lite.evaluation import draw_episodes, few_shot_accuracy, score_episodes
from audiossl_lite.evaluation.few_shot import Episodes


def balanced(n_classes: int, per_class: int) -> torch.Tensor:
    return torch.arange(n_classes).repeat_interleave(per_class)


def objects(values: list) -> np.ndarray:
    """As a column of a table has them."""
    return np.array(values, dtype=object)


def clustered(labels: torch.Tensor, width: int, noise: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(int(labels.max()) + 1, width, generator=generator)
    return centres[labels.clamp_min(0)] + noise * torch.randn(
        len(labels), width, generator=generator
    )


def naive_scores(features: torch.Tensor, episodes: Episodes) -> list[float]:
    """One sklearn classifier an episode."""
    features, scores = features.double().numpy(), []
    for support, query in zip(episodes.support.numpy(), episodes.query.numpy(), strict=True):
        n_way = len(support)
        answers = np.repeat(np.arange(n_way), support.shape[1])
        classifier = NearestCentroid().fit(features[support.ravel()], answers)
        right = asked = 0
        for way in range(n_way):
            clips = query[way][query[way] >= 0]
            right += (classifier.predict(features[clips]) == way).sum()
            asked += len(clips)
        scores.append(right / asked)
    return scores


@pytest.mark.parametrize(
    ("n_way", "k_shot", "n_query"), [(5, 1, 15), (5, 5, 3), (2, 3, 7), (8, 2, 1)]
)
def test_scores_equal_a_loop_with_sklearn(n_way, k_shot, n_query):
    labels = balanced(9, 18)
    features = clustered(labels, 6, noise=1.2)
    episodes = draw_episodes(
        labels, n_way=n_way, k_shot=k_shot, n_query=n_query, n_episodes=70, seed=1
    )
    scores = score_episodes(features, episodes)
    np.testing.assert_allclose(scores.numpy(), naive_scores(features, episodes), atol=1e-9)
    assert 0.3 < scores.mean() < 0.98, "too easy or too hard to tell anything"


def test_the_chunk_size_does_not_matter():
    labels = balanced(6, 10)
    features, episodes = clustered(labels, 4, 1.0), draw_episodes(labels, n_episodes=50)
    expected = score_episodes(features, episodes)
    for chunk in (1, 7, 64, 1000):
        assert torch.equal(score_episodes(features, episodes, chunk=chunk), expected), chunk


def test_grouped_scores_with_unequal_queries_equal_the_loop():
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(7, (150,), generator=generator)
    groups = torch.randint(40, (150,), generator=generator)
    features = clustered(labels, 5, 1.0)
    episodes = draw_episodes(labels, n_query=30, n_episodes=80, groups=groups)
    asked = (episodes.query >= 0).sum(2)
    assert len(asked.unique()) > 1, "the case is meant to have unequal query counts"
    np.testing.assert_allclose(
        score_episodes(features, episodes).numpy(), naive_scores(features, episodes), atol=1e-9
    )


def test_defaults_mean_and_interval_follow_the_protocol():
    labels = balanced(8, 20)
    result = few_shot_accuracy(clustered(labels, 5, 1.0), labels)
    assert result.per_episode.shape == (600,)
    assert result.mean == pytest.approx(np.mean(result.per_episode))
    population = math.sqrt(np.mean((result.per_episode - result.mean) ** 2))
    assert result.ci95 == pytest.approx(1.96 * population / math.sqrt(600))
    assert result.interval == (result.mean - result.ci95, result.mean + result.ci95)
    assert (result.n_way, result.k_shot, result.n_query) == (5, 1, 15)
    assert str(result) == f"{result.mean:.1f} ± {result.ci95:.1f} %"


def test_perfect_features_score_100_and_equal_ones_chance():
    labels = balanced(6, 10)
    perfect = few_shot_accuracy(torch.nn.functional.one_hot(labels).float(), labels, n_episodes=20)
    assert (perfect.mean, perfect.ci95) == (100, 0)
    same = few_shot_accuracy(torch.ones(60, 4), labels, n_episodes=20)
    assert same.mean == pytest.approx(20)


def check_protocol(labels, episodes, n_way, k_shot):
    for support, query in zip(episodes.support, episodes.query, strict=True):
        assert support.shape == (n_way, k_shot)
        classes = labels[support]
        assert (classes == classes[:, :1]).all(), "a support row mixes classes"
        assert len(set(classes[:, 0].tolist())) == n_way, "a class was drawn twice"
        used = support.flatten().tolist()
        for way, row in enumerate(query):
            clips = row[row >= 0]
            assert len(clips), "a class has no query"
            assert (labels[clips] == classes[way, 0]).all(), "a query has another class"
            used += clips.tolist()
        assert len(set(used)) == len(used), "a clip stands twice in an episode"


@settings(max_examples=25, deadline=None)
@given(
    n_way=st.integers(2, 6), k_shot=st.integers(1, 5), n_query=st.integers(1, 20),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_classes_are_distinct_and_clips_used_once(n_way, k_shot, n_query, seed):
    labels = torch.cat([balanced(7, 9), torch.full((5,), -1)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    episodes = draw_episodes(
        labels, n_way=n_way, k_shot=k_shot, n_query=n_query, n_episodes=15, seed=seed
    )
    check_protocol(labels, episodes, n_way, k_shot)
    assert episodes.query.shape[2] == min(n_query, 9 - k_shot)
    assert (labels[episodes.support] >= 0).all()


def test_classes_and_clips_are_drawn_uniformly():
    labels = balanced(10, 8)
    episodes = draw_episodes(labels, n_episodes=4000, n_query=3)
    for clips in (episodes.support, episodes.query):
        counts = torch.bincount(clips.flatten(), minlength=80).float()
        assert (counts / counts.mean() - 1).abs().max() < 0.3
    pairs = Counter(tuple(sorted(labels[row[:, 0]][:2].tolist())) for row in episodes.support)
    assert len(pairs) == 45
    first = torch.bincount(labels[episodes.support[:, 0, 0]], minlength=10)
    assert (first / 400 - 1).abs().max() < 0.2, "the place of a class in the episode is random"


# --- groups ----------------------------------------------------------------------------------


def assert_groups_apart(episodes: Episodes, groups: torch.Tensor) -> None:
    for support, query in zip(episodes.support, episodes.query, strict=True):
        left = set(groups[support.flatten()].tolist())
        right = set(groups[query[query >= 0]].tolist())
        assert not left & right, "a group stands on both sides"


def recordings() -> tuple[torch.Tensor, torch.Tensor]:
    """Groups inside classes, as ESC-50's source recordings: 8 clips a class from 1 to 8 recordings."""
    labels, groups = [], []
    for label, sizes in enumerate([(1,) * 8, (2,) * 4, (4, 4), (5, 2, 1), (6, 1, 1), (8,), (3, 5)]):
        for i, size in enumerate(sizes):
            labels += [label] * size
            groups += [100 * label + i] * size
    return torch.tensor(labels), torch.tensor(groups)


def speakers() -> tuple[torch.Tensor, torch.Tensor]:
    """Groups shared among classes, as spoken digits: 10 digits x 5 speakers x 4 takes."""
    labels = torch.arange(10).repeat_interleave(20)
    groups = torch.arange(5).repeat_interleave(4).repeat(10)
    return labels, groups


@pytest.mark.parametrize("k_shot", [1, 2, 5])
@pytest.mark.parametrize("data", [recordings, speakers])
def test_no_group_is_ever_on_both_sides(data, k_shot):
    labels, groups = data()
    n_way = 5 if (data is speakers or k_shot < 5) else 3
    episodes = draw_episodes(labels, n_way=n_way, k_shot=k_shot, n_episodes=300, groups=groups)
    assert_groups_apart(episodes, groups)
    check_protocol(labels, episodes, n_way, k_shot)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k_shot=st.integers(1, 3), n_groups=st.integers(8, 60))
def test_no_group_is_on_both_sides_in_random_data(seed, k_shot, n_groups):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 6, (160,), generator=generator)
    groups = torch.randint(n_groups, (160,), generator=generator)
    episodes = draw_episodes(
        labels, n_way=3, k_shot=k_shot, n_query=5, n_episodes=20, seed=seed, groups=groups
    )
    assert_groups_apart(episodes, groups)
    check_protocol(labels, episodes, 3, k_shot)


def test_a_class_from_one_group_is_never_drawn():
    labels, groups = recordings()
    episodes = draw_episodes(labels, n_episodes=300, groups=groups)
    drawn = set(labels[episodes.support].flatten().tolist())
    assert drawn == {0, 1, 2, 3, 4, 6}


def test_leaking_groups_score_higher_than_parted_ones():
    """Features that know the recording and nothing of the class: chance, once recordings are parted."""
    labels = balanced(40, 12)
    groups = torch.arange(480) // 3
    features = clustered(groups, 40, noise=0.01)
    leaky = few_shot_accuracy(features, labels, n_episodes=200)
    honest = few_shot_accuracy(features, labels, n_episodes=200, groups=groups)
    assert leaky.mean > honest.mean + 8
    assert honest.mean == pytest.approx(20, abs=5)


def test_one_group_a_clip_is_like_no_groups():
    labels = balanced(6, 20)
    features = clustered(labels, 5, 1.0)
    plain = few_shot_accuracy(features, labels, n_episodes=400)
    grouped = few_shot_accuracy(features, labels, n_episodes=400, groups=torch.arange(120))
    assert grouped.n_query == plain.n_query == 15
    assert abs(plain.mean - grouped.mean) < 2 * (plain.ci95 + grouped.ci95)


def test_every_speaker_is_asked_and_shown():
    labels, groups = speakers()
    episodes = draw_episodes(labels, n_episodes=500, groups=groups)
    shown = torch.bincount(groups[episodes.support].flatten(), minlength=5)
    asked = torch.bincount(groups[episodes.query[episodes.query >= 0]], minlength=5)
    for counts in (shown, asked):
        assert (counts / counts.float().mean() - 1).abs().max() < 0.2


# --- invariances -----------------------------------------------------------------------------


def test_centring_cannot_change_a_decision():
    labels = balanced(8, 12)
    features = (clustered(labels, 6, 1.0) / 4).round(decimals=2)
    episodes = draw_episodes(labels, n_episodes=100, k_shot=4)
    for offset in (0.0, 1.0, 300.0, 20_000.0):
        expected = np.array(naive_scores(features + offset, episodes))
        # a tie that rounding breaks may fall either way
        scores = score_episodes(features + offset, episodes).numpy()
        assert np.abs(scores - expected).mean() < 2e-3, offset
        assert expected.mean() > 0.3


def test_the_scale_of_the_features_cannot_change_a_decision():
    labels = balanced(8, 12)
    features, episodes = clustered(labels, 6, 1.0), draw_episodes(labels, n_episodes=50)
    for scale in (2.0**-10, 2.0**10):
        assert torch.equal(
            score_episodes(scale * features, episodes), score_episodes(features, episodes)
        )


@pytest.mark.parametrize(
    ("words", "kind"),
    [(0, list), (0, np.array), (0, torch.tensor), (1, list), (1, np.array), (1, objects)],
)
def test_labels_and_groups_are_numbers_or_strings(words, kind):
    labels, groups = (values.tolist() for values in speakers())
    labels[::7] = [-1] * len(labels[::7])
    expected = draw_episodes(torch.tensor(labels), n_episodes=30, groups=torch.tensor(groups))
    if words:
        labels = ["" if label < 0 else f"digit {label}" for label in labels]
        groups = [f"speaker {group}" for group in groups]
    labels, groups = kind(labels), kind(groups)
    drawn = draw_episodes(labels, n_episodes=30, groups=groups)
    assert torch.equal(drawn.support, expected.support) and torch.equal(drawn.query, expected.query)
    features = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0))
    scores = few_shot_accuracy(features, labels, n_episodes=30, groups=groups).per_episode / 100
    np.testing.assert_allclose(scores, naive_scores(features, expected), atol=1e-9)


def test_the_same_arguments_give_the_same_episodes():
    labels, groups = speakers()
    for options in ({}, {"groups": groups}):
        first, again, other = (
            draw_episodes(labels, n_episodes=30, seed=seed, **options) for seed in (3, 3, 4)
        )
        assert torch.equal(first.support, again.support) and torch.equal(first.query, again.query)
        assert not torch.equal(first.support, other.support)
        assert len(first) == 30


def test_nothing_draws_from_global_state():
    before, before_np = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    labels = balanced(6, 10)
    few_shot_accuracy(clustered(labels, 3, 1.0), labels, n_episodes=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (np.random.get_state()[1] == before_np).all()  # noqa: NPY002


# --- errors ----------------------------------------------------------------------------------


def test_what_cannot_be_drawn_is_refused_with_the_counts():
    labels = balanced(6, 10)
    one_clip = torch.cat([balanced(4, 10), torch.tensor([4])])
    for of, options, message in (
        (balanced(4, 10), {}, r"needs 5 classes.*only 4 of 4"),
        (one_clip, {}, r"needs 5 classes with more than 1 clips.*only 4 of 5"),
        (labels, {"k_shot": 10}, r"5-way 10-shot.*only 0 of 6"),
        (torch.full((9,), -1), {}, r"only 0 of 0"),
        (labels, {"groups": labels}, r"from two or more groups; only 0 of 6"),
        (labels, {"groups": labels[:-1]}, r"60 labels but 59 groups"),
        *((labels, {name: 0}, "n_way >= 2") for name in ("n_way", "k_shot", "n_query")),
        (labels, {"n_episodes": 0}, "n_way >= 2"),
        (labels, {"n_way": 1}, "n_way >= 2"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_episodes(of, **options)


def test_groups_that_cannot_be_parted_are_refused():
    """Three classes in a ring, each sharing a group with the next: an odd ring has no two colours."""
    labels, groups = balanced(3, 2), torch.tensor([0, 1, 1, 2, 2, 0])
    draw_episodes(labels, n_way=2, n_query=1, n_episodes=20, groups=groups)
    with pytest.raises(ValueError, match=r"could not be parted.*lower n_way"):
        draw_episodes(labels, n_way=3, n_query=1, n_episodes=1, groups=groups)


def test_features_that_are_broken_are_refused():
    labels = balanced(6, 10)
    broken = torch.ones(60, 3)
    broken[4, 1] = math.nan
    with pytest.raises(ValueError, match="1 values not finite"):
        few_shot_accuracy(broken, labels)
    with pytest.raises(ValueError, match="59 features but 60 labels"):
        few_shot_accuracy(torch.ones(59, 3), labels)
    with pytest.raises(ValueError, match=r"\(clips, dim\), got \(60,\)"):
        few_shot_accuracy(torch.ones(60), labels)
