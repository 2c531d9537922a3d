"""Pin: every job is built from its name, runs, chains with the one before it, and names what is wrong."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audiossl_lite.common.parameters import ParameterError, make_parameters
from audiossl_lite.data.audio import save_audio
from audiossl_lite.data.packing import pack
from audiossl_lite.data.sounds import synthetic_clips
from audiossl_lite.encoders import byola_tiny
from audiossl_lite.experiments import jobs
from audiossl_lite.experiments.build_mae import make_mae
from audiossl_lite.experiments.jobs import (
    find_start,
    make_parts,
    open_source,
    run_job,
    store_kind,
    synthetic_source,
)
from audiossl_lite.experiments.pretrain import JobRequest, main
from audiossl_lite.experiments.settings.jobs import JOBS, find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import BYOLAFrontend
from audiossl_lite.pretrained.shipped import load_encoder, save_encoder
from audiossl_lite.training import Compute, load_checkpoint, save_checkpoint
from audiossl_lite.training.run_folder import RunFolder
from audiossl_lite.training.sources import InMemory

FEW_TUNING = {"steps": 2, "batch_size": 4, "log_every": 1}
FEW = FEW_TUNING | {"warmup_steps": 0}


@pytest.fixture(autouse=True)
def few_clips(monkeypatch):
    """Jobs on embedded sounds take 2 s of one clip of each class, whatever their preset says."""

    def make(pool="event", **_):
        return synthetic_clips(pool, clips_per_class=1, duration_s=2.0)

    monkeypatch.setattr("audiossl_lite.experiments.build.synthetic_clips", make)


def test_made_up_clips_have_the_papers_shapes():
    expected = {
        "byola": ((2, 160_000), "BYOLAFrontend"), "atst_official": ((2, 160_000), "ATSTFrontend"),
        "atst_paper": ((2, 1001, 64), "ATSTFrontend"), "audiomae": ((2, 1024, 128), "AudioMAEFrontend"),
    }  # fmt: skip
    for name in JOBS:
        job = find_job(name)
        config = preset(job.experiment, "paper")
        source, frontend = synthetic_source(job, config, 2)
        shape = tuple(source.batch(torch.arange(2), "cpu")[0].shape)
        kind = getattr(config, "frontend", "audiomae")
        assert (shape, type(frontend).__name__) == expected[kind], name
        assert store_kind(job, config) == job.store
        if kind.startswith("atst"):
            assert kind == f"atst_{frontend.variant}"


def test_the_jobs_have_the_papers_numbers():
    assert {name: job.n_clips for name, job in JOBS.items()} == {
        "byola": 1_963_807, "atst_small": 200_000, "atst_base": 2_000_000, "audiomae": 2_000_000,
        "atst_small_official": 200_000, "atst_base_official": 2_000_000, "eat": 2_000_000,
        "uamix_head": 20_550, "uamix": 20_550,
    }  # fmt: skip
    epochs = {
        "atst_small": 300, "atst_base": 200, "audiomae": 33, "eat": 9.6, "uamix_head": 40, "uamix": 160,
        "byola": 100, "atst_small_official": 300, "atst_base_official": 244,
    }  # fmt: skip
    for name, job in JOBS.items():
        source, frontend = (
            InMemory(torch.zeros(2, 2)),
            jobs.default_frontend(job, preset(job.experiment, "paper")),
        )
        assert len(source) == 2 and frontend.hop_s == 0.01
        config = preset(job.experiment, "paper")
        steps = config.head_steps if job.step == 1 else config.steps
        batch = config.head_batch_size if job.step == 1 else config.batch_size
        assert steps == pytest.approx(epochs[name] * (job.n_clips // batch), rel=0.003), name


def test_a_run_is_resumed_and_ends_as_if_it_had_not_stopped(tmp_path):
    whole = run_job("atst_small", "lite", "", tmp_path / "a", device="cpu", overrides=FEW)
    run_job("atst_small", "lite", "", tmp_path / "b", device="cpu", overrides=FEW, stop_after=1)
    resumed = run_job("atst_small", "lite", "", tmp_path / "b", device="cpu", overrides=FEW)
    assert resumed.started_at == 1
    for ours, theirs in zip(resumed.method.parameters(), whole.method.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["byola", "audiomae"])
def test_a_finished_run_leaves_its_encoder_and_a_record(tmp_path, name):
    run_job(name, "lite", "", tmp_path, device="cpu", overrides=FEW, stop_after=1)
    assert not (tmp_path / "encoder.safetensors").exists()
    result = run_job(name, "lite", "", tmp_path, device="cpu", overrides=FEW, seed=0)
    kept = load_encoder(tmp_path / "encoder.safetensors")
    theirs = next(iter(result.method.encoders.values())).state_dict()
    for key, value in kept.encoder.state_dict().items():
        assert torch.equal(value, theirs[key]), key
    assert torch.isfinite(kept.embed(torch.randn(1, 64_000))).all()
    entry = json.loads((tmp_path / "record.json").read_text())
    assert entry["experiment"] == name and entry["config"]["steps"] == 2
    assert entry["values"][1]["mean"] == result.history[-1]["loss"]


def test_step_2_starts_from_step_1_which_starts_from_the_masked_autoencoder(tmp_path):
    run_job("audiomae", "lite", "", tmp_path / "mae", device="cpu", overrides=FEW)
    head = {"head_steps": 2, "head_batch_size": 4, "log_every": 1}
    options = {"device": "cpu", "start": str(tmp_path / "mae")}
    first = run_job("uamix_head", "lite", "", tmp_path / "head", overrides=head, **options)
    encoder = {
        key.removeprefix("encoder."): value
        for key, value in load_checkpoint(tmp_path / "mae" / "last.pt")["method"].items()
        if key.startswith("encoder.")
    }
    for key, value in first.method.encoder.state_dict().items():
        assert torch.equal(value, encoder[key]), key
    options = {"device": "cpu", "start": str(tmp_path / "head")}
    second = run_job("uamix", "lite", "", tmp_path / "tuned", overrides=FEW_TUNING, **options)
    lower = len(second.method.encoder.blocks) // 2
    for key, value in second.method.encoder.state_dict().items():
        if key.startswith(tuple(f"blocks.{n}." for n in range(lower))):
            assert torch.equal(value, encoder[key]), key
    left = load_checkpoint(tmp_path / "head" / "last.pt")["method"]["queue.ids"]
    assert (left >= 0).sum() == 8  # what two steps of four clips put into the queue
    assert (second.method.queue.ids >= 0).sum() > 8


@pytest.mark.parametrize("name", ["uamix_head", "uamix"])
def test_a_missing_start_is_named(name, tmp_path, capsys):
    job = find_job(name)
    with pytest.raises(ValueError, match=f"{name} starts from {job.after}: give its output_dir"):
        run_job(name, "lite", "", None, device="cpu")
    asked = tmp_path / "a.yaml"
    asked.write_text(f"overrides: {{job: {name}, start: {tmp_path}}}\n")
    assert main([str(asked)]) == 2  # before anything is measured or read
    assert f"{tmp_path} holds no last.pt. Run {job.after} first" in capsys.readouterr().err


def test_an_unfinished_run_is_not_started_from(tmp_path):
    start = {"device": "cpu", "start": str(tmp_path / "mae")}
    run_job("audiomae", "lite", "", tmp_path / "mae", device="cpu", overrides=FEW, stop_after=1)
    with pytest.raises(ValueError, match=r"mae is not finished\. Run it to its end first"):
        run_job("uamix_head", "lite", "", None, **start)
    with pytest.raises(ValueError, match="mae is not finished"):
        run_job("uamix", "lite", "", None, **start)


def finished(folder: Path, name: str) -> str:
    """A folder as a finished run of the job leaves it."""
    save_checkpoint(folder / "last.pt", {"method": {}, "step": 2})
    options = {"maker": "byola_tiny", "about": {"job": name}}
    save_encoder(folder / "encoder.safetensors", byola_tiny(), BYOLAFrontend(), **options)
    return str(folder)


@pytest.mark.parametrize(
    ("name", "start"),
    [("uamix_head", "uamix_head"), ("uamix", "audiomae"), ("uamix_head", "byola"), ("uamix", "uamix")],
)  # fmt: skip
def test_a_run_of_the_wrong_kind_is_not_started_from(tmp_path, name, start):
    job = find_job(name)
    with pytest.raises(
        ValueError, match=f"{name} starts from {job.after}: .*holds a run of {start}$"
    ):
        find_start(job, finished(tmp_path, start))
    assert find_start(job, finished(tmp_path, job.after)) == tmp_path


def test_spoiled_weights_are_not_started_from(tmp_path):
    run_job("audiomae", "lite", "", tmp_path, device="cpu", overrides=FEW)
    state = load_checkpoint(tmp_path / "last.pt")
    state["method"]["encoder.cls_token"][0, 0, 0] = float("nan")
    save_checkpoint(tmp_path / "last.pt", state)
    with pytest.raises(ValueError, match=r"last\.pt holds spoiled weights: encoder\.cls_token"):
        run_job("uamix_head", "lite", "", None, device="cpu", start=str(tmp_path))
    save_checkpoint(tmp_path / "last.pt", {"step": state["step"]})
    with pytest.raises(ValueError, match=r"last\.pt is no checkpoint of a run"):
        run_job("uamix_head", "lite", "", None, device="cpu", start=str(tmp_path))


@pytest.fixture
def audio(tmp_path) -> Path:
    folder = tmp_path / "audio"
    (folder / "noise").mkdir(parents=True)
    for number, waveform in enumerate(0.1 * torch.randn(6, 16_000)):
        save_audio(folder / "noise" / f"{number}.wav", waveform.clamp(-1, 1))
    return folder


def test_a_store_of_the_right_kind_is_read_and_another_is_refused(audio, tmp_path):
    job, config = find_job("atst_small"), preset("atst", "lite")
    pack(audio, tmp_path / "right", kind="atst_paper", workers=0)
    source, frontend = open_source(job, config, str(tmp_path / "right"))
    assert type(frontend).__name__ == "ATSTFrontend" and len(source) == 6
    assert source.batch(torch.arange(2), "cpu")[0].shape[2] == 64
    found = run_job(
        "atst_small", "lite", str(tmp_path / "right"), None, device="cpu", overrides=FEW | {"segment_s": 0.5}
    )  # fmt: skip
    assert found.history[-1]["step"] == 2
    message = "packed as 'atst_paper', audiomae reads 'audiomae'; make it with: .*--kind audiomae"
    with pytest.raises(ValueError, match=message):
        open_source(find_job("audiomae"), preset("audiomae", "lite"), str(tmp_path / "right"))
    official = preset("atst", "lite", {"frontend": "atst_official"})
    with pytest.raises(
        ValueError, match="packed as 'atst_paper', atst_small reads 'atst'; .*--kind atst"
    ):
        open_source(job, official, str(tmp_path / "right"))
    pack(audio, tmp_path / "official", kind="atst", workers=0)
    assert open_source(job, official, str(tmp_path / "official"))[1].variant == "official"
    pack(audio, tmp_path / "sounds", kind="waveform", workers=0)
    code = find_job("atst_small_official"), preset("atst_official", "lite")
    source, frontend = open_source(*code, str(tmp_path / "sounds"))
    assert source.batch(torch.arange(2), "cpu")[0].dim() == 2 and frontend.variant == "official"
    with pytest.raises(ValueError, match="atst_small_official reads 'waveform'; .*--kind waveform"):
        open_source(*code, str(tmp_path / "official"))
    other = preset("atst", "lite", {"frontend": "byola"})
    with pytest.raises(ValueError, match="no packed store holds spectrograms of frontend='byola'"):
        open_source(job, other, str(tmp_path / "right"))


def test_filter_banks_of_a_store_are_those_of_the_settings_or_refused(audio, tmp_path):
    folder = str(tmp_path / "store")
    pack(audio, folder, kind="audiomae", workers=0)
    message = (
        "n_mels=128, normalisation=audioset, audiomae asks for n_mels=64, normalisation=fitted"
    )
    with pytest.raises(ValueError, match=message):
        run_job("audiomae", "workshop", folder, None, device="cpu")
    alike = FEW | {"n_mels": 128, "normalisation": "audioset"}
    result = run_job("audiomae", "lite", folder, None, device="cpu", overrides=alike)
    assert result.history[-1]["step"] == 2
    job, shorter = find_job("uamix"), preset("uamix", "paper", {"n_frames": 512, "gain_db": 0.0})
    source, frontend = open_source(job, shorter, folder)  # tuning crops what is longer
    small = replace(shorter, hidden_dim=8, predictor_dim=8, queue_size=8)
    start = make_mae(preset("audiomae", "lite", {"n_mels": 128, "n_frames": 512})).encoder
    parts = make_parts(job, small, frontend, start=start)
    spec, lengths = source.batch(torch.arange(2), "cpu")
    views = parts.views(spec, torch.Generator().manual_seed(0), lengths, ids=torch.arange(2))
    assert spec.shape[1] == 1024 and views[0].shape[1] == views[1].shape[1] == 512


def test_a_request_survives_its_way_through_a_file():
    overrides = {
        "job": "uamix", "start": "runs/head", "processes": 2, "n_parts": 4, "recompute": True,
        "mixing": "mixup",
    }  # fmt: skip
    asked = JobRequest.from_parameters(
        make_parameters({"preset": "workshop", "seed": 3, "overrides": overrides})
    )
    assert asked == JobRequest(
        "uamix", "workshop", "", "", 3, "auto", "runs/head", 2,
        Compute(n_parts=4, recompute=True), {"mixing": "mixup"},
    )  # fmt: skip
    again = json.loads(json.dumps(asked.as_parameters()))
    assert JobRequest.from_parameters(make_parameters(again)) == asked
    assert JobRequest.from_parameters(make_parameters({}), "byola").job == "byola"
    with pytest.raises(KeyError, match="unknown job ''"):
        JobRequest.from_parameters(make_parameters({}))


def test_several_processes_need_a_folder():
    asked = make_parameters({"overrides": {"job": "byola", "processes": 2}})
    with pytest.raises(ParameterError, match="several processes need an output_dir"):
        JobRequest.from_parameters(asked).run()


def test_several_processes_run_here_leave_their_result_and_say_what_failed(tmp_path: Path):
    asked = JobRequest(
        "byola", "lite", "", str(tmp_path / "two"), 0, "cpu", processes=2,
        overrides=FEW | {"clips_per_class": 1},
    )  # fmt: skip
    assert asked.run() is None
    state = load_checkpoint(tmp_path / "two" / "last.pt")
    assert state["step"] == FEW["steps"]
    assert "byola: 2 steps" in (tmp_path / "two" / "torchrun.log").read_text()
    (tmp_path / "empty").mkdir()
    wrong = replace(asked, data_root=str(tmp_path / "empty"), output_dir=str(tmp_path / "no"))
    with pytest.raises(
        RuntimeError, match=r"torchrun\.log(.|\n)*ValueError: .*no audio file found"
    ):
        wrong.run()


def test_the_command_says_what_it_costs_runs_and_refuses(tmp_path: Path, capsys):
    asked = tmp_path / "a.yaml"
    overrides = json.dumps(FEW | {"job": "atst_small"})
    asked.write_text(f"device: cpu\noutput_dir: {tmp_path / 'out'}\noverrides: {overrides}\n")
    assert main([str(asked)]) == 0
    shown = capsys.readouterr().out
    assert shown.index("2 steps of 4 clips") < shown.index("atst_small: 2 steps in")
    assert load_checkpoint(tmp_path / "out" / "last.pt")["step"] == 2
    changes = ["-p", "seed=1", "-p", "overrides=steps=3", "-p", f"output_dir={tmp_path / 'two'}"]
    assert main([str(asked), "--no-estimate", *changes]) == 0
    assert load_checkpoint(tmp_path / "two" / "last.pt")["step"] == 3  # the job stays
    assert "device-hours" not in capsys.readouterr().out
    for change, message in (
        ("overrides=job=atst_small,stepz=1", "unknown setting 'stepz'"),
        ("seed=x", "'seed' must be a whole number, got 'x'"),
        ("data_root=not/there", "does not exist"),
    ):
        assert main([str(asked), "-p", change]) == 2
        assert message in capsys.readouterr().err
    assert main([str(asked), "-p", "overrides=batch_size=1000000"]) == 2
    assert "batch_size=1000000 needs more memory than there is" in capsys.readouterr().err
    assert main([str(tmp_path / "b.yaml")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    with contextlib.closing(RunFolder(tmp_path / "two")):  # another run is at work there
        assert main([str(asked), "--no-estimate", *changes]) == 1
    assert "is training into" in capsys.readouterr().err
