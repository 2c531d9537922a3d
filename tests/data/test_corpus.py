"""The corpus: which clips training hears, what is held out, and tasks whose groups stay apart."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import torch

from audiossl_lite.data.clips import Clips, Skip
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
from audiossl_lite.data.layouts import list_folder, list_manifest
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


def test_files_beside_data_sets_have_names_of_their_own(root):
    """Files of one name in two folders were once dropped as "listed twice"."""
    for name in ("s1/0.wav", "s2/0.wav", "0.wav"):
        put(root / "street" / name)
    shutil.copytree(root / "ESC-50", root / "ESC-50 again")
    sounds = list_sounds(root)
    names = {sound.name for sound in sounds if sound.source == "street"}
    assert names == {"deep/a.wav", "s1/0.wav", "s2/0.wav", "0.wav"}
    esc50 = [sound.name for sound in sounds if sound.source == "ESC-50"]
    assert esc50[0] == "1-100-A-0.wav" and esc50[12] == "ESC-50 again/audio/1-100-A-0.wav"
    assert len({(sound.source, sound.name) for sound in sounds}) == len(sounds)


def test_no_file_is_read_twice_through_links(root):
    """A link to a class or to the folder itself was once a class more; one to held-out clips would be heard."""
    expected = [(sound.source, sound.name, sound.path) for sound in list_sounds(root)]
    targets = {"up": "..", "loop": ".", "esc": "ESC-50", "audio": "ESC-50/audio", "way": "street"}
    for name, target in targets.items():
        (root / name).symlink_to(target)
    (root / "street" / "dog.wav").symlink_to("../ESC-50/audio/1-100-A-0.wav")
    left_out = []
    sounds = list_sounds(root, skipped=left_out)
    assert [(sound.source, sound.name, sound.path) for sound in sounds] == expected
    folders = {skip.name for skip in left_out if skip.reason.startswith("link to a folder")}
    files = {
        skip.name for skip in left_out if skip.reason == "file that is read under another name"
    }
    assert folders == {"up", "loop", "esc", "way"}
    assert files == {"street/dog.wav", *(f"audio/{Path(s[2]).name}" for s in expected[16:28])}


def test_links_are_no_further_classes(tmp_path):
    for name in ("a/1.wav", "b/1.wav"):
        put(tmp_path / "small" / name)
    put(tmp_path / "far" / "c" / "1.wav")
    for name, target in {"loop": ".", "a/in": "../b", "z": "a", "c": "../far/c"}.items():
        (tmp_path / "small" / name).symlink_to(target)
    with pytest.warns(UserWarning, match="3 x link to a folder"):
        sounds = list_sounds(tmp_path / "small")
    labels = {sound.name: sound.values["label"] for sound in sounds}
    assert labels == {"a/1.wav": "a", "b/1.wav": "b", "c/1.wav": "c"}


def test_with_a_list_all_that_is_left_out_is_in_it_and_nothing_is_warned_of(tmp_path, recwarn):
    put(tmp_path / "dog" / "a.wav")
    put(tmp_path / "latin" / "a.wav")
    latin = (tmp_path / "latin").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    for name in ("b.m4a", "c.m4a"):
        (tmp_path / "dog" / name).touch()
    left_out = []
    assert [sound.name for sound in list_sounds(tmp_path, skipped=left_out)] == ["dog/a.wav"]
    assert {skip.name: skip.reason for skip in left_out} == {
        "dog/b.m4a": "format that is not read (.m4a)",
        "dog/c.m4a": "format that is not read (.m4a)",
        "caf\\xe9/a.wav": "name that is not UTF-8",
    }
    (sound,) = list_sounds(latin)
    assert sound.source == "caf\\xe9"
    assert not recwarn.list
    (tmp_path / "dog" / "a.wav").unlink()
    with pytest.raises(ValueError, match=r"no sounds below .*dog \(2 x format"):
        list_sounds(tmp_path / "dog", skipped=[])


def test_manifests_are_read_as_elsewhere(tmp_path):
    """As `load_clips` reads the same table; only a clip without a label may have other columns."""
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    put(tmp_path / f"{decomposed}.wav")
    for name in "abc":
        put(tmp_path / f"{name}.wav")
    rows = [
        (f"{composed}.wav", composed, ""), ("a.wav", decomposed, ""), ("./a.wav", "again", ""),
        ("b\0.wav", "b", ""), ("", "b", ""), ("b.wav", "", ""), ("c.wav", "", "ann"),
    ]  # fmt: skip
    table = write_csv(tmp_path / "manifest.csv", ("path", "label", "speaker"), rows)
    left_out = []
    sounds = list_sounds(table, skipped=left_out)
    assert {skip.name: skip.reason for skip in left_out} == {
        "./a.wav": "listed twice", "line 6": "empty path", "b.wav": "empty label",
    }  # fmt: skip
    assert {sound.name: sound.value("label") for sound in sounds} == {
        f"{composed}.wav": composed, "a.wav": composed, "b\\0.wav": "b", "c.wav": "",
    }  # fmt: skip
    assert sounds[0].path == str(tmp_path / f"{decomposed}.wav")
    assert not any(
        "\0" in text for sound in sounds for text in (*sound.values.values(), sound.path)
    )
    listed = list_manifest(table)
    assert [entry.name for entry in listed.entries] == [sound.name for sound in sounds[:3]]
    assert Skip("c.wav", "empty label") in listed.skipped
    write_csv(table, ("path",), [("a.wav",)])  # without labels at all
    assert [sound.name for sound in list_sounds(tmp_path)] == ["a.wav"]


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
