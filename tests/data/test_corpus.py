"""The corpus: which clips training hears, what is held out, and tasks whose groups stay apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.corpus import (
    HELD_SHARE,
    Sound,
    embedded_sounds,
    held_names,
    held_out,
    list_sounds,
    tasks,
)
from audiossl_lite.data.held_out import HELD_OUT
from audiossl_lite.data.layouts import list_folder
from audiossl_lite.data.sounds.synthetic import POOLS, synthetic_clips
from tests.data.sounds import put
from tests.data.test_datasets import write_csv

ACTORS = ["Actor_03", "Actor_05", "Actor_12", "Actor_14", "Actor_17", "Actor_20"]


def write_manifest(path: Path, rows: list[dict[str, str]]) -> None:
    write_csv(path, rows[0], [row.values() for row in rows])


def write_esc50(root: Path) -> None:
    classes = ["dog", "rain", "siren", "clock_tick"]
    rows = []
    for target, category in enumerate(classes):
        for source in range(3):
            name = f"1-{100 + 10 * target + source}-A-{target}.wav"
            put(root / "audio" / name)
            row = {"filename": name, "fold": "1", "target": str(target), "category": category}
            rows.append(row | {"src_file": str(100 + 10 * target + source)})
    write_manifest(root / "meta" / "esc50.csv", rows)


@pytest.fixture
def root(tmp_path) -> Path:
    """ESC-50, notes, Arabic words, kitchen sounds and a folder without a table, a few clips each."""
    write_esc50(tmp_path / "ESC-50")
    notes = [
        {"path": f"{family}/{i}-{pitch}.ogg", "label": family, "group": f"{family}-{i}", "pitch": str(pitch)}
        for family in ("bass", "brass")
        for i in range(8)
        for pitch in (40, 41)
    ]  # fmt: skip
    write_manifest(tmp_path / "FluidR3-notes" / "manifest.csv", notes)
    words = [
        {"path": f"{word}/{speaker}.ogg", "label": word, "group": f"{speaker:08d}"}
        for word in ("left", "right")
        for speaker in range(8)
    ]
    write_manifest(tmp_path / "ArabicSpeechCommands" / "manifest.csv", words)
    kitchen = [
        {"path": f"{label}/{i}.ogg", "label": label, "group": f"freesound-{label}-{i}"}
        for label in ("boiling_water", "book", "peel")
        for i in range(8)
    ]
    write_manifest(tmp_path / "Kitchen20" / "manifest.csv", kitchen)
    put(tmp_path / "street" / "deep" / "a.wav")
    return tmp_path


def test_every_set_is_listed_under_its_name(root):
    counts = Counter(sound.source for sound in list_sounds(root))
    assert counts == {
        "ESC-50": 12, "FluidR3-notes": 32, "ArabicSpeechCommands": 16, "Kitchen20": 24, "street": 1,
    }  # fmt: skip


def test_training_hears_nothing_that_is_held_out(root):
    sounds = list_sounds(root)
    parts = [
        [s for s, h in zip(sounds, held_out(sounds)) if h == is_held] for is_held in (False, True)
    ]
    heard = parts[0]
    for source in ("FluidR3-notes", "ArabicSpeechCommands"):  # instruments and speakers are whole
        groups = [{s.value("group") for s in part if s.source == source} for part in parts]
        assert not groups[0] & groups[1] and len(groups[1]) in (2, 4)
    assert {s.value("label") for s in heard if s.source == "ESC-50"} == {"dog", "clock_tick"}
    assert not HELD_OUT["ESC-50"] & {s.value("label") for s in heard}
    assert "boiling_water" not in {s.value("label") for s in heard}
    for family in ("bass", "brass"):  # two of eight instruments of each family
        assert len({s.value("group") for s in heard if s.value("label") == family}) == 6
    assert len({s.value("group") for s in heard if s.source == "ArabicSpeechCommands"}) == 6
    assert any(s.source == "street" for s in heard)
    for task in tasks(sounds):
        clips = {id(sounds[i]) for i in task.clips[task.never].tolist()}
        assert not clips & {id(s) for s in heard}, task.name


def test_the_tasks_are_those_of_the_sets_that_are_there(root):
    names = [task.name for task in tasks(list_sounds(root))]
    expected = "events, note families, instruments, speakers, words, kitchen scenes"
    assert names == expected.split(", ")
    assert [task.name for task in tasks(list_sounds(root / "ESC-50"))] == ["events"]
    only_notes = tasks(list_sounds(root / "FluidR3-notes"))
    assert [task.name for task in only_notes] == ["note families", "instruments"]
    assert only_notes[1].class_names[0] == "bass-0"


def test_labels_and_groups_are_numbers_of_their_columns(root):
    sounds = list_sounds(root)
    words = next(task for task in tasks(sounds) if task.name == "words")
    for i, label, group in zip(words.clips.tolist(), words.labels, words.groups, strict=True):
        assert words.class_names[label] == sounds[i].value("label")
        assert int(sounds[i].value("group")) == group
    heard, never = words.labels_of(never=False), words.labels_of(never=True)
    assert ((heard >= 0) ^ (never >= 0)).all()
    assert torch.equal(never >= 0, words.never)
    assert not set(words.groups[heard >= 0].tolist()) & set(words.groups[never >= 0].tolist())


def test_the_rule_for_names_is_fixed():
    """It was fixed before the first recorded run: another seed, hash or share would make records incomparable."""
    names = [f"Actor_{i:02d}" for i in range(1, 25)]
    held = held_names(names, "RAVDESS")
    assert sorted(held) == ACTORS
    assert held == held_names(reversed(names), "RAVDESS") and len(held) == round(HELD_SHARE * 24)
    assert held != held_names(names, "other")
    assert held_names(["one"], "x") == frozenset() and len(held_names(["a", "b"], "x")) == 1


def test_any_folder_of_sounds_will_do(tmp_path):
    for name in ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav", "loose.wav"):
        put(tmp_path / "mine" / name)
    sounds = list_sounds(tmp_path / "mine")
    assert len(sounds) == 5 and {s.source for s in sounds} == {"mine"}
    (task,) = tasks(sounds)
    assert task.name == "classes" and task.class_names == ("a", "b") and len(task.clips) == 4
    assert task.groups.unique().numel() == 4  # each clip is a recording of its own
    table = tmp_path / "list" / "manifest.csv"
    write_manifest(table, [{"path": "x.wav", "label": "one", "group": ""}])
    assert list_sounds(table)[0].source == "manifest"
    with pytest.raises(FileNotFoundError, match="no sounds at"):
        list_sounds(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no sounds below"):
        list_sounds(tmp_path / "empty")


def test_classes_may_lie_in_splits_and_noise_is_no_class(tmp_path):
    """As `list_folder` reads the same folder: `few-shot` once scored "train" against "test"."""
    names = "train/dog/1.wav", "test/dog/1.wav", "Test/cat/old/1.wav", "train/loose.wav"
    for name in (*names, "_background_noise_/hum.wav"):
        put(tmp_path / name)
    labels = {sound.name: sound.values["label"] for sound in list_sounds(tmp_path)}
    assert labels == {
        "train/dog/1.wav": "dog", "test/dog/1.wav": "dog", "Test/cat/old/1.wav": "cat",
        "train/loose.wav": "", "_background_noise_/hum.wav": "",
    }  # fmt: skip
    listed = {entry.name: entry.labels["class"] for entry in list_folder(tmp_path).entries}
    assert listed == {name: label for name, label in labels.items() if label}


def test_the_embedded_sounds_have_every_kind_of_task_but_scenes():
    parts: list[tuple[str, Clips]] = [
        (pool, synthetic_clips(pool, clips_per_class=2, duration_s=0.5)) for pool in POOLS
    ]
    sounds = embedded_sounds(parts)
    names = [task.name for task in tasks(sounds)]
    assert names == ["events", "speakers", "words", "note families", "instruments"]
    held = {s.value("speaker") for s, h in zip(sounds, held_out(sounds)) if h} - {""}
    assert held == HELD_OUT["embedded speakers"]


def test_a_clip_without_a_group_is_a_recording_of_its_own():
    assert Sound("here", "a.wav", {}).value("group") == "here/a.wav"
    assert Sound("here", "a.wav", {"group": "g"}).value("group") == "g"
    assert Sound("here", "a.wav", {}).value("label") == ""


@pytest.mark.shared
def test_the_shared_corpus_is_what_its_page_says(shared):
    sounds = list_sounds(shared / "sounds")
    counts = Counter(sound.source for sound in sounds)
    assert counts == {
        "ESC-50": 1600, "UrbanSound8K-part": 1273, "Kitchen20": 906, "FluidR3-notes": 2153,
        "ArabicSpeechCommands": 2400, "SpeechCommands-3words": 997, "RAVDESS-speech": 720,
        "DonateACry": 226,
    }  # fmt: skip
    assert all(Path(sound.path).is_file() for sound in sounds)
    by_name = {task.name: task for task in tasks(sounds)}
    classes = {name: len(task.class_names) for name, task in by_name.items()}
    assert classes == {
        "events": 40, "note families": 15, "instruments": 120, "actors": 24, "speakers": 30,
        "words": 40, "urban scenes": 10, "kitchen scenes": 20,
    }  # fmt: skip
    assert by_name["events"].labels[by_name["events"].never].unique().numel() == 10
    assert by_name["actors"].groups.unique().numel() == 2  # sentences
    heard = [s for s, h in zip(sounds, held_out(sounds).tolist()) if not h]
    assert len(heard) == 7799
    water = {"water_flowing", "boiling_water", "rain", "pouring_water"}
    assert not water & {s.value("label") for s in heard}
