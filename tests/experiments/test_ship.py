"""The shipped encoder at toy size: trained, scored beside its baselines, recorded, written with its card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from audiossl_lite.evaluation.statistics import mean_interval
from audiossl_lite.experiments import ship
from audiossl_lite.experiments.build_uamix import tuning_pools
from audiossl_lite.experiments.records import load
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.zoo import EncoderSet
from audiossl_lite.pretrained.shipped import describe_encoder, load_encoder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    small = replace(preset("audiomae", "lite"), clips_per_class=4, clip_s=1.0)
    pools = tuning_pools("", small)
    config = preset(
        "byola", "lite",
        ship.SETTINGS | {"encoder": "byola_tiny", "steps": 3, "hidden_dim": 32, "batch_size": 16, "warmup_steps": 1},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("ship")
    return EncoderSet(pools, {ship.METHOD: config}, device="cpu", output_dir=folder, n_episodes=20)


@pytest.fixture(scope="module")
def scores(encoders):
    return ship.ship_scores(encoders, [0, 1])


def test_every_row_is_scored_on_the_same_columns(scores):
    assert list(scores) == [
        "log-mel statistics", "MFCC statistics", "CNN, InfoNCE, untrained", "CNN, InfoNCE",
    ]  # fmt: skip
    assert len({tuple(row) for row in scores.values()}) == 1
    assert scores["CNN, InfoNCE"]["events, never heard"].shape == (2, 20)
    assert scores["log-mel statistics"]["events, never heard"].shape == (1, 20)


def test_training_changes_the_encoder(encoders, scores):
    start, end = (encoders.network(name, 0).encoder.parameters() for name in encoders.names())
    assert any(not torch.equal(a, b) for a, b in zip(start, end, strict=True))


def test_record_card_and_file_tell_the_same(encoders, scores, tmp_path):
    entry = ship.record_ship(encoders, tmp_path / "shipped_workshop.json", scores, [0, 1])
    assert load(tmp_path / "shipped_workshop.json") == entry
    assert entry["config"]["shown"][0] == "events, never heard"
    assert entry["seeds"] == [0, 1] and entry["seconds"] > 0
    path = ship.write_encoder(encoders, tmp_path, entry, 0)
    wave = 0.1 * torch.randn(2, 16_000)
    network = encoders.network(ship.METHOD, 0)
    torch.testing.assert_close(
        load_encoder(path).embed(wave), network.encoder(network.frontend(wave)).detach()
    )
    about = describe_encoder(path)["about"]
    assert about["record"] == "shipped_workshop" and about["seed"] == 0 and about["steps"] == 3
    card = path.with_suffix(".md").read_text()
    golden = describe_encoder(path)["golden"]
    assert f"gave {golden[0]:.4g}, {golden[1]:.4g}, " in card and len(golden) == 128
    for row in entry["values"]:
        mean = row["columns"]["events, never heard"]["mean"]
        assert f"| {row['name']} | {mean:.1f} ±" in card


def test_beating_means_separated_intervals():
    rng = np.random.default_rng(0)
    column = "events, never heard"
    scores = {
        "log-mel statistics": {column: rng.normal(40, 5, (1, 600))},
        "near": {column: np.array([49.0, 50.0, 51.0])[:, None] + rng.normal(0, 1, (3, 600))},
        ship.METHOD: {column: np.array([51.0, 52.0, 53.0])[:, None] + rng.normal(0, 1, (3, 600))},
    }
    assert ship.beats(scores, column) == {"log-mel statistics": True, "near": False}
    mean, half = mean_interval(scores[ship.METHOD][column])
    assert mean - half > 41
