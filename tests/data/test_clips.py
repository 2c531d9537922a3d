"""The container refuses what is inconsistent, and says what it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from audiossl_lite.data.clips import Clips, Skip, tell_left_out


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


def test_what_was_left_out_is_told_once_without_moving_a_terminal(recwarn):
    clips = replace(make_clips(), skipped=(Skip("a\x1b[2J.wav", "unreadable"),), cut_off=("b\n",))
    tell_left_out("my/sounds", clips)
    (told,) = recwarn
    assert str(told.message).splitlines() == [
        "my/sounds: 1 left out, 1 cut off", "  1 x unreadable (for example a\\x1b[2J.wav)",
        "  has lost its end: b\\n",
    ]  # fmt: skip
    tell_left_out("my/sounds", make_clips())
    assert len(recwarn) == 1
