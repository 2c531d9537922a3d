"""Stage "sounds": real files and embedded ones, bad files counted, decoded once, baselines of every task."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from audiossl_lite.data import pack_items
from audiossl_lite.data.corpus import held_out
from audiossl_lite.data.joined import waveforms_of
from audiossl_lite.evaluation.baselines import mfcc_statistics
from audiossl_lite.experiments.real_sounds import sounds
from audiossl_lite.experiments.real_sounds.scores import load_scores
from audiossl_lite.experiments.records import load
from tests.data.sounds import put
from tests.experiments.gpu.tasks import toy_task


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eight classes of three hums of their own pitch, a broken file and a silent one."""
    root = tmp_path / "hums"
    rng = np.random.default_rng(0)
    clock = np.arange(8000) / 16_000
    for kind in range(8):
        for take in range(3):
            tone = np.sin(2 * np.pi * (200 + 150 * kind) * clock)
            samples = (0.3 * tone + 0.05 * rng.standard_normal(8000)).astype(np.float32)
            put(root / f"class{kind}" / f"{take}.wav", samples, subtype="FLOAT")
    (root / "class0" / "broken.ogg").write_bytes(b"no sound")
    put(root / "class1" / "silent.wav", np.zeros(8000, dtype=np.float32))
    put(
        root / "class2" / "fast.wav",
        np.float32(1.3) * np.sin(clock * 3000).astype(np.float32),
        44_100,
        subtype="FLOAT",
    )
    return root


def test_bad_files_are_counted_named_and_skipped(folder, tmp_path):
    task = toy_task("sounds", tmp_path / "out", data=folder)
    sounds.run(task)
    entry = load(task.record_path)
    about = entry["sounds"]
    assert entry["complete"] and about["clips"] == 25
    assert about["skipped_reasons"] == {"unreadable": 1, "silent": 1}
    assert sorted(about["skipped_names"]) == ["hums/class0/broken.ogg", "hums/class1/silent.wav"]
    assert about["hours"] == pytest.approx((24 * 0.5 + 8000 / 44_100) / 3600, abs=1e-3)
    (part,) = entry["tasks"]
    assert part["classes"] == 8 and part["never_heard"] == 6
    names = {row["name"]: row["columns"] for row in entry["values"]}
    assert list(names) == [
        "log-mel statistics", "MFCC statistics",
        "log-mel statistics, standardised", "MFCC statistics, standardised",
    ]  # fmt: skip
    for columns in names.values():
        assert set(columns) == {"classes, heard", "classes, never heard"}
        assert columns["classes, heard"]["mean"] > 80  # hums of their own pitch


def test_standardised_baselines_know_only_what_training_hears(folder, tmp_path):
    corpus, _ = sounds.decoded(tmp_path, folder)
    scores = sounds.scored(toy_task("sounds", tmp_path, data=folder), corpus)
    every = torch.arange(len(corpus.sounds))
    x = sounds.embed_all(waveforms_of(corpus, torch.device("cpu"), every), mfcc_statistics)
    heard = x[~held_out(list(corpus.sounds))]
    by_hand = scores.of(((x - heard.mean(0)) / heard.std(0))[scores.used])
    for column, values in scores.baselines["MFCC statistics, standardised"].items():
        assert np.array_equal(values, by_hand[column]), column


def test_sounds_are_decoded_once_and_again_when_a_file_changed(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    corpus, reused = sounds.decoded(out, folder)
    assert not reused
    monkeypatch.setattr(pack_items, "read_audio", lambda path: pytest.fail("decoded twice"))
    again, reused = sounds.decoded(out, folder)
    assert reused and again.sounds == corpus.sounds
    monkeypatch.undo()
    put(folder / "class3" / "new.wav")
    third, reused = sounds.decoded(out, folder)
    assert not reused and len(third.sounds) == len(corpus.sounds) + 1


def test_recordings_in_the_folder_of_the_decoded_sounds_stay(folder, tmp_path):
    """Sounds given or built in: what lies at OUT/sounds and was not decoded there is the user's."""
    shutil.move(folder, tmp_path / "sounds")
    files = sorted((tmp_path / "sounds").rglob("*.*"))
    for data in (tmp_path / "sounds", tmp_path / "sounds" / "class3", None):
        with pytest.raises(ValueError, match=r"sounds: class0 is no part of a decoded corpus"):
            sounds.decoded(tmp_path, data, toy=True)
    assert sorted((tmp_path / "sounds").rglob("*.*")) == files


def test_other_sounds_are_not_scored_on_the_episodes_of_the_last(folder, tmp_path):
    task = toy_task("sounds", tmp_path / "out", data=folder)
    sounds.run(task)
    first = load_scores(task.out / "sounds" / "scores.pt")
    put(folder / "class3" / "new.wav")
    for data in (folder, None):  # what was recorded is not replaced
        with pytest.raises(
            ValueError, match=r"out holds runs on other sounds than .*another --out"
        ):
            sounds.decoded(task.out, data)
    assert torch.equal(load_scores(task.out / "sounds" / "scores.pt").used, first.used)
    task.record_path.unlink()
    sounds.run(task)
    second = load_scores(task.out / "sounds" / "scores.pt")
    assert len(second.used) == len(first.used) + 1


def test_without_data_there_are_embedded_sounds(tmp_path):
    task = toy_task("sounds", tmp_path)
    sounds.run(task)
    entry = load(task.record_path)
    assert set(entry["sounds"]["by_set"]) == {"embedded event", "embedded voice", "embedded note"}
    columns = set(entry["values"][0]["columns"])
    assert {"events, heard", "events, never heard", "speakers, heard", "words, heard"} <= columns
    assert entry["scale"] == "toy" and entry["headline"].startswith(
        f"{entry['sounds']['clips']} clips"
    )
