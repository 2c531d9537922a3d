"""The study of the queue's size: its rows, its record, what it watches, and that nothing is trained twice."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.data.corpus import Sound, held_out
from audiossl_lite.data.joined import write_corpus
from audiossl_lite.encoders import byola_tiny
from audiossl_lite.experiments import queue_sizes
from audiossl_lite.experiments.queue_sizes import MONITORS, OWN, UNTRAINED, Study, Watched, main
from audiossl_lite.experiments.real_sounds.sounds import decoded
from audiossl_lite.experiments.records import load, recorded_scores
from audiossl_lite.experiments.settings.presets import preset

SMALL = {
    "segment_s": 0.3,
    "steps": 3,
    "batch_size": 8,
    "warmup_steps": 1,
    "log_every": 1,
    "hidden_dim": 16,
}
SMALL |= {"projection_dim": 8, "memory_size": 8, "precision": "32-true"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A study's folder with a few embedded sounds, and short runs."""
    monkeypatch.setattr(queue_sizes, "SETTINGS", queue_sizes.SETTINGS | SMALL)
    monkeypatch.setattr(queue_sizes, "SIZES", (8, 24))
    decoded(tmp_path / "study", None, toy=True)
    return tmp_path / "study"


def test_the_command_records_every_size_over_seeds_and_trains_none_twice(
    folder, tmp_path, monkeypatch
):
    ask = ["--data", str(folder), "--out", str(tmp_path), "--seeds", "2"]
    assert main(ask) == 0
    path = tmp_path / "records" / "queue_sizes.json"
    entry = load(path)
    scores = recorded_scores(entry)
    sizes = {row["name"]: row["queue"] for row in entry["values"] if "queue" in row}
    assert sizes == {OWN: 24, "queue of 8": 8, "queue of 24": 24} and entry["seeds"] == [0, 1]
    assert {*sizes, UNTRAINED, "log-mel statistics", "MFCC statistics"} == set(scores)
    n_seeds = {name: len(row["events, never heard"]) for name, row in scores.items()}
    assert n_seeds == dict.fromkeys(scores, 2) | {"log-mel statistics": 1, "MFCC statistics": 1}
    trained = [scores[name]["events, never heard"].tolist() for name in sizes]
    assert trained[0] != trained[1] != trained[2]
    for row in entry["values"]:
        if row["name"] in sizes:
            assert [point["step"] for point in row["history"]] == [1, 2, 3]
            assert all(len(point[name]) == 2 for point in row["history"] for name in MONITORS)
    monkeypatch.setattr(queue_sizes, "train_parts", None)
    assert main(ask) == 0
    assert load(path)["values"] == entry["values"]
    assert main(["--data", str(tmp_path)]) == 2


def test_sounds_without_events_are_refused_in_one_line(tmp_path, capsys):
    waves = {"a": 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))}
    for source, label, told in (
        ("mine", "a", "no events to score on"),
        ("ESC-50", "dog", "no events"),
    ):
        folder = tmp_path / source
        sounds = [Sound(source, "a", {"label": label})]
        write_corpus(folder / "sounds", sounds, key="k", read=lambda s: waves[s.name])
        assert main(["--data", str(folder), "--out", str(tmp_path)]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "records").exists()


def test_training_hears_events_alone_and_none_that_are_held_out(folder):
    study = Study(
        queue_sizes.study_corpus(folder), preset("byola", "workshop", queue_sizes.SETTINGS)
    )
    sounds = list(study.corpus.sounds)
    heard = [
        sound for sound, held in zip(sounds, held_out(sounds), strict=True)
        if sound.source == "embedded event" and not held
    ]  # fmt: skip
    assert len(study.clips) == len(study.heard) == len(heard) < len(sounds)
    labels = [sound.value("label") for sound in heard]
    assert study.kin.shape == (2, len(heard))
    same = [[a == b for b in labels] for a in labels]
    assert (study.kin[0][:, None] == study.kin[0]).tolist() == same
    n = len(heard)
    assert study.chance()["right class"] == pytest.approx((sum(map(sum, same)) - n) / (n * (n - 1)))
    assert study.chance()["same recording"] == 0  # each clip is one


@pytest.mark.parametrize("k", [0, 1])
def test_the_monitors_say_whose_neighbours_are_found(k):
    """With a queue of the batch's own projections, under ids of other clips, each finds the clip it was given."""
    ids, other = torch.arange(4), torch.arange(4, 8)
    kin = torch.tensor([[0, 0, 0, 0, 0, 1, 0, 1], [0, 1, 2, 3, 0, 5, 6, 7]])
    method = Watched(
        byola_tiny(), kin, k=k, queue_size=4, hidden_dim=16, predictor_dim=16, projection_dim=8
    )
    views = torch.randn(2, 4, 32, 64, generator=torch.Generator().manual_seed(0))
    method.encoder.eval()  # without dropout the anchors are embedded alike twice
    method.queue.push(method.projector(method.encoder(views[0])), other)
    out = method(*views, torch.eye(4), ids[:, None], ids)
    assert method.owners.tolist() == other.tolist()
    assert {name: out[name].item() for name in MONITORS} == {
        "right class": 0.5, "same recording": 0.25,
    }  # fmt: skip
