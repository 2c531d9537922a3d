"""The speedrun: it stops at the first look above the target, counts training alone, and its board is sorted."""

from __future__ import annotations

import json

import pytest
import torch

from audiossl_lite.data.corpus import held_out
from audiossl_lite.data.joined import read_corpus
from audiossl_lite.experiments import records, speedrun, workshop
from audiossl_lite.experiments.real_sounds import sounds
from tests.experiments.tiny_sets import SHORT_CNN

decoded = sounds.decoded
LINE = {"name": "a", "mean": 61.0, "ci95": 0.5, "seconds": 90.0, "seed": 0, "device": "CPU, 2 threads",
        "data": "d", "fingerprint": "f"}  # fmt: skip


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(workshop.RUNS, "CNN, InfoNCE", workshop.RUNS["CNN, InfoNCE"] | SHORT_CNN)
    monkeypatch.setattr(sounds, "decoded", lambda out, data: decoded(out, data, toy=True))
    monkeypatch.setattr(speedrun, "LOOKS", 4)
    monkeypatch.setattr(speedrun, "N_EPISODES", 20)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)  # sums in other tests keep their order


def test_it_stops_at_the_first_look_that_reaches_the_target(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speedrun, "TARGET", 0.0)
    asked = ["--out", str(tmp_path), "--say", "the first", "--threads", "1"]
    assert speedrun.main(asked) == 0
    entry = records.load(tmp_path / "records" / "speedrun_cpu.json")
    (line,) = entry["values"]
    assert line["steps"] == 1 and line["name"] == "the first" and 0 < line["seconds"] < 600
    assert line["command"].startswith("python -m audiossl_lite speedrun --data FOLDER --run ")
    assert str(tmp_path) not in line["command"]
    assert line["fingerprint"] == read_corpus(tmp_path / "sounds").key
    assert "step 1:" in capsys.readouterr().out
    assert not list(tmp_path.glob("tmp*"))  # the run itself is gone


def test_a_run_that_does_not_get_there_adds_no_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speedrun, "TARGET", 100.1)
    assert speedrun.main(["--out", str(tmp_path)]) == 1
    assert "after all 4 steps: no line is added" in capsys.readouterr().out
    assert not (tmp_path / "records").exists()


def test_only_clips_that_training_heard_are_scored(tmp_path):
    corpus, _ = sounds.decoded(tmp_path, None)
    column, clips = speedrun.events_heard(list(corpus.sounds))
    never = held_out(list(corpus.sounds))
    assert column.name == "events, heard" and not never[clips].any()
    drawn = torch.cat([column.episodes.support.flatten(), column.episodes.query.flatten()])
    assert drawn.max() < len(clips)
    with pytest.raises(ValueError, match="no labels to score on"):
        speedrun.events_heard([])


def test_the_board_has_the_fastest_first(tmp_path):
    board = tmp_path / "records" / "speedrun_gpu.json"
    speedrun.add_line(board, LINE)
    speedrun.add_line(board, LINE | {"name": "b", "seconds": 60.0, "seed": 1})
    entry = json.loads(board.read_text())
    assert [row["name"] for row in entry["values"]] == ["b", "a"]
    assert (entry["scale"], entry["seeds"], entry["seconds"]) == ("gpu", [0, 1], 150.0)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--run", "CNN"], "no run is called 'CNN'; there are ATST"),
        (["--run", "No Mixing"], "starts from an encoder"),
        (["--data", "nowhere"], "no sounds at nowhere"),
    ],
)
def test_a_wrong_request_is_one_line(tmp_path, capsys, asked, told):
    assert speedrun.main(["--out", str(tmp_path), *asked]) == 2
    assert told in capsys.readouterr().err


def test_a_board_that_cannot_be_gone_on_with_is_met_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speedrun, "train", None)
    board = tmp_path / "records" / "speedrun_cpu.json"
    speedrun.add_line(board, LINE)
    whole = board.read_text()
    for content, told in (
        (whole[:40], "is not a recorded run"),
        (whole.replace('"seed": 0,', ""), "is no board"),
        (whole, "speedrun_cpu.json is of other sounds; choose another --out"),
    ):
        board.write_text(content)
        assert speedrun.main(["--out", str(tmp_path)]) == 2
        assert told in capsys.readouterr().err and board.read_text() == content


def test_a_folder_that_another_process_is_at_is_told(tmp_path, capsys):
    with workshop.locked(tmp_path):
        assert speedrun.main(["--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"speedrun: {tmp_path}: another process is at work here")
