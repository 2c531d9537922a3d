"""The study of what a probe is given: its rows, its folds, and what it reads of a finished study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from audiossl_lite.encoders import ATSTEncoder, AudioMAEEncoder
from audiossl_lite.evaluation import Labelled
from audiossl_lite.experiments import poolings
from audiossl_lite.experiments.networks import Network
from audiossl_lite.experiments.poolings import LOG_MEL, POOLS, features_of, main, pooling_scores
from audiossl_lite.experiments.real_sounds.sounds import decoded
from audiossl_lite.experiments.records import load
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend
from tests.evaluation.toys import names, noise, seeded


@pytest.fixture(scope="module")
def encoders() -> list[Network]:
    atst = seeded(lambda: ATSTEncoder(24, 2, 2)).eval()
    mae = seeded(lambda: AudioMAEEncoder(24, 2, 2, n_frames=64, n_mels=64)).eval()
    frontend = AudioMAEFrontend(256, n_mels=64)
    return [Network("A", atst, ATSTFrontend("paper"), 41), Network("B", mae, frontend, 64)]


def test_pools_see_cls_means_layers_and_tokens_of_a_clip(encoders):
    waves, lengths = 0.1 * noise(3, 12_000), torch.tensor([12_000, 12_000, 7_000])
    for network in encoders:
        parts, tokens, counts = features_of(network, waves, lengths)
        assert parts["all layers, gated"].shape == (3, 2, 24)
        assert torch.equal(parts["mean"][:, 0], parts["all layers, gated"][:, -1])
        assert parts["all layers, side by side"].shape == (3, 1, 48)
        assert counts[2] < counts[0] <= tokens.shape[1]
        assert not torch.allclose(parts["CLS"], parts["mean"])


def test_a_probe_finds_classes_that_are_there():
    targets = torch.arange(60) % 3
    data = Labelled(
        torch.eye(3)[targets][:, None] + 0.01 * noise(60, 1, 3),
        targets,
        names(3),
        groups=torch.arange(60),
    )
    found = poolings.accuracy("mean", data, torch.arange(60) // 3 % 5)
    assert found.shape == (poolings.N_TESTED,) and found.mean() > 90


def test_every_encoder_has_a_row_for_every_pool(encoders, tmp_path, monkeypatch):
    corpus, _ = decoded(tmp_path, None, toy=True)
    (name,) = {t.name for t in poolings.tasks(list(corpus.sounds))} & {"events"}
    monkeypatch.setattr(poolings, "N_TESTED", 1)
    monkeypatch.setattr(poolings, "TASKS", (name,))
    scores = pooling_scores(corpus, encoders[:1], poolings.TASKS)
    assert list(scores) == [LOG_MEL, *(f"A: {pool}" for pool in POOLS)]
    assert all(0 <= row[f"{name}, never heard"].item() <= 100 for row in scores.values())

    monkeypatch.setattr(poolings, "networks", lambda runs: iter(encoders[:1]))
    assert main(["--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    entry = load(Path(tmp_path, "out", "records", "poolings_workshop.json"))
    assert [row["name"] for row in entry["values"]] == list(scores)
    mean = next(row for row in entry["values"] if row["name"] == "A: mean")
    assert np.isclose(next(iter(mean["columns"].values()))["gain"], 0)


def test_without_the_sounds_of_a_study_it_says_what_to_do(tmp_path, capsys):
    assert main(["--runs", str(tmp_path)]) == 2
    assert "workshop --out" in capsys.readouterr().err
