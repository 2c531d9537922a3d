"""What studies share: work that is done once, in this process and the next, and what a record says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from audiossl_lite.experiments.records import load, said_once
from audiossl_lite.experiments.studies import Finished, by_seed, named, record_study
from audiossl_lite.training.loop import CollapseError
from tests.data.test_clips import make_clips


class Counted:
    """Work that says how often it was done, and in which folder."""

    def __init__(self, value: float = 1.5) -> None:
        self.value, self.folders = value, []

    def __call__(self, folder):
        self.folders.append(folder)
        return {"score": self.value}


@pytest.mark.parametrize("on_disk", [False, True])
def test_work_is_done_once_for_the_same_settings(tmp_path, on_disk):
    finished, work = Finished(tmp_path if on_disk else None), Counted()
    settings = {"steps": 3, "data": "abc"}
    first = finished("score", settings, work)
    assert finished("score", dict(settings), work) == first and len(work.folders) == 1
    assert first["score"] == 1.5 and first["settings"] == settings and first["seconds"] >= 0
    for kind, changed in (("score", settings | {"steps": 4}), ("other", settings)):
        finished(kind, changed, work)
    assert len(work.folders) == 3 and len(set(work.folders)) == (3 if on_disk else 1)
    assert finished.seconds == pytest.approx(sum(r["seconds"] for r in finished.results.values()))


def test_the_next_process_reads_what_is_finished(tmp_path):
    once = Finished(tmp_path / "scores")("score", [1, "a"], Counted(0.1 + 0.2))
    work = Counted()
    again = Finished(tmp_path / "scores")
    assert again("score", [1, "a"], work) == once and once["score"] == 0.1 + 0.2
    assert not work.folders and again.seconds == once["seconds"]


def test_work_that_fails_leaves_no_result_and_may_resume_from_its_folder(tmp_path):
    finished = Finished(tmp_path)

    def interrupted(folder):
        folder.mkdir(parents=True)
        (folder / "half").write_text("so far")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finished("run", 1, interrupted)
    assert not finished.results and not list(tmp_path.glob("*.json"))
    resumed = finished("run", 1, lambda folder: {"read": (folder / "half").read_text()})
    assert resumed["read"] == "so far"
    file = tmp_path / f"{finished.key('run', 1)}.json"
    assert json.loads(file.read_text())["read"] == "so far"


def test_seconds_that_the_work_counted_itself_are_kept():
    assert Finished()("run", 1, lambda _: {"seconds": 70.5})["seconds"] == 70.5


def test_a_record_says_what_was_scored_and_what_failed(tmp_path):
    clips = make_clips()
    entry = record_study(
        tmp_path / "toy_lite.json",
        "lite",
        [clips, clips],
        about=["never heard", "heard"],
        device="cpu",
        seeds=range(2),
        seconds=1.0,
        config={"steps": 1},
        values=[{"name": "a", "mean": 1.0, "ci95": None}],
        notes=["", "how", *named("failed", {"b": "seed 0: nan"})],
    )
    assert load(tmp_path / "toy_lite.json") == entry
    assert entry["experiment"] == "toy_lite" and entry["seeds"] == [0, 1]
    assert entry["data"] == f"{clips.source}; never heard; {clips.source}; heard"
    assert entry["data_fingerprint"] == f"{clips.fingerprint()} {clips.fingerprint()}"
    assert entry["note"] == "how b failed: seed 0: nan."


def test_what_is_the_same_of_all_sets_of_clips_is_said_once():
    of_two = (
        "events of A; heard 7 clips (A 3, B 4); apart; words of B; heard 7 clips (A 3, B 4); apart"
    )
    assert said_once(of_two) == "events of A; words of B; heard 7 clips (A 3, B 4); apart"
    for other in ("one set; heard", "a; heard 3; b; heard 5", "a; heard; b; heard; apart", "a"):
        assert said_once(other) == other


def test_what_was_made_once_is_not_made_again():
    finished = Finished()
    assert finished.once(("a", 1), lambda: [1]) is finished.once(("a", 1), lambda: [2])
    assert finished.seconds == 0, "only results have seconds"


def test_scores_have_one_row_for_each_seed_and_failures_are_named():
    def score(name, seed):
        if (name, seed) == ("b", 1):
            raise CollapseError("collapse at step 3")
        return {"events": np.full((1, 2), float(seed))}

    failures = {}
    scores = by_seed(score, ["a", "b"], [0, 1], failures=failures, needed=["a"])
    assert list(scores) == ["a"] and failures == {"b": "seed 1: collapse at step 3"}
    np.testing.assert_array_equal(scores["a"]["events"], [[0, 0], [1, 1]])
    with pytest.raises(CollapseError):
        by_seed(score, ["b"], [0, 1], needed=["b"])
    assert by_seed(lambda name, seed: {"x": [seed]}, ["a"], [3, 4])["a"]["x"].tolist() == [3, 4]
