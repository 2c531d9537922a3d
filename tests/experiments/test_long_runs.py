"""The long study of chapter 04: its rows, its record, and that what is finished is not trained again."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from audiossl_lite.experiments import ablations, long_runs
from audiossl_lite.experiments.long_runs import (
    BROKEN_MINUS_HEALTHY,
    CHANGES,
    KEPT,
    STUDENT,
    UNTRAINED,
    collapse_rows,
    main,
)
from audiossl_lite.experiments.records import config_hash, load, recorded_scores
from audiossl_lite.experiments.settings.presets import preset


def test_each_broken_run_differs_in_what_its_name_says_alone():
    healthy, *broken = (dataclasses.asdict(row.config) for row in collapse_rows(preset("byola")))
    assert healthy["predictor"] and healthy["on_collapse"] == "continue"
    for config, change in zip(broken, [*CHANGES.values()][1:], strict=True):
        assert {k: v for k, v in config.items() if v != healthy[k]} == change


def test_the_command_records_every_run_over_seeds_and_trains_none_twice(
    tmp_path, monkeypatch, capsys
):
    small = {"clips_per_class": 3, "clip_s": 0.8, "encoder": "byola_tiny", "hidden_dim": 16}
    small |= {"projection_dim": 8, "memory_size": 8, "batch_size": 8, "log_every": 1}
    monkeypatch.setattr(long_runs, "SMALLER", long_runs.SMALLER | small)
    ask = ["--out", str(tmp_path), "--seeds", "2", "--steps", "2"]
    assert main(ask) == 0
    entry = load(tmp_path / "records" / "collapse_long.json")
    scores = recorded_scores(entry)
    assert {*CHANGES, UNTRAINED} < set(scores) and entry["seeds"] == [0, 1]
    assert all(len(row[c]) == 2 for row in scores.values() for c in (KEPT, STUDENT))
    assert all({a, b} <= set(scores) for a, b in BROKEN_MINUS_HEALTHY)
    points = next(row["history"] for row in entry["values"] if row["name"] == "healthy")
    assert [p["step"] for p in points] == [1, 2] and len(points[0]["spread"]) == 2

    path = tmp_path / "records" / "collapse_long.json"
    older = load(path)  # from before a switch that is off was there, and one of the runs
    del older["config"]["no stop-gradient"]
    older["values"] = [row for row in older["values"] if row["name"] != "no stop-gradient"]
    for row in older["config"].values():
        row.pop("normalise_views", None)
    path.write_text(json.dumps(older | {"config_hash": config_hash(older["config"])}))
    longer = [*ask[:3], "3", *ask[4:]]
    assert main(longer) == 0, "a seed more and a run more"
    more, path_of_all = load(path), tmp_path / "all" / "records" / "collapse_long.json"
    shutil.copytree(tmp_path / "rows", tmp_path / "all" / "rows")  # no record: all seeds at once
    assert main(["--out", str(tmp_path / "all"), *longer[2:]]) == 0
    assert more["values"] == load(path_of_all)["values"] and more["seeds"] == [0, 1, 2]
    monkeypatch.setattr(ablations, "pretrain", None)
    assert main(ask) == 0 and load(path) == more
    path.unlink()
    assert main(ask) == 0 and load(path)["values"] == entry["values"]
    for wrong in (["--steps", "0"], [*ask[:5], "1"]):
        with pytest.raises(SystemExit):
            main(wrong)
    assert "has other settings; move it away" in capsys.readouterr().err
