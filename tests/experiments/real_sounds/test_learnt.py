"""Stages "learnt" at toy size: every method end to end, a cut stage goes on, encoders that can be loaded."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from audiossl_lite.data.joined import read_corpus, waveforms_of
from audiossl_lite.encoders import atst_compact, audiomae_compact
from audiossl_lite.experiments.gpu.stages import STAGES
from audiossl_lite.experiments.real_sounds import learnt, sounds
from audiossl_lite.experiments.real_sounds.recipes import (
    METHODS,
    make_recipe,
    settings_of,
    with_steps,
)
from audiossl_lite.experiments.real_sounds.scores import embed_network, load_scores
from audiossl_lite.experiments.real_sounds.task import Stage, Task
from audiossl_lite.experiments.records import load
from audiossl_lite.pretrained.shipped import describe_encoder, load_encoder

CPU = torch.device("cpu")


def task_of(out: Path, name: str, seconds: float = 600.0, **options) -> Task:
    stage = Stage(name, name, "audiossl_lite.experiments.real_sounds.learnt:run", options=options)
    return Task(stage, CPU, seconds, time.monotonic(), out, None, toy=True)


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A run whose sounds are decoded and whose masked autoencoder is trained."""
    out = tmp_path_factory.mktemp("run")
    sounds.run(task_of(out, "sounds"))
    learnt.run(task_of(out, "learnt_audiomae", method="audiomae"))
    return out


def check(entry: dict, names: list[str]) -> None:
    """Rows of the record in order, a curve that ends with the run, numbers that belong together."""
    assert entry["complete"] and entry["scale"] == "toy"
    assert [row["name"] for row in entry["values"]] == [
        "log-mel statistics", "MFCC statistics", "log-mel statistics, standardised",
        "MFCC statistics, standardised", *names,
    ]  # fmt: skip
    for row in entry["values"]:
        assert {"events, heard", "events, never heard"} <= set(row["columns"])
        assert all(0 <= column["mean"] <= 100 for column in row["columns"].values())
    trained = next(row for row in entry["values"] if "curve" in row)
    assert [point["step"] for point in trained["curve"]] == entry["training"]["plan"]["points"]
    assert (
        trained["curve"][-1]["step"] == entry["training"]["steps"] == entry["training"]["of_steps"]
    )
    last = trained["curve"][-1]["events, never heard"]
    assert last == pytest.approx(trained["columns"]["events, never heard"]["mean"])
    assert 0 < len(entry["history"]) <= learnt.SHOWN_ROWS and entry["history"][-1]["loss"] > 0
    assert entry["headline"].startswith("events, never heard: ")


ROWS = {
    "atst": ["ATST, untrained", "ATST", "ATST, student"],
    "byola": ["BYOL-A, untrained", "BYOL-A", "BYOL-A, student"],
    "cnn": ["CNN, InfoNCE, untrained", "CNN, InfoNCE"],
    "audiomae": ["AudioMAE, untrained", "AudioMAE"],
    "eat": ["EAT, untrained", "EAT", "EAT, teacher"],
    "uamix": ["untrained encoder", "AudioMAE, as pretrained", "uaMix-MAE: MixUp + LS"],
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_trained_scored_and_written(out, method):
    name = f"learnt_{method}"
    task = task_of(out, name, method=method, **({"mixing": "mixup"} if method == "uamix" else {}))
    if method != "audiomae":
        learnt.run(task)
    entry = load(task.record_path)
    check(entry, ROWS[method])
    # The file embeds as the record's encoder did: the scores come out again.
    copy = task.out / "encoders" / f"{name}.safetensors"
    assert copy.stat().st_size == entry["encoder"]["bytes"] < learnt.FILE_BYTES
    loaded = load_encoder(copy)
    corpus = read_corpus(out / "sounds")
    scores = load_scores(out / "sounds" / "scores.pt")
    clips = waveforms_of(corpus, CPU, scores.used[:40:10])
    wave, lengths = clips.batch(torch.arange(len(clips)))
    chunk_frames = entry["encoder"]["chunk_frames"]
    features = embed_network(loaded.encoder, loaded.frontend, clips, chunk_frames)
    alone = torch.cat([loaded.embed(w[None, :n]) for w, n in zip(wave, lengths)])
    assert torch.isfinite(alone).all() and alone.std(0).max() > 0
    torch.testing.assert_close(alone, features, atol=2e-3, rtol=2e-3)
    assert describe_encoder(copy)["about"]["record"] == f"gpu_{name}"


def test_a_stage_that_was_cut_goes_on_where_it_was(out, monkeypatch):
    whole = task_of(out, "whole", method="cnn", seed=3)
    learnt.run(whole)
    cut = task_of(out, "cut", method="cnn", seed=3)
    plan = json.loads((whole.folder / "plan.json").read_text())
    (cut.folder / "plan.json").write_text(json.dumps(plan))
    train, calls = learnt.train, []

    def killed_in_the_second_call(*args, **options):
        calls.append(options["stop_after"])
        if len(calls) == 2:  # some steps, and then the end
            train(*args, **options | {"stop_after": plan["points"][0] + 1})
            raise KeyboardInterrupt
        return train(*args, **options)

    monkeypatch.setattr(learnt, "train", killed_in_the_second_call)
    with pytest.raises(KeyboardInterrupt):
        learnt.run(cut)
    partly = load(cut.record_path)
    assert not partly["complete"] and partly["training"]["steps"] == plan["points"][0]
    assert len(partly["values"]) == 6  # what it had is there
    monkeypatch.setattr(learnt, "train", train)
    monkeypatch.setattr(
        learnt._Stage, "seconds_per_step", lambda *_: pytest.fail("the steps were chosen again")
    )
    learnt.run(task_of(out, "cut", method="cnn", seed=3))
    again, entry = load(cut.record_path), load(whole.record_path)
    assert again["complete"]
    for ours, theirs in zip(again["values"], entry["values"], strict=True):
        assert ours["columns"] == theirs["columns"]
    assert [p["step"] for p in again["values"][-1]["curve"]] == plan["points"]


def test_a_stage_like_another_takes_its_steps_and_changes_what_its_options_say(out):
    first = json.loads((out / "stages" / "learnt_audiomae" / "plan.json").read_text())
    task = task_of(out, "other", method="audiomae", seed=1, like="learnt_audiomae", gain_db=0.0)
    learnt.run(task)
    plan = json.loads((task.folder / "plan.json").read_text())
    assert (
        plan["config"] == first["config"] | {"gain_db": 0.0} and plan["points"] == first["points"]
    )
    assert load(task.record_path)["seeds"] == [1]


def test_without_the_sounds_or_the_start_the_stage_says_what_it_needs(out, tmp_path):
    with pytest.raises(RuntimeError, match="the stage 'sounds' decodes them first"):
        learnt.run(task_of(tmp_path, "x", method="atst"))
    with pytest.raises(FileNotFoundError, match="no encoder at .*nowhere"):
        learnt.run(task_of(out, "x", method="uamix", start="nowhere"))
    with pytest.raises(KeyError, match="unknown method 'byol'"):
        learnt.run(task_of(out, "x", method="byol"))


def test_settings_are_those_of_the_preset_and_of_the_options():
    config = settings_of(
        {"method": "atst", "encoder": "atst_compact"}, torch.device("cuda"), toy=False
    )
    assert config.encoder == "atst_compact" and config.precision == "bf16-mixed"
    assert config.momentum == config.final_momentum == 0.99
    assert settings_of({"method": "atst"}, CPU, toy=False).precision == "32-true"
    cnn = settings_of({"method": "cnn"}, CPU, toy=False)
    assert (cnn.method, cnn.segments, cnn.encoder) == ("contrastive", "two", "byola_cnn")
    tuning = with_steps(settings_of({"method": "uamix", "mixing": "none"}, CPU, toy=False), 800)
    assert (tuning.head_steps, tuning.steps, tuning.mixing) == (100, 700, "none")


def test_the_compact_encoders_fit_in_a_file_that_can_be_brought_back():
    for encoder in (atst_compact(), audiomae_compact(n_frames=208)):
        n_values = sum(v.numel() for v in encoder.state_dict().values())
        assert 12 * 2**20 < 2 * n_values < learnt.FILE_BYTES


def test_the_stages_of_learnt_can_be_made():
    mine = [
        stage
        for stage in STAGES
        if stage.function.startswith("audiossl_lite.experiments.real_sounds.learnt")
    ]
    names = {stage.name for stage in STAGES}
    assert [stage.options["method"] for stage in mine[:7]] == [
        "atst", "audiomae", "uamix", "uamix", "uamix", "cnn", "byola",
    ]  # fmt: skip
    for stage in STAGES:
        for key in ("like", "start"):
            if key == "like" or stage.options.get("method") == "uamix":
                assert stage.options.get(key, "learnt_audiomae") in names
    for stage in mine:
        assert settings_of(stage.options, CPU, toy=False).precision == "32-true"


def test_in_company_fewer_steps_are_planned_and_the_plan_of_another_is_waited_for(out, monkeypatch):
    monkeypatch.setattr(learnt._Stage, "seconds_per_step", lambda *_: 0.01)
    monkeypatch.setattr(learnt._Stage, "_seconds_of_scoring", lambda *_: 0.0)
    corpus, scores = read_corpus(out / "sounds"), load_scores(out / "sounds" / "scores.pt")
    clips = waveforms_of(corpus, CPU, scores.used)

    def plan(name: str, together: int, seconds: float = 60.0, **options) -> dict:
        options = {"method": "atst", "seed": 0} | options
        task = Task(
            Stage(name, name, "x", options=options), CPU, seconds, time.monotonic(), out,
            together=together,
        )  # fmt: skip
        recipe = make_recipe(options, corpus, out, CPU, toy=True)
        return learnt._Stage(task, options, recipe, scores, clips, "", "").plan()

    alone, shared = (plan(f"plan_{n}", n)["config"]["steps"] for n in (1, 2))
    assert shared == pytest.approx(learnt.IN_COMPANY * alone, rel=0.02)
    assert plan("plan_like", 2, like="plan_2")["config"]["steps"] == shared
    with pytest.raises(RuntimeError, match="plan_nobody has made no plan of its steps"):
        plan("plan_late", 2, seconds=0.5, like="plan_nobody")


def test_a_long_history_is_thinned_with_both_ends():
    rows = [{"step": i} for i in range(1000)]
    thin = learnt.thinned(rows)
    assert len(thin) == learnt.SHOWN_ROWS and (thin[0], thin[-1]) == (rows[0], rows[-1])
    assert learnt.thinned(rows[:5]) == rows[:5]


@pytest.mark.parametrize(
    ("measured", "taken"),
    [(0.5, ("step", 0.5)), (2.0, ("none", 1.0)), (RuntimeError("no kernel"), ("none", 1.0))],
)
def test_a_program_that_fails_or_is_slower_is_not_taken(measured, taken, capsys):
    """The timed step of the method's job names the program; the run measures it on its own sizes."""
    rows = [
        {"name": "clips per second, fused", "batch": 8, "step_s": 1.0, "first_s": 1.0, "compile": "none"},
        {"name": "clips per second, step", "batch": 8, "step_s": 0.5, "first_s": 9.0, "compile": "step"},
    ]  # fmt: skip
    asked = []

    def seconds_per_step(config, compile):
        asked.append(compile)
        if isinstance(measured, Exception):
            raise measured
        return measured

    def record_of(stage, *, partly):
        return {"fast_byola": {"values": rows}}[stage]

    task = SimpleNamespace(toy=False, record_of=record_of, left=lambda: 100.0)
    stage = SimpleNamespace(task=task, options={"method": "cnn"}, seconds_per_step=seconds_per_step)
    assert learnt._Stage._program(stage, None, 1.0) == taken and asked == ["step"]
    failed = isinstance(measured, Exception)
    assert ("step cannot be compiled" in capsys.readouterr().out) == failed
