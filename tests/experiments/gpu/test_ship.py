"""Encoders of a run of `make gpu` are shipped: written in 8 bits, scored on what they never heard, described."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from audiossl_lite.data.corpus import embedded_sounds
from audiossl_lite.data.joined import read_corpus
from audiossl_lite.data.sounds.synthetic import POOLS, synthetic_clips
from audiossl_lite.experiments.gpu import ship
from audiossl_lite.experiments.real_sounds import learnt, sounds
from audiossl_lite.experiments.real_sounds.scores import draw_scores
from audiossl_lite.experiments.records import load
from audiossl_lite.pretrained import load_masked_autoencoder
from audiossl_lite.pretrained.shipped import describe_encoder, load_encoder
from audiossl_lite.views.masks import draw_masking
from tests.experiments.gpu.tasks import toy_task


def test_a_run_ships_its_encoders_with_scores_and_cards(tmp_path, monkeypatch, capsys):
    run, models = tmp_path / "run", tmp_path / "models"
    with pytest.raises(FileNotFoundError, match="holds no encoder of learnt_cnn"):
        ship.write_encoders(run, models)
    sounds.run(toy_task("sounds", run))
    for name in ("learnt_atst", "learnt_cnn"):
        learnt.run(toy_task(name, run))
    # The sounds of a folder would take long here; those of the run are the same thing.
    monkeypatch.setattr(ship, "decoded", lambda out, data: (read_corpus(run / "sounds"), True))
    (run / "ship").mkdir()
    arguments = ["--run", str(run), "--data", "", "--models", str(models)]
    assert ship.main(arguments) in (0, 1)
    assert "atst_sounds: " in capsys.readouterr().out

    path = models / "atst_sounds.safetensors"
    scored = load(run / "records" / "shipped_sounds.json")
    names = [row["name"] for row in scored["values"]]
    assert names == [
        "log-mel statistics", "MFCC statistics", "cnn_events, shipped before",
        "CNN, InfoNCE, untrained", "cnn_sounds", "ATST, untrained", "atst_sounds",
    ]  # fmt: skip
    assert all(column.endswith("never heard") for column in scored["config"]["ways"])
    half = run / "encoders" / "learnt_atst.safetensors"
    assert path.stat().st_size < 0.7 * half.stat().st_size
    wave = 0.1 * torch.randn(2, 16_000)
    before, after = load_encoder(half).embed(wave), load_encoder(path).embed(wave)
    assert 0 < (after - before).norm() / before.norm() < 0.05
    card = path.with_suffix(".md").read_text()
    row = next(row for row in scored["values"] if row["name"] == "atst_sounds")
    assert f"| atst_sounds | {row['mean']:.1f} ± {row['ci95']:.1f} |" in card
    golden = describe_encoder(path)["golden"]
    assert f"{golden[0]:.4g}, {golden[1]:.4g}" in card and "8 steps of 16 clips" in card
    assert not (models / "uamix_sounds.safetensors").exists()

    # What the record has of other encoders stays; one of other sounds is refused before anything is written.
    record = run / "records" / "shipped_sounds.json"
    entry = json.loads(record.read_text())
    entry["values"].append(row | {"name": "another"})
    record.write_text(json.dumps(entry))
    assert ship.main(arguments) in (0, 1)
    assert [r["name"] for r in load(record)["values"]] == [*names, "another"]
    record.write_text(json.dumps(entry | {"data": "other sounds"}))
    path.unlink()
    with pytest.raises(ValueError, match=r"shipped_sounds\.json is of other sounds; move it away"):
        ship.main(arguments)
    assert not path.exists()
    record.write_text(json.dumps(entry))

    # A second call reads the features again.
    kept = sorted((run / "ship").glob("features_*.pt"))
    stamps = [file.stat().st_mtime_ns for file in kept]
    ship.main(arguments)
    assert [file.stat().st_mtime_ns for file in kept] == stamps


def test_scores_on_what_was_never_heard_are_those_of_all_tasks():
    parts = [(pool, synthetic_clips(pool, clips_per_class=4, duration_s=0.55)) for pool in POOLS]
    listed = embedded_sounds(parts)
    every, never = draw_scores(listed, 5), draw_scores(listed, 5, heard=False)
    assert len(never.used) < len(every.used)
    assert [c.name for c in never.columns] == [c.name for c in every.columns if "never" in c.name]
    for column in never.columns:
        same = next(c for c in every.columns if c.name == column.name)
        for part in ("support", "query"):
            a, b = (getattr(c.episodes, part) for c in (same, column))
            assert torch.equal(a >= 0, b >= 0)
            assert torch.equal(
                every.clips[same.pool][a[a >= 0]], never.clips[column.pool][b[b >= 0]]
            )


def test_a_baseline_that_is_not_beaten_is_named():
    def row(name: str, mean: float) -> dict:
        return {"name": name, "columns": {"events, never heard": {"mean": mean, "ci95": 1.0}}}

    scored = {
        "values": [row("log-mel statistics", 40.0), row("MFCC statistics", 44.5), row("mine", 45.0)]
    }
    assert ship.beaten(scored, "mine") == {"log-mel statistics": True, "MFCC statistics": False}


def test_a_masked_autoencoder_ships_with_its_decoder_and_only_at_its_length(tmp_path, monkeypatch):
    run, models = tmp_path / "run", tmp_path / "models"
    sounds.run(toy_task("sounds", run))
    learnt.run(toy_task("learnt_audiomae", run))
    source = ship.encoder_path(run, "learnt_audiomae")
    steps = describe_encoder(source)["about"]["steps"]
    shipped = ship.Shipped("mae", "A network.", "Nothing.", record="other", steps=steps + 1)
    monkeypatch.setattr(ship, "SHIPS", {"learnt_audiomae": shipped})
    with pytest.raises(FileNotFoundError, match="holds no encoder of learnt_audiomae"):
        ship.write_encoders(run, models)
    monkeypatch.setattr(ship, "SHIPS", {"learnt_audiomae": replace(shipped, steps=steps)})
    (path,) = ship.write_encoders(run, models).values()
    assert describe_encoder(path)["about"]["record"] == "other"
    whole, in_8_bits = load_masked_autoencoder(source), load_masked_autoencoder(path)
    n_frames, n_mels = whole.decoder.n_frames, whole.decoder.n_mels
    spec = torch.randn(2, n_frames, n_mels)
    grid, generator = (n_frames // 16, n_mels // 16), torch.Generator().manual_seed(0)
    masking = draw_masking(2, grid, generator, ratio=0.5)
    a, b = (mae.reconstruct(spec, masking) for mae in (whole, in_8_bits))
    assert 0 < (a - b).norm() / a.norm() < 0.05
