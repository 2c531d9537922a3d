"""Labelled inputs and their division: nothing straddles, no class is lost, every error names its clip or class."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiossl_lite.evaluation import (
    Labelled,
    check_folds,
    fold_parts,
    hold_out,
    labelled,
    make_folds,
)
from audiossl_lite.evaluation.labelled import check_learnable
from tests.data.test_clips import make_clips
from tests.evaluation.toys import clouds, several


@settings(deadline=None, max_examples=40)
@given(
    n_classes=st.integers(2, 5),
    per_class=st.integers(4, 12),
    size=st.integers(1, 3),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 50),
)
def test_folds_cover_every_clip_and_part_no_group(n_classes, per_class, size, n_folds, seed):
    targets = torch.arange(n_classes).repeat_interleave(per_class)
    groups = torch.arange(len(targets)) // size
    n_folds = min(n_folds, len(groups.unique()))
    if min(len(groups[targets == c].unique()) for c in range(n_classes)) < 2:
        with pytest.raises(ValueError, match="have one group each"):
            make_folds(targets, n_folds, groups=groups)
        return
    folds = make_folds(targets, n_folds, groups=groups, seed=seed)
    assert set(folds.tolist()) == set(range(n_folds))
    check_folds(folds, groups)
    assert torch.equal(folds, make_folds(targets, n_folds, groups=groups, seed=seed))
    if size == 1:  # every clip its own group: no fold has two more clips of a class than another
        table = torch.zeros(n_folds, n_classes).index_put_(
            (folds, targets), torch.ones(len(folds)), accumulate=True
        )
        assert (table.amax(0) - table.amin(0)).max() <= 1
        assert folds.bincount().max() - folds.bincount().min() <= n_classes
    for c in range(n_classes):
        assert len(folds[targets == c].unique()) >= 2, "the rest can always learn it"


def test_folds_of_a_multi_label_task_spread_its_classes():
    data = several(80)
    folds = make_folds(data.targets, 4, groups=torch.arange(80) // 2)
    table = torch.stack([data.targets[folds == f].sum(0) for f in range(4)])
    assert (table > 0).all() and (table.amax(0) / table.amin(0)).max() < 2


def test_every_fold_is_the_test_data_once_and_nothing_is_in_two_parts():
    data = dataclasses.replace(clouds(6), names=tuple(f"clip {i}" for i in range(24)))
    folds = make_folds(data.targets, 4)
    tested = []
    for fold, train, validation, test in fold_parts(data, folds):
        parts = [set(part.names) for part in (train, validation, test)]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 24
        assert torch.equal(test.inputs, data.inputs[folds == fold])
        tested += test.names
    assert sorted(tested) == sorted(data.names)
    grouped = dataclasses.replace(data, groups=torch.arange(24))
    for options in ((grouped, folds), (data, folds, "test")):
        for _, train, validation, test in fold_parts(
            *options[:2], select_on=(*options, "validation")[2]
        ):
            assert validation is None and len(train) + len(test) == 24


def test_a_class_with_one_group_cannot_be_cross_validated():
    targets, groups = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 2, 2, 3, 4])
    with pytest.raises(ValueError, match=r"classes \[1\] have one group each"):
        make_folds(targets, 2, groups=groups)
    # every two of three groups share a class: two folds always hold one class on one side only
    triangle = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    with pytest.raises(ValueError, match=r"no order of 3 groups spread classes \[\d\] over two"):
        make_folds(triangle, 2)
    assert sorted(make_folds(triangle, 3).tolist()) == [0, 1, 2]
    with pytest.raises(ValueError, match="6 groups cannot make 7 folds"):
        make_folds(targets, 7)
    with pytest.raises(ValueError, match="one target and one group per clip"):
        make_folds(targets, 2, groups=groups[:3])


def test_classes_and_groups_may_be_strings():
    targets, groups = torch.arange(24) % 3, torch.arange(24) // 2
    words = [f"class {t}" for t in targets.tolist()]
    names = [f"recording {g:02d}" for g in groups.tolist()]
    folds = make_folds(words, 4, groups=names, seed=3)
    assert torch.equal(folds, make_folds(targets, 4, groups=groups, seed=3))
    check_folds(folds, names)
    with pytest.raises(ValueError, match=r"groups \['recording 00'\] lie in more than one fold"):
        check_folds([int(folds[0]) ^ 1, *folds[1:].tolist()], names)
    with pytest.raises(ValueError, match=r"classes \['b'\] have one group each"):
        make_folds(["a", "a", "b", "b"], 2, groups=["x", "y", "z", "z"])
    data = dataclasses.replace(clouds(6), groups=names)
    train, held = (data.subset(index) for index in hold_out(data, 0.25))
    assert not set(train.groups.tolist()) & set(held.groups.tolist())
    assert sorted(train.joined(held).groups.tolist()) == sorted(names)
    with pytest.raises(ValueError, match=r"groups \['recording 00'.* lie in the training"):
        check_learnable(data, test=data)
    for part in (dataclasses.replace(data, groups=groups), data):
        parts = [p for _, *parts in fold_parts(part, folds) for p in parts if p is not None]
        assert [len(p) for p in parts] == [18, 6] * 4


def test_a_group_in_two_folds_is_found():
    check_folds(torch.tensor([0, 1]), None)
    with pytest.raises(ValueError, match=r"groups \[7\] lie in more than one fold"):
        check_folds(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 7, 7, 6]))


@settings(deadline=None, max_examples=60)
@given(
    per_class=st.integers(3, 20),
    size=st.integers(1, 4),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 99),
    multi=st.booleans(),
)
def test_what_is_held_out_leaks_nothing_and_takes_no_class_away(
    per_class, size, share, seed, multi
):
    data = several(4 * per_class) if multi else clouds(per_class)
    data = dataclasses.replace(data, groups=torch.arange(len(data)) // size)
    try:
        train, held = hold_out(data, share, seed=seed)
    except ValueError as error:
        assert "can be held out" in str(error)
        return
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(len(data)))
    assert not set(data.groups[train].tolist()) & set(data.groups[held].tolist())
    check_learnable(data.subset(train), validation=data.subset(held))
    assert 0 < len(held) <= share * len(data) + size


def test_the_share_held_out_is_spread_over_the_classes():
    data = clouds(20)
    train, held = hold_out(data, 0.25)
    assert data.targets[held].bincount().tolist() == [5, 5, 5, 5] and len(train) == 60
    assert not torch.equal(held, hold_out(data, 0.25, seed=1)[1])
    rare = hold_out(clouds(4), 0.1)[1]
    assert len(rare) == 2, "a tenth of sixteen clips, though no class has ten"
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        hold_out(data, 1.0)
    with pytest.raises(ValueError, match="no clip of 4 can be held out"):
        hold_out(clouds(1), 0.5)


def test_clips_become_labelled_inputs():
    clips = make_clips()
    label = clips.labels["event"].clone()
    label[3], label[label == 2] = -1, -1
    clips = dataclasses.replace(clips, labels={"event": label})
    data = labelled(clips, clips.waveforms, lengths=clips.lengths)
    assert len(data) == 23 and data.class_names == ("class 0", "class 1", "class 3")
    assert data.targets.bincount().tolist() == [7, 8, 8] and data.metric == "accuracy"
    assert "clip 3" not in data.names and data.names[-1] == "clip 31"
    assert torch.equal(data.groups, clips.groups["event"][label >= 0])
    torch.testing.assert_close(data.shares().sum(1), torch.ones(23))
    part = data.subset([2, 0])
    assert part.names == ("clip 2", "clip 0") and len(part.lengths) == len(part.groups) == 2
    assert data.subset(data.targets == 2).targets.unique().tolist() == [2]
    with pytest.raises(ValueError, match="unknown task 'word'; these clips have event"):
        labelled(clips, clips.waveforms, task="word")
    with pytest.raises(ValueError, match="3 inputs for 32 clips"):
        labelled(clips, torch.zeros(3, 2))


def build(**changes) -> Labelled:
    return Labelled(
        **{"inputs": torch.zeros(4, 3), "targets": torch.tensor([0, 1, 0, 1]),
           "class_names": ("a", "b")} | changes
    )  # fmt: skip


def test_inconsistent_data_are_refused():
    broken = torch.zeros(4, 3)
    broken[2, 1] = torch.nan
    for changes, message in (
        ({"inputs": broken}, r"inputs of clips \[2\] hold NaN"),
        ({"inputs": broken, "names": tuple("wxyz")}, r"inputs of clips \['y'\] hold NaN"),
        ({"inputs": torch.zeros(4)}, r"inputs are \(clips, ...\)"),
        ({"inputs": torch.zeros(4, 3).long()}, "of floats"),
        ({"inputs": torch.zeros(0, 3), "targets": torch.zeros(0).long()}, "no clips"),
        ({"class_names": ("a",)}, "two classes or more"),
        ({"targets": torch.tensor([0, 1, 2, -1])}, r"clips \[2, 3\] are outside 0 to 1"),
        ({"targets": torch.zeros(4)}, r"\(4,\) long"),
        ({"targets": torch.zeros(4, 3)}, r"\(4, 2\) of 0 and 1, got \(4, 3\)"),
        ({"targets": torch.tensor([[0, 1], [1, 0], [0.5, 0], [1, 1]])}, r"\[2\] are not 0 or 1"),
        ({"groups": torch.zeros(3)}, "4 clips but 3 groups"),
        ({"names": ("x",)}, "4 clips but 1 names"),
    ):
        with pytest.raises(ValueError, match=message):
            build(**changes)


def test_data_of_another_task_cannot_be_scored():
    other = build(class_names=("a", "c"))
    with pytest.raises(ValueError, match="at least two clips, got 1"):
        check_learnable(build().subset([0]))
    with pytest.raises(ValueError, match="not of the same task"):
        check_learnable(build(), test=other)
