"""The study on a corpus over seeds: one record, resumed, shared between processes, a failed run named."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from audiossl_lite.evaluation.statistics import mean_interval
from audiossl_lite.experiments import records, workshop
from audiossl_lite.experiments.real_sounds import learnt
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.settings.uamix import VARIANTS
from audiossl_lite.training import CollapseError, load_checkpoint
from tests.experiments.tiny_sets import SMALL_RUNS, small_study

NAMES = list(SMALL_RUNS)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    small_study(monkeypatch)


def test_the_record_holds_every_seed_of_every_row(tmp_path, monkeypatch):
    """Means, intervals and curves are those of the single runs; a second call trains nothing."""
    entry = workshop.train_all(tmp_path, None, NAMES, [0, 1])
    baselines = ["log-mel statistics", "MFCC statistics"]
    baselines += [f"{name}, standardised" for name in baselines]
    rows = {row["name"]: row for row in entry["values"]}
    assert list(rows) == [
        *baselines, "ATST, untrained", "ATST", "AudioMAE, untrained", "AudioMAE",
        "EAT, untrained", "EAT", "No Mixing",
    ]  # fmt: skip
    assert entry["seeds"] == [0, 1] and entry["scale"] == "workshop"
    assert entry["note"] == workshop.SHARED_CORES
    for column, cell in rows["ATST"]["columns"].items():
        assert column.endswith("never heard")  # nothing else is looked at
        runs = [
            load_checkpoint(tmp_path / "stages" / f"atst_{s}" / "scores_4.pt")["ATST"][column]
            for s in (0, 1)
        ]
        assert cell["by_seed"] == pytest.approx([run.mean().item() for run in runs])
        mean, half_width = mean_interval(np.concatenate(runs))
        assert (cell["mean"], cell["ci95"]) == pytest.approx((mean, half_width))
        last = rows["ATST"]["curve"][-1]
        assert last["step"] == 4 and last[column] == pytest.approx(mean)
    assert [point["step"] for point in rows["ATST"]["curve"]] == [1, 4]
    last = rows["ATST"]["curve"][-1]
    by_seed = np.mean([cell["by_seed"] for cell in rows["ATST"]["columns"].values()], axis=0)
    assert (last["average"], last["average_ci95"]) == pytest.approx(mean_interval(by_seed))
    pair = workshop.on_common_seeds(entry, "ATST", "ATST, untrained", "log-mel statistics")
    assert pair["ATST"]["average"] == pytest.approx(by_seed)
    assert pair["ATST, untrained"]["average"].shape == (2,)
    assert pair["log-mel statistics"]["average"].shape == (1,)
    alone = workshop.on_common_seeds(entry, "MFCC statistics")["MFCC statistics"]
    assert alone["average"].shape == (1,)
    other = copy.deepcopy(entry)
    next(row for row in other["values"] if row["name"] == "ATST")["seeds"] = [0, 7]
    pair = workshop.on_common_seeds(other, "ATST", "AudioMAE")  # what shares no seed is no pair
    assert pair["ATST"]["average"] == pytest.approx(by_seed[:1])
    assert pair["AudioMAE"]["average"].shape == (1,)
    monkeypatch.setattr(learnt, "run", lambda task: pytest.fail(f"trained {task.stage.name} again"))
    again = workshop.train_all(tmp_path, None, NAMES, [0, 1])
    assert again["values"] == entry["values"]


def test_a_record_outlives_its_runs(tmp_path):
    """Rows whose runs are gone stay; a row is replaced by one of as many seeds; one of other sounds is not touched."""
    before = workshop.train_all(tmp_path / "first", None, ["ATST", "EAT"], [0, 1])
    path = tmp_path / "first" / "records" / "sounds_workshop.json"
    (tmp_path / "again" / "records").mkdir(parents=True)
    shutil.copy(path, tmp_path / "again" / "records")
    entry = workshop.train_all(tmp_path / "again", None, ["ATST", "AudioMAE"], [0])
    rows, old = ({row["name"]: row for row in e["values"]} for e in (entry, before))
    assert [name for name in rows if "statistics" not in name] == [
        "ATST, untrained", "ATST", "AudioMAE, untrained", "AudioMAE", "EAT, untrained", "EAT",
    ]  # fmt: skip
    assert {n: row.get("seeds") for n, row in rows.items()}["AudioMAE"] == [0]
    assert all(rows[name] == old[name] for name in old)
    assert entry["config"] == before["config"] | {"AudioMAE": entry["config"]["AudioMAE"]}
    assert entry["seeds"] == [0, 1] and entry["seconds"] > before["seconds"]
    tuned = {
        "name": "No Mixing",
        "seeds": [0, 1],
        "columns": old["EAT"]["columns"],
        "mean": 1.0,
        "ci95": None,
    }
    starts = [rows[n] | {"seeds": [0, 1]} for n in ("AudioMAE, untrained", "AudioMAE")]
    (tmp_path / "again" / "records" / "sounds_workshop.json").write_text(
        json.dumps(before | {"values": [*before["values"], *starts, tuned]})
    )
    merged = workshop.collect(tmp_path / "again")
    kept = {r["name"]: r for r in merged["values"]}
    assert merged["note"] == workshop.SHARED_CORES
    assert kept["No Mixing"] == tuned and kept["AudioMAE"]["seeds"] == [0, 1]  # not this folder's
    again = tmp_path / "again" / "records" / "sounds_workshop.json"
    again.write_text(json.dumps(before | {"values": [*before["values"], starts[0], tuned]}))
    merged = workshop.collect(tmp_path / "again")
    assert "AudioMAE" not in {r["name"] for r in merged["values"]}
    assert merged["note"].endswith(
        "AudioMAE left out: the record's rows are of another start, with more seeds."
    )
    other = before | {"data_fingerprint": "other"}
    path.write_text(json.dumps(other))
    with pytest.raises(ValueError, match="is of other sounds than .*; move it away"):
        workshop.train_all(tmp_path / "first", None, ["ATST"], [0])
    assert json.loads(path.read_text()) == other


def test_tuning_starts_from_the_autoencoder_of_its_seed(tmp_path):
    stage = workshop.run_of("No Mixing", 2)
    assert stage.needs == ("audiomae_2",) and stage.options["start"] == "audiomae_2"
    with pytest.raises(KeyError, match="no run is called 'No mixing'; there are ATST, AudioMAE"):
        workshop.run_of("No mixing", 0)
    assert set(VARIANTS) < set(workshop.RUNS)
    literal = [name for name in VARIANTS if not VARIANTS[name].get("symmetric")]
    assert "T-CutMix, rule paper" in literal and "T-CutMix, both directions" not in literal


def test_an_encoder_that_is_missing_is_trained_before_what_starts_from_it(tmp_path):
    entry = workshop.train_all(tmp_path, None, ["No Mixing"], [0])
    names = [row["name"] for row in entry["values"] if "statistics" not in row["name"]]
    assert names == ["AudioMAE, untrained", "AudioMAE", "No Mixing"]


def test_the_study_is_the_scale_workshop_and_its_record_has_those_settings():
    """One set of settings: those of the jobs on one's own sounds, and those that the record was made with."""
    recorded = records.recorded(workshop.RECORD)["config"]
    for row, experiment in {"ATST": "atst", "BYOL-A": "byola", "AudioMAE": "audiomae", "EAT": "eat",
                            "T-CutMix, rule paper": "uamix"}.items():  # fmt: skip
        ours = dataclasses.asdict(preset(experiment, "workshop"))
        theirs = {name: value for name, value in recorded[row].items() if name in ours}
        assert len(theirs) > 25 and theirs == {name: ours[name] for name in theirs}, row


def test_a_run_that_fails_is_named_and_what_needs_it_is_left_out(tmp_path, monkeypatch):
    run = learnt.run

    def failing(task):
        if task.stage.name == "audiomae_0":
            raise CollapseError("the outputs have become one vector")
        run(task)

    monkeypatch.setattr(learnt, "run", failing)
    entry = workshop.train_all(tmp_path, None, NAMES, [0])
    rows = [row["name"] for row in entry["values"] if "statistics" not in row["name"]]
    assert rows == ["ATST, untrained", "ATST", "EAT, untrained", "EAT"]
    assert entry["note"].endswith("AudioMAE, seed 0 failed: the outputs have become one vector.")


def test_a_run_that_another_process_is_at_is_left_to_it(tmp_path, monkeypatch):
    """What is held elsewhere is waited for, the rest is trained meanwhile."""
    workshop.train_all(tmp_path, None, [], [])
    folder = tmp_path / "stages" / "atst_0"
    folder.mkdir(parents=True)
    order = []
    run = learnt.run
    monkeypatch.setattr(learnt, "run", lambda task: (order.append(task.stage.name), run(task)))
    held = workshop.locked(folder)
    held.__enter__()
    # Of the study alone: others (subprocess, while git names the commit) sleep too.
    clock = SimpleNamespace(
        sleep=lambda _: held.__exit__(None, None, None), monotonic=time.monotonic
    )
    monkeypatch.setattr(workshop, "time", clock)
    workshop.train_all(tmp_path, None, ["ATST", "AudioMAE"], [0])
    assert order == ["audiomae_0", "atst_0"]


def test_runs_on_other_sounds_are_not_mixed(tmp_path):
    """A folder that holds runs on the built-in sounds refuses a folder of sounds, and names what to do."""
    workshop.train_all(tmp_path / "out", None, [], [])
    samples = np.zeros(8000, np.float32)
    (tmp_path / "mine" / "a").mkdir(parents=True)
    soundfile.write(tmp_path / "mine" / "a" / "x.wav", samples, 16_000)
    with pytest.raises(ValueError, match=r"holds runs on other sounds than .*mine; choose another"):
        workshop.train_all(tmp_path / "out", tmp_path / "mine", [], [])


def test_wrong_requests_are_refused(tmp_path, capsys):
    assert workshop.main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == list(workshop.RUNS)
    assert workshop.main(["--only", "atst", "--out", str(tmp_path)]) == 2
    assert "no run is called 'atst'" in capsys.readouterr().err
    assert workshop.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert "no sounds at" in capsys.readouterr().err
    assert workshop.main(["--seeds", "11", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "workshop: --seeds is at most 10, got 11\n"
    assert records.load(tmp_path / "records" / "sounds_workshop.json") is None
