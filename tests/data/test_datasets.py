"""Data sets as they lie on disk; a bad file is a counted skip, never a crash midway."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from audiossl_lite.data import datasets
from audiossl_lite.data.datasets import load_clips
from tests.data.sounds import hum, put

COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def write_csv(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def make_esc50(root, extra_rows=(), suffix="wav"):
    """Two classes, two sources each, two takes of each source, over two folds."""
    rows = []
    for target, category in ((0, "dog"), (14, "chirping_birds")):
        for source in (100, 200):
            for take in "AB":
                fold = source // 100
                name = f"{fold}-{source + target}-{take}-{target}.{suffix}"
                put(root / "audio" / name)
                rows.append((name, fold, target, category, False, source + target, take))
    write_csv(root / "meta" / "esc50.csv", COLUMNS, [*rows, *extra_rows])
    return root


def make_fsdd(root, speakers=("ann", "bob"), digits=(0, 7), takes=6):
    for speaker in speakers:
        for digit in digits:
            for take in range(takes):
                name = f"{digit}_{speaker}_{take}.wav"
                put(root / "recordings" / name, hum(0.3 + 0.01 * take, 8000), 8000)
    return root


def reasons(clips):
    return {skip.name: skip.reason for skip in clips.skipped}


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_esc50_labels_groups_and_folds(tmp_path, suffix):
    clips = load_clips(make_esc50(tmp_path, suffix=suffix))
    assert len(clips) == 8
    assert clips.task == "event"
    assert clips.class_names["event"] == ("chirping_birds", "dog")
    assert clips.splits == tuple(name.split("-")[0] for name in clips.names)
    for name, label, group in zip(clips.names, clips.labels["event"], clips.groups["event"]):
        assert clips.class_names["event"][label] == ("dog" if "-0." in name else "chirping_birds")
        same = [other for other, g in zip(clips.names, clips.groups["event"]) if g == group]
        assert {other.split("-")[1] for other in same} == {name.split("-")[1]}
        assert len(same) == 2
    assert clips.skipped == ()


def test_esc50_rows_that_disagree_are_skipped(tmp_path):
    rows = [
        ("1-900-A-0.wav", 1, 14, "chirping_birds", False, 900, "A"),  # name says target 0
        ("1-901-A-0.wav", 1, 0, "cat", False, 901, "A"),  # target 0 is dog
        ("1-902-A-0.wav", 2, 0, "dog", False, 902, "A"),  # wrong fold
        ("1-903-A-0.wav", 1, 0, "dog", False, 904, "A"),  # wrong source
        ("1-905-A-0.wav", 1, 0, "dog", False, 905, "A"),  # no such file
        ("1-906-A-0.wav", 1, 0, "", False, 906, "A"),
        ("noise.wav", 1, 0, "dog", False, 907, "A"),
        ("1-100-A-0.wav", 1, 0, "dog", False, 100, "A"),  # a second time
    ]
    root = make_esc50(tmp_path, rows)
    expected = {
        "1-900-A-0.wav": "disagree", "1-901-A-0.wav": "disagree",
        "1-902-A-0.wav": "fold or source", "1-903-A-0.wav": "fold or source",
        "1-905-A-0.wav": "no such file", "1-906-A-0.wav": "empty label",
        "1-100-A-0.wav": "listed twice", "1-1-A-0.wav": "not in meta/esc50.csv",
        "noise.wav": "file name",
    }  # fmt: skip
    for name in expected.keys() - {"1-905-A-0.wav", "1-100-A-0.wav"}:
        put(root / "audio" / name)
    clips = load_clips(root)
    assert len(clips) == 8 and "9 skipped" in clips.source
    said = reasons(clips)
    assert said.keys() == expected.keys()
    assert {name: word for name, word in expected.items() if word not in said[name]} == {}


def test_a_full_table_beside_one_fold_is_no_fault(tmp_path):
    root = make_esc50(tmp_path)
    for path in (root / "audio").glob("2-*"):
        path.unlink()
    clips = load_clips(root)
    assert len(clips) == 4
    assert set(clips.splits) == {"1"}
    assert clips.skipped == ()


def test_fsdd_tasks_and_groups(tmp_path):
    root = make_fsdd(tmp_path)
    put(root / "recordings" / "seven_ann.wav")
    clips = load_clips(root, pool="voice")
    assert clips.task == "speaker"
    assert clips.class_names == {"speaker": ("ann", "bob"), "digit": ("zero", "seven")}
    assert torch.equal(clips.groups["digit"], clips.labels["speaker"])
    digit_of_group = set(zip(clips.groups["speaker"].tolist(), clips.labels["digit"].tolist()))
    assert len(digit_of_group) == 2
    assert clips.splits.count("test") == 20
    assert len(reasons(clips)) == 1
    assert clips.lengths[0] == round(0.3 * 16_000)
    assert not clips.waveforms[0, clips.lengths[0] :].any()


def test_a_root_with_both_serves_each_pool_and_falls_back_for_others(tmp_path):
    make_esc50(tmp_path / "esc")
    make_fsdd(tmp_path / "digits")
    assert load_clips(tmp_path).source.startswith("ESC-50: 8 clips")
    assert load_clips(tmp_path, pool="voice").source.startswith("FSDD: 24 clips")
    notes = load_clips(tmp_path, pool="note", clips_per_class=1)
    assert "embedded" in notes.source
    assert "no pool 'note'" in notes.source
    assert notes.task == "instrument"


def test_class_folders_are_read_whatever_lies_in_them(tmp_path):
    put(tmp_path / "dog" / "deep" / "Gebell ü.wav")
    put(tmp_path / "dog" / "b.flac", hum(0.4, 44_100), 44_100)
    put(tmp_path / "猫" / "a.ogg", np.stack([hum()] * 2, axis=1))
    put(tmp_path / "猫" / "loud.wav", hum(0.5, 96_000), 96_000, subtype="PCM_U8")
    (tmp_path / "dog" / "text.wav").write_text("no audio")
    (tmp_path / "dog" / "notes.txt").write_text("ignored")
    (tmp_path / "empty class").mkdir()
    put(tmp_path / ".hidden" / "x.wav")
    put(tmp_path / "stray.wav")
    clips = load_clips(tmp_path)
    assert clips.task == "class"
    assert clips.names == ("dog/b.flac", "dog/deep/Gebell ü.wav", "猫/a.ogg", "猫/loud.wav")
    assert clips.class_names["class"] == ("dog", "猫")
    assert reasons(clips) == {"dog/text.wav": "unreadable", "stray.wav": "lies in no class folder"}
    assert len(clips.groups["class"].unique()) == 4


def test_manifest_with_groups_splits_and_bad_rows(tmp_path):
    put(tmp_path / "sounds" / "a.wav")
    put(tmp_path / "sounds" / "b.wav")
    put(tmp_path / "c, with comma.wav")
    rows = [
        ("sounds/a.wav", "x", "g1", "train"),
        ("sounds/b.wav", "y", "g1", "test"),
        ("c, with comma.wav", " x ", "", ""),
        ("sounds/../sounds/a.wav", "x", "", ""),
        ("gone.wav", "x", "", ""),
        ("sounds", "x", "", ""),
        ("sounds/b.wav", "", "", ""),
        ("", "x", "", ""),
    ]
    clips = load_clips(write_csv(tmp_path / "list.csv", ("path", "label", "group", "split"), rows))
    assert clips.names == ("sounds/a.wav", "sounds/b.wav", "c, with comma.wav")
    assert clips.labels["class"].tolist() == [0, 1, 0]
    assert clips.groups["class"].tolist() == [0, 0, 1]
    assert clips.splits == ("train", "test", "")
    found = sorted(skip.reason for skip in clips.skipped)
    assert found == ["empty label", "empty path", "listed twice", "no such file", "not a file"]


def test_manifest_without_a_column_names_it(tmp_path):
    path = write_csv(tmp_path / "list.csv", ("file", "label"), [("a.wav", "x")])
    with pytest.raises(ValueError, match=r"missing column\(s\) path; found file, label"):
        load_clips(path)
    path.write_bytes("path,label\nä.wav,x\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        load_clips(path)


def test_nothing_to_read_is_an_error_that_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_clips(tmp_path / "gone")
    with pytest.raises(ValueError, match="no clip left"):
        load_clips(tmp_path)
    put(tmp_path / "dog" / "silent.wav", np.zeros(4000))
    with pytest.raises(ValueError, match=r"1 skipped: silent"):
        load_clips(tmp_path)
    with pytest.raises(ValueError, match=r"\.csv manifest"):
        load_clips(tmp_path / "dog" / "silent.wav")


@pytest.mark.parametrize("root", ["", "files"])
def test_wrong_arguments_are_named(tmp_path, root):
    if root:
        put(tmp_path / "dog" / "a.wav")
        root = str(tmp_path)
    for options, word in (
        ({"pool": "events"}, "unknown pool"),
        ({"clips_per_class": 0}, "clips_per_class"),
        ({"max_s": 0.0}, "max_s"),
    ):
        with pytest.raises(ValueError, match=word):
            load_clips(root, **{"clips_per_class": 1} | options)


def test_clips_per_class_replaces_bad_files_and_follows_the_seed(tmp_path):
    for index in range(10):
        put(tmp_path / "a" / f"{index}.wav", hum() if index % 2 else np.zeros(800))
        put(tmp_path / "b" / f"{index}.wav")
    first, second = (load_clips(tmp_path, clips_per_class=4, seed=seed) for seed in (0, 1))
    for clips in (first, second):
        assert torch.bincount(clips.labels["class"]).tolist() == [4, 4]
        assert list(clips.names) == sorted(clips.names)
    assert first.names == load_clips(tmp_path, clips_per_class=4, seed=0).names
    assert first.names != second.names
    labels = load_clips(tmp_path, clips_per_class=99).labels["class"]
    assert torch.bincount(labels).tolist() == [5, 10]


def test_max_s_keeps_the_centre(tmp_path):
    ramp = np.linspace(-0.9, 0.9, 16_000, dtype=np.float32)
    put(tmp_path / "a" / "ramp.wav", ramp, subtype="FLOAT")
    clips = load_clips(tmp_path, max_s=0.25)
    assert torch.allclose(clips.waveforms[0], torch.from_numpy(ramp[6000:10_000]))
    assert load_clips(max_s=0.25, clips_per_class=1).waveforms.shape == (32, 4000)


def test_too_much_for_memory_is_refused_with_advice(tmp_path, monkeypatch):
    put(tmp_path / "a" / "x.wav")
    monkeypatch.setattr(datasets, "MEMORY_LIMIT_GIB", 1e-6)
    with pytest.raises(ValueError, match="pass max_s"):
        load_clips(tmp_path)


@pytest.mark.shared
def test_real_esc50_fold(shared):
    for root in (shared / "data" / "ESC-50-fold4", shared / "data"):
        clips = load_clips(root)
        assert len(clips) == 320
        assert torch.bincount(clips.labels["event"]).tolist() == [8] * 40
        assert set(clips.splits) == {"4"}
        assert clips.skipped == ()
        assert float(clips.seconds().min()) == float(clips.seconds().max()) == 5.0
    dogs = clips.subset(clips.labels["event"] == clips.class_names["event"].index("dog"))
    assert all(name.endswith("-0.flac") for name in dogs.names)


@pytest.mark.shared
def test_real_fsdd(shared):
    clips = load_clips(shared / "data", pool="voice")
    assert len(clips) == 2500
    assert torch.bincount(clips.labels["speaker"]).tolist() == [500] * 5
    assert torch.bincount(clips.labels["digit"]).tolist() == [250] * 10
    assert clips.skipped == ()


def test_a_folder_whose_name_ends_with_a_space_is_read(tmp_path):
    put(tmp_path / "my sounds " / "a" / "b.wav")
    assert load_clips(f"{tmp_path}/my sounds ").names == ("a/b.wav",)
    assert load_clips(" ", clips_per_class=1).source == load_clips("", clips_per_class=1).source
