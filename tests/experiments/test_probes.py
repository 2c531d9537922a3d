"""Probing and tuning: what is divided how, the same folds for all, resuming, and the records."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

from audiossl_lite.common.parameters import SCALES
from audiossl_lite.evaluation import check_folds, cross_validation
from audiossl_lite.experiments.build import Trained
from audiossl_lite.experiments.build_uamix import tuning_pools
from audiossl_lite.experiments.probe_tasks import probe_tasks
from audiossl_lite.experiments.probes import (
    LOG_MEL,
    NEVER,
    ON_TEST,
    RECIPES,
    WAYS,
    Probes,
    tuning_settings,
)
from audiossl_lite.experiments.records import load, recorded_scores
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.studies import Finished
from audiossl_lite.experiments.study_set import encoder_set

RUNS = preset(
    "encoders", "lite",
    {"byola_steps": 1, "atst_steps": 1, "mae_steps": 1, "head_steps": 1, "tuning_steps": 1,
     "byola_batch_size": 4, "atst_batch_size": 4},
)  # fmt: skip
LINEAR = preset("linear", "lite", {"epochs": 2, "evaluate_every": 1, "learning_rates": (0.1, 1.0)})
TUNING = {
    name: dataclasses.replace(config, epochs=2, warmup_epochs=1)
    for name, config in tuning_settings("lite").items()
}
TWO = [LOG_MEL, "ATST"]


@pytest.fixture(scope="module")
def pools():
    return tuning_pools("", preset("audiomae", "lite", {"clips_per_class": 4, "clip_s": 1.0}))


@pytest.fixture(scope="module")
def zoo(pools):
    return encoder_set(pools, RUNS, device="cpu")


def make(zoo, folder=None, linear=LINEAR) -> Probes:
    """Probes of the same encoders, with results in a folder of their own."""
    zoo = copy.copy(zoo)
    zoo.finished, runs = Finished(folder), zoo.finished.runs
    zoo.finished.runs = {k: run for k, run in runs.items() if isinstance(run, Trained)}
    return Probes(zoo, linear, TUNING)


@pytest.fixture(scope="module")
def done(zoo, tmp_path_factory):
    """Scores of two kinds of features and two seeds, kept in a folder."""
    folder = tmp_path_factory.mktemp("probes")
    job = make(zoo, folder)
    return job, job.linear_scores([0, 1], TWO), folder


def test_tasks_are_the_events_then_what_is_said_then_who_says_it(pools):
    tasks, left_out = probe_tasks([pool.test for pool in pools])
    assert [t.column for t in tasks] == ["events", "words, speakers apart", "speakers, words apart"]
    assert [t.pool for t in tasks] == [0, 1, 1] and not left_out
    assert [t.apart for t in tasks] == ["recordings", "speakers", "words"]


def test_no_group_straddles_and_seeds_divide_anew(pools):
    for task in probe_tasks([pool.test for pool in pools])[0]:
        clips = pools[task.pool].test
        data = task.data(clips, torch.randn(len(clips), 3))
        assert torch.equal(data.targets, task.targets) and torch.equal(data.groups, task.groups)
        for seed in range(2):
            check_folds(task.folds(seed), task.groups)
            parts = [set(part.groups.tolist()) for part in task.split(data, seed)]
            assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
            assert sum(len(part) for part in task.split(data, seed)) == len(data)
        assert not torch.equal(task.folds(0), task.folds(1))


def test_never_heard_clips_are_those_of_the_fixed_list(pools, zoo):
    task = probe_tasks([pool.test for pool in pools])[0][0]
    heard = {zoo.heard[0].class_names["event"][i] for i in zoo.heard[0].labels["event"].tolist()}
    clips = pools[0].test
    names = [clips.class_names["event"][i] for i in clips.labels["event"][task.kept].tolist()]
    assert [name in heard for name in names] == task.heard.tolist()
    assert 0 < int(task.heard.sum()) < len(names)


def test_classes_of_one_group_are_left_out_and_tasks_that_cannot_be_divided_are_named(pools):
    clips = pools[0].test
    groups = clips.groups["event"].clone()
    groups[clips.labels["event"] == 0] = 0
    lumped = dataclasses.replace(clips, groups={"event": groups})
    task = probe_tasks([lumped])[0][0]
    assert task.n_classes == len(clips.class_names["event"]) - 1
    assert 0 not in clips.labels["event"][task.kept].tolist()
    one = dataclasses.replace(clips, groups={"event": torch.zeros_like(groups)})
    tasks, left_out = probe_tasks([one])
    assert not tasks and "two classes" in left_out["events"]


def test_a_probe_is_cross_validation_on_the_folds_of_the_seed(done):
    job, scores, _ = done
    task = job.tasks["events"]
    result = cross_validation(
        job.labelled("events", LOG_MEL, 0), task.folds(0), LINEAR, seed=0, device="cpu"
    )
    assert scores[LOG_MEL]["events"][0] == pytest.approx(100 * result.mean)
    kept = job.probe(LOG_MEL, "events", 0)
    assert kept["by_fold"] == pytest.approx([100 * fold.score for fold in result.folds])
    right = [
        (fold.outputs.argmax(1) == task.targets[task.folds(0) == number], task.heard[task.folds(0) == number])
        for number, fold in enumerate(result.folds)
    ]  # fmt: skip
    never = torch.cat([ok[~heard] for ok, heard in right]).double().mean()
    assert scores[LOG_MEL]["events" + NEVER][0] == pytest.approx(100 * float(never))


def test_columns_hold_the_choice_on_test_data_for_events_alone(done):
    job, scores, _ = done
    assert list(scores) == TWO
    for found in scores.values():
        assert {c for c in found if c.endswith(ON_TEST)} == {"events" + ON_TEST}
        assert set(job.tasks) <= set(found)
        assert all(v.shape == (2,) and np.isfinite(v).all() for v in found.values())
    assert job.probe("ATST", "events", 0) != job.probe("ATST", "events", 0, select_on="test")


def test_atst_is_probed_in_chunks_of_its_training_length(zoo):
    network = zoo.network("ATST", 0)
    assert make(zoo).probed(network).chunk_frames == network.chunk_frames < LINEAR.chunk_frames
    assert make(zoo).probed(zoo.network("BYOL-A", 0)) == LINEAR


def test_what_is_kept_is_not_computed_again(done, zoo, monkeypatch):
    _, scores, folder = done

    def refuse(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr("audiossl_lite.experiments.probes.cross_validation", refuse)
    again = make(zoo, folder)
    repeated = again.linear_scores([0, 1], TWO)
    for name, found in scores.items():
        for column, values in found.items():
            assert np.array_equal(values, repeated[name][column])
    assert again.finished.seconds > 0
    with pytest.raises(AssertionError, match="computed again"):
        again.linear_scores([2], TWO)
    other = make(zoo, folder, dataclasses.replace(LINEAR, epochs=3))
    with pytest.raises(AssertionError, match="computed again"):
        other.linear_scores([0], TWO)


@pytest.mark.parametrize("name", RECIPES)
def test_every_method_is_tuned_and_resumed(name, zoo, tmp_path):
    column = "words, speakers apart"
    job = make(zoo, tmp_path)
    tuned, scratch = (job.tuned(name, way, column, 0) for way in WAYS[1:])
    for kept in (tuned, scratch):
        assert 0 <= kept["score"] <= 100 and 1 <= kept["epoch"] <= 2
        assert [line["epoch"] for line in kept["curve"]] == [1, 2]
    assert tuned["curve"][0]["loss"] != scratch["curve"][0]["loss"], "another start"
    assert not list(tmp_path.rglob("last.pt"))
    plain = make(zoo).fine_tuned(name, "fine-tuned", column, 0)
    assert tuned["score"] == pytest.approx(100 * plain.score)
    kept = json.loads(next(tmp_path.glob("tuned_*.json")).read_text())
    assert kept["settings"][0] == name and kept["settings"][2:4] == [column, 0]


def test_the_probe_beside_tuning_has_the_same_division(zoo, monkeypatch):
    seen = []

    def spy(train, test, config, **options):
        seen.append((train.names, options["validation"].names, test.names, config.refit))
        raise InterruptedError

    monkeypatch.setattr("audiossl_lite.experiments.probes.linear_evaluation", spy)
    monkeypatch.setattr(
        "audiossl_lite.experiments.probes.fine_tune",
        lambda e, f, tr, te, c, **o: spy(tr, te, LINEAR, **o),
    )
    for way in WAYS[:2]:
        with pytest.raises(InterruptedError):
            make(zoo).tuned("ATST", way, "words, speakers apart", 1)
    assert seen[0][:3] == seen[1][:3] and seen[0][3] is False


def test_records_hold_every_column_and_the_gain_over_log_mel(done, tmp_path):
    job, scores, _ = done
    entry = job.record(tmp_path / "linear_lite.json", scores, [0, 1], "lite", "how")
    assert load(tmp_path / "linear_lite.json") == json.loads(json.dumps(entry))
    assert entry["experiment"] == "linear_lite" and entry["note"].startswith("how")
    assert entry["config"]["ways"]["events"] == job.tasks["events"].n_classes
    assert set(entry["config"]["shown"]) <= set(entry["values"][0]["columns"])
    assert 3 <= len(entry["config"]["shown"]) <= 6
    assert entry["values"][0]["columns"]["events"]["gain"] == 0
    read = recorded_scores(entry)
    assert np.allclose(read["ATST"]["events"], scores["ATST"]["events"])
    assert "training heard" in entry["data"] and entry["seconds"] > 0


def test_settings_of_tuning_fit_their_encoders():
    for scale in SCALES:
        settings = tuning_settings(scale)
        assert list(settings) == list(RECIPES)
        assert [config.head for config in settings.values()][:2] == ["embedding", "atst"]
        assert (settings["uaMix-MAE"].head == "audiomae") == (scale == "paper")
        assert settings["BYOL-A"].drop_path == 0.0
        assert settings["ATST"] == preset("finetune_atst", scale)
        assert settings["uaMix-MAE"] == preset("finetune_audiomae", scale)
