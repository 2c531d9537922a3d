"""The container refuses what is inconsistent, and its splits do not leak."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from audiossl_lite.data.clips import Clips, Skip
from audiossl_lite.data.splits import split_classes, split_clips


def make_clips(n_classes: int = 4, per_class: int = 8, group_size: int = 2) -> Clips:
    """Clips whose groups lie inside one class, `group_size` clips each."""
    n_clips = n_classes * per_class
    generator = torch.Generator().manual_seed(0)
    return Clips(
        waveforms=torch.rand(n_clips, 50, generator=generator),
        lengths=torch.full((n_clips,), 50),
        labels={"event": torch.arange(n_clips) // per_class},
        class_names={"event": tuple(f"class {k}" for k in range(n_classes))},
        groups={"event": torch.arange(n_clips) // group_size},
        names=tuple(f"clip {i}" for i in range(n_clips)),
        splits=tuple("ab"[i % 2] for i in range(n_clips)),
    )


def test_an_inconsistent_field_is_named():
    for change, word in (
        ({"waveforms": torch.zeros(3, 50)}, "3 waveforms for 32 names"),
        ({"waveforms": torch.zeros(32, 50).double()}, "float32"),
        ({"lengths": torch.full((32,), 51)}, "lengths"),
        ({"lengths": torch.full((32,), 0)}, "lengths"),
        ({"labels": {"event": torch.full((32,), 4)}}, "labels"),
        ({"labels": {"event": torch.zeros(32)}}, "long"),
        ({"labels": {}}, "at least one task"),
        ({"labels": {"other": torch.zeros(32).long()}}, "tasks differ"),
        ({"groups": {"other": torch.zeros(32).long()}}, "unknown task"),
        ({"groups": {"event": torch.full((32,), -1)}}, "groups"),
        ({"names": ("same",) * 32}, "unique"),
        ({"splits": ("a",)}, "splits"),
    ):
        with pytest.raises(ValueError, match=word):
            replace(make_clips(), **change)


def test_subset_by_index_and_by_mask():
    clips = make_clips()
    part = clips.subset(torch.tensor([5, 0]))
    assert part.names == ("clip 5", "clip 0")
    assert torch.equal(part.waveforms, clips.waveforms[[5, 0]])
    assert part.splits == ("b", "a")
    assert part.class_names == clips.class_names
    mask = clips.labels["event"] == 2
    assert clips.subset(mask).names == tuple(f"clip {i}" for i in range(16, 24))


def test_fingerprint_changes_with_audio_labels_and_names_only():
    clips = make_clips()
    assert clips.fingerprint() == make_clips().fingerprint()
    assert len(clips.fingerprint()) == 12
    louder = clips.waveforms.clone()
    louder[3, 7] += 1e-3
    changed = [
        replace(clips, waveforms=louder),
        replace(clips, labels={"event": clips.labels["event"].flip(0)}),
        replace(clips, names=tuple(f"other {i}" for i in range(32))),
    ]
    assert len({clips.fingerprint(), *(one.fingerprint() for one in changed)}) == 4
    assert replace(clips, source="elsewhere").fingerprint() == clips.fingerprint()


def test_report_counts_clips_and_skips():
    skipped = (Skip("x.wav", "silent"), Skip("y.wav", "silent"), Skip("z.wav", "empty"))
    text = replace(make_clips(), skipped=skipped, source="some data").report()
    parts = ("some data", "32 clips", "4 classes, 8 to 8", "16 groups", "2 x silent", "1 x empty")
    assert [words for words in parts if words not in text] == []


@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_split_keeps_groups_whole_and_every_class_on_both_sides(group_size):
    clips = make_clips(group_size=group_size)
    group = clips.groups["event"]
    for seed in range(4):
        train, test = split_clips(clips, test_fraction=0.25, seed=seed)
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(32))
        assert not set(group[train].tolist()) & set(group[test].tolist())
        counts = torch.bincount(clips.labels["event"][test], minlength=4)
        assert counts.tolist() == [max(2, group_size)] * 4


def test_split_moves_a_group_shared_by_classes_as_a_whole():
    clips = make_clips(group_size=1)
    speakers = torch.arange(32) % 8  # every group has one clip of every class
    clips = replace(clips, groups={"event": speakers})
    train, test = split_clips(clips, test_fraction=0.25, seed=1)
    assert len(test) == 8
    assert not set(speakers[train].tolist()) & set(speakers[test].tolist())


def test_a_class_with_one_group_stays_in_training():
    clips = make_clips()
    group = clips.groups["event"].clone()
    group[:8] = 99
    train, test = split_clips(replace(clips, groups={"event": group}), seed=0)
    counts = torch.bincount(clips.labels["event"][test], minlength=4)
    assert counts[0] == 0
    assert bool((counts[1:] > 0).all())
    assert len(train) + len(test) == 32


def test_unlabelled_clips_are_in_neither_part():
    clips = make_clips()
    label = clips.labels["event"].clone()
    label[:3] = -1
    clips = replace(clips, labels={"event": label})
    for train, test in (split_clips(clips), split_classes(clips)):
        assert not {0, 1, 2} & {*train.tolist(), *test.tolist()}
        assert len(train) + len(test) == 29


@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.99])
def test_split_classes_shares_no_class(fraction):
    clips = make_clips()
    train, test = split_classes(clips, test_fraction=fraction, seed=3)
    label = clips.labels["event"]
    assert not set(label[train].tolist()) & set(label[test].tolist())
    assert len(train) > 0
    assert len(test) > 0
    assert len(train) + len(test) == 32


def test_splits_depend_on_the_seed_and_refuse_nonsense():
    clips = make_clips()
    assert torch.equal(split_clips(clips, seed=5)[1], split_clips(clips, seed=5)[1])
    assert any(
        not torch.equal(split_clips(clips, seed=s)[1], split_clips(clips)[1]) for s in (1, 2)
    )
    with pytest.raises(ValueError, match="test_fraction"):
        split_clips(clips, test_fraction=1.0)
    with pytest.raises(ValueError, match="unknown task"):
        split_classes(clips, task="speaker")
    with pytest.raises(ValueError, match="needs two"):
        split_classes(make_clips(n_classes=1))
