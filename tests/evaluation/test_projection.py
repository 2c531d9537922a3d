"""t-SNE is repeatable and fits small data; the numbers beside it equal a plain recomputation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.held_out import split_heard
from audiossl_lite.data.sounds import synthetic_clips
from audiossl_lite.evaluation.projection import (
    COLUMNS,
    choose_clips,
    knn_accuracy,
    knn_hits,
    project,
    shared_neighbours,
    silhouette,
    silhouettes,
    tsne,
)
from audiossl_lite.experiments.settings.presets import preset
from tests.evaluation.toys import clouds, silent_clips

QUICK = preset(
    "tsne", "lite", {"iterations": 400, "k": 3, "perplexities": (5.0, 15.0), "seeds": (0, 1)}
)


def test_the_same_seed_gives_the_same_picture():
    features, state = clouds(6, spread=1.0).inputs, torch.get_rng_state()
    a, b = (tsne(features, perplexity=5.0, seed=3, iterations=300) for _ in range(2))
    assert a.points.shape == (24, 2) and torch.equal(a.points, b.points)
    assert a.divergence == b.divergence > 0 and torch.equal(torch.get_rng_state(), state)
    for changes in ({"perplexity": 2.0}, {"seed": 4}, {"init": "pca"}):
        other = tsne(features, **{"perplexity": 5.0, "seed": 3, "iterations": 300} | changes)
        assert not torch.equal(a.points, other.points), changes
    c, d = (tsne(features, perplexity=5.0, seed=s, iterations=300, init="pca") for s in (0, 1))
    assert torch.equal(c.points, d.points), "from principal components there is nothing to draw"


@pytest.mark.parametrize("n", [4, 5, 12])
def test_the_perplexity_is_lowered_for_small_data(n):
    features = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    plane = tsne(features, perplexity=30.0, iterations=300)
    assert plane.perplexity == pytest.approx((n - 1) / 3) and plane.points.isfinite().all()
    assert tsne(features, perplexity=1.0, iterations=300).perplexity == 1.0


def naive_knn(points, labels, groups, k) -> float:
    """Clip by clip: sort all others by distance, count votes, the nearest decides between equals."""
    right = 0
    for i in range(len(points)):
        others = [j for j in range(len(points)) if groups[j] != groups[i]]
        others.sort(key=lambda j: float((points[i] - points[j]).norm()))
        asked = [int(labels[j]) for j in others[:k]]
        counts = {c: asked.count(c) for c in asked}
        best = max(counts.values())
        winner = next(c for c in asked if counts[c] == best)
        right += winner == int(labels[i])
    return right / len(points)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(9, 24), k=st.integers(1, 6), seed=st.integers(0, 999), size=st.integers(1, 3))
def test_knn_accuracy_equals_counting_clip_by_clip(n, k, seed, size):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 3, generator=generator).double()
    labels = torch.randint(4, (n,), generator=generator) * 7
    groups = torch.arange(n) // size
    ours = knn_accuracy(points, labels, k=k, groups=groups)
    assert ours == pytest.approx(naive_knn(points.float(), labels, groups.tolist(), k))


def test_one_neighbour_equals_scikit_learn_leave_one_out():
    data = clouds(8, spread=3.0)
    right = 0
    for i in range(len(data)):
        rest = [j for j in range(len(data)) if j != i]
        model = KNeighborsClassifier(1).fit(data.inputs[rest], data.targets[rest])
        right += int(model.predict(data.inputs[i : i + 1])[0] == data.targets[i])
    assert knn_accuracy(data.inputs, data.targets, k=1) == pytest.approx(right / len(data))


def test_a_group_does_not_vote_for_its_own():
    """Pairs of clips from one recording, whose class nobody else nearby has: grouped, nothing is left."""
    places = torch.arange(10.0).repeat_interleave(2)[:, None] * torch.ones(2)
    labels = (torch.arange(20) // 2) % 2
    groups = torch.arange(20) // 2
    assert knn_accuracy(places, labels, k=1) == 1.0
    assert knn_accuracy(places, labels, k=1, groups=groups) == 0.0


def test_knn_does_not_lose_its_digits_to_a_common_offset():
    data = clouds(8)
    moved = data.inputs.double() + 1e4
    assert knn_accuracy(moved, data.targets) == knn_accuracy(data.inputs, data.targets) == 1.0


def test_the_silhouette_tells_clusters_from_noise():
    data = clouds(8)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert silhouette(data.inputs, data.targets) > 0.7
    assert silhouette(data.inputs, data.targets[order]) < 0.1


def test_hits_and_silhouettes_of_clips_average_to_the_numbers_of_the_set():
    data = clouds(8, spread=3.0)
    hits = knn_hits(data.inputs, data.targets, k=3)
    assert hits.dtype == torch.bool and hits.shape == (32,) and 0 < hits.double().mean() < 1
    assert knn_accuracy(data.inputs, data.targets, k=3) == float(hits.double().mean())
    lone = silhouettes(torch.tensor([[0.0], [1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1, 1]))
    assert lone.tolist() == pytest.approx([1 - 1 / 4, 1 - 1 / 3, 1 - 2 / 2.5, 1 - 2 / 4.5])


def test_shared_neighbours_count_what_two_sets_agree_on():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 5, generator=generator)
    assert shared_neighbours(points, 3 * points + 1, 4) == 1.0
    other = shared_neighbours(points, torch.randn(60, 2, generator=generator), 4)
    assert other < 0.2, "chance is 4 of 59"
    line = torch.tensor([[0.0], [1.0], [2.1], [3.3]])
    moved = torch.tensor([[0.0], [2.0], [2.2], [3.3]])
    assert shared_neighbours(line, moved, 1) == 0.75, "the second turns to the third"
    for a, b, k in ((line, moved[:3], 1), (line, moved, 4), (line, moved, 0)):
        with pytest.raises(ValueError, match="equally many points"):
            shared_neighbours(a, b, k)


def labelled_clips(names: tuple[str, ...], per_class: int = 6, per_group: int = 2) -> Clips:
    label = torch.arange(len(names)).repeat_interleave(per_class)
    groups = torch.arange(len(label)) // per_group
    return silent_clips({"event": label}, {"event": names}, {"event": groups})


ESC = ("dog", "rain", "sea_waves", "siren", "wind", "clock_tick", "crow", "sneezing", "cat", "pig")


def test_the_named_classes_are_taken_where_they_are():
    found, never = choose_clips(labelled_clips(ESC), preset("tsne", "workshop"))
    kinds = [found.class_names["event"][i] for i in found.labels["event"].tolist()]
    assert set(kinds) == set(ESC[:8]) and len(found) == 48
    assert {k for k, n in zip(kinds, never.tolist()) if n} == {"rain", "siren", "crow", "sneezing"}
    assert len(kinds) == len(never) and found.names == tuple(f"clip {i}" for i in range(48))


def test_others_fill_the_places_half_of_them_never_heard():
    clips = synthetic_clips("event", clips_per_class=3, duration_s=0.5)
    found, never = choose_clips(clips, preset("tsne", "lite"))
    names = found.class_names["event"]
    kinds = {names[i] for i in found.labels["event"].tolist()}
    assert {"rain", "wind"} <= kinds and len(kinds) == 8 and len(found) == 24
    _, held = split_heard(clips)
    assert {found.names[i] for i in never.nonzero().flatten().tolist()} < {
        clips.names[i] for i in held.tolist()
    }
    assert int(never.sum()) == 12
    few, never = choose_clips(labelled_clips(("a", "b", "c")), preset("tsne", "lite"))
    assert len(few) == 18 and int(never.sum()) == 6


def test_clips_come_from_as_many_recordings_as_there_are():
    found, _ = choose_clips(
        labelled_clips(("a", "b"), 6, 2), preset("tsne", "lite", {"clips_per_class": 3})
    )
    assert found.names == tuple(f"clip {i}" for i in (0, 2, 4, 6, 8, 10))
    single = labelled_clips(("a", "b", "c"), 6, 6)
    with pytest.raises(ValueError, match="task 'event' has 0 of 3"):
        choose_clips(single, QUICK)


def test_fewer_neighbours_are_asked_where_there_are_fewer():
    data = clouds(3)
    groups = torch.arange(12) // 3  # each cloud a recording: nine others to ask
    assert project(data.inputs, data.targets, dataclasses.replace(QUICK, k=30)).k == 11
    report = project(data.inputs, data.targets, dataclasses.replace(QUICK, k=30), groups=groups)
    assert report.k == 9 and report.knn_accuracy == 0.0


def test_a_report_has_every_seed_and_perplexity_and_the_features_own_numbers():
    data = clouds(10)
    report = project(data.inputs, data.targets, QUICK)
    pairs = [(row["perplexity"], row["seed"]) for row in report.rows]
    assert pairs == [(p, s) for p in (5.0, 13.0) for s in (0, 1)], "15 is lowered to 39 / 3"
    assert report.k == 3 and tuple(report.by_clip) == COLUMNS
    means = [float(values.mean()) / 100 for values in report.by_clip.values()]
    by_plane = [[row[c] for row in report.rows] for c in ("knn_accuracy", "silhouette")]
    expected = [report.knn_accuracy, np.mean(by_plane[0]), report.silhouette, np.mean(by_plane[1])]
    assert means == pytest.approx(expected) and all(
        v.shape == (40,) for v in report.by_clip.values()
    )
    assert report.knn_accuracy == 1.0 and report.silhouette > 0.7
    for plane, row in zip(report.planes, report.rows, strict=True):
        assert (plane.perplexity, plane.seed) == (row["perplexity"], row["seed"])
        assert row["knn_accuracy"] == knn_accuracy(plane.points, data.targets, k=3) >= 0.9
        assert row["silhouette"] == pytest.approx(silhouette(plane.points, data.targets))
        assert row["shared"] == shared_neighbours(data.inputs, plane.points, 3)
    once = project(data.inputs, data.targets, dataclasses.replace(QUICK, perplexities=(20.0, 30.0)))
    assert len(once.rows) == 2, "both are lowered to the same perplexity"


def test_bad_input_is_refused_with_a_reason():
    data, broken = clouds(8), clouds(8).inputs.clone()
    broken[3, 1] = torch.inf
    for call, message in (
        (lambda x, y: tsne(broken), r"features of clips \[3\] hold NaN or infinite"),
        (lambda x, y: knn_accuracy(broken, y), r"features of clips \[3\] hold NaN or infinite"),
        (lambda x, y: silhouette(x, torch.zeros(32)), "Number of labels is"),
        (lambda x, y: silhouette(x, torch.arange(32)), "Number of labels is"),
        (lambda x, y: tsne(x[:1]), "at least four clips, got 1"),
        (lambda x, y: tsne(torch.ones(8, 3)), "clips that differ"),
        (lambda x, y: tsne(x[:, :1]), "two dimensions"),
        (lambda x, y: tsne(x, perplexity=0.0), "'perplexity' parameter"),
        (lambda x, y: tsne(x, init="spectral"), "'init' parameter"),
        (lambda x, y: knn_accuracy(x, y, k=32), r"clips \[0, 1.*have fewer than 32 clips"),
        (lambda x, y: knn_accuracy(x, y, k=0), "k >= 1"),
        (lambda x, y: knn_accuracy(x, y[:3]), "as many labels"),
        (lambda x, y: knn_accuracy(x[0], y), r"\(clips, dim\), got \(8,\)"),
        (lambda x, y: knn_accuracy(x, y, groups=y.clamp(max=0)), "of other groups to ask"),
    ):
        with pytest.raises(ValueError, match=message):
            call(data.inputs, data.targets)


def test_labels_and_groups_may_be_strings():
    points = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    labels, groups = torch.arange(24) % 3, torch.arange(24) // 2
    words = [f"class {n}" for n in labels.tolist()]
    takes = [f"take {n:02d}" for n in groups.tolist()]
    assert silhouette(points, words) == silhouette(points, labels)
    expected = knn_accuracy(points, labels, groups=groups)
    assert knn_accuracy(points, words, groups=takes) == expected
    assert knn_accuracy(points, words) == knn_accuracy(points, labels)
    plain, named = (
        project(points, of, QUICK, groups=by) for of, by in ((labels, groups), (words, takes))
    )
    assert plain.rows == named.rows and plain.k == named.k
