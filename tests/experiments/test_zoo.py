"""The encoders under evaluation: names, random starts, resuming, and the settings they are trained with."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from audiossl_lite.common.parameters import SCALES
from audiossl_lite.data.held_out import held_out_classes
from audiossl_lite.experiments import build
from audiossl_lite.experiments.networks import SHIPPED_ENCODERS
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.studies import Finished
from audiossl_lite.experiments.study_set import encoder_set
from audiossl_lite.pretrained import load_shipped
from tests.experiments.tiny_sets import shared_set, tiny_pools, tiny_set


@pytest.fixture(scope="module")
def pools():
    return tiny_pools()


@pytest.fixture(scope="module")
def trained():
    return shared_set()


def test_paper_steps_are_those_of_the_methods():
    runs = preset("encoders", "paper")
    assert runs.byola_steps == preset("byola", "paper").steps
    assert runs.byola_batch_size == preset("byola", "paper").batch_size
    assert runs.atst_steps == preset("atst", "paper").steps
    assert runs.atst_batch_size == preset("atst", "paper").batch_size
    assert runs.momentum == preset("atst", "paper").momentum == preset("byola", "paper").momentum
    assert runs.mae_steps == preset("audiomae", "paper").steps
    assert runs.tuning_steps == preset("uamix", "paper").steps
    assert runs.head_steps == preset("uamix", "paper").head_steps


def test_settings_change_steps_batch_and_momentum_alone(pools):
    fields = ("steps", "batch_size", "momentum", "probe_every", "warmup_steps")
    for scale in SCALES:
        zoo = encoder_set(pools, preset("encoders", scale), scale, device="cpu")
        for method, name in (("BYOL-A", "byola"), ("ATST", "atst")):
            config = zoo.config(method)
            changed = {field: getattr(config, field) for field in fields}
            assert config == replace(preset(name, scale), **changed), (method, scale)
            assert config.warmup_steps <= config.steps


def test_every_encoder_embeds_every_pool(trained, pools):
    clips = [pool.test for pool in pools]
    found = trained.features(0, clips)
    assert list(found) == ["log-mel statistics", "MFCC statistics", *trained.names()]
    for name, features in found.items():
        for part, x in zip(clips, features, strict=True):
            assert x.shape[0] == len(part) and torch.isfinite(x).all(), name
    for method in ("BYOL-A", "ATST", "AudioMAE"):
        assert not torch.equal(found[method][0], found[f"{method}, untrained"][0])
    assert not torch.equal(found["uaMix-MAE"][0], found["AudioMAE"][0])


@pytest.mark.parametrize("name", SHIPPED_ENCODERS)
def test_a_shipped_encoder_is_one_for_all_seeds_and_not_of_the_set(trained, pools, name):
    assert name not in trained.names()
    first, other = (trained.network(name, seed) for seed in (0, 7))
    clips = pools[0].test.subset(range(4))
    embedded = first.embed(clips)
    assert torch.equal(embedded, other.embed(clips)) and not first.encoder.training
    ready = load_shipped(SHIPPED_ENCODERS[name])
    torch.testing.assert_close(ready.embed(clips.waveforms, clips.lengths), embedded)


def test_training_never_hears_the_held_out_classes(trained, pools):
    for part, pool in zip(trained.heard, pools, strict=True):
        names = part.class_names[part.task]
        heard, held = {names[i] for i in part.labels[part.task].tolist()}, held_out_classes(names)
        assert heard and heard.isdisjoint(held) and heard | set(held) == set(names)
        assert set(part.names) < set(pool.train.names)
    n_heard = sum(map(len, trained.heard))
    assert all(len(trained.prepared(config).data) == n_heard for config in trained.configs.values())
    assert trained.unlabelled.labels["none"].unique().tolist() == [-1]
    ready = trained.prepared(trained.configs["uaMix-MAE"])
    row = int(ready.lengths.argmin())
    past_end = ready.data[row, ready.lengths[row] :]
    assert len(past_end) and (past_end == ready.frontend.pad_value).all()


def test_a_random_start_is_where_training_starts():
    made = tiny_set()
    made = made.changed("ATST", replace(made.configs["ATST"], steps=1))
    start = made.network("ATST, untrained", 3).encoder
    other = made.network("ATST, untrained", 4).encoder
    trained = made.network("ATST", 3).encoder

    def furthest(a, b):
        pairs = zip(a.parameters(), b.parameters(), strict=True)
        return max(float((p - q).detach().abs().max()) for p, q in pairs)

    # One step of a teacher with a slow average moves every weight by very little.
    assert 0 < furthest(start, trained) < 1e-2 < furthest(start, other)


def test_finished_runs_are_read_back(pools, tmp_path, trained):
    once = tiny_set(tmp_path).network("ATST", 0).embed(pools[0].test)
    files = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.pt")}
    second = tiny_set(tmp_path)
    assert torch.equal(once, second.network("ATST", 0).embed(pools[0].test))
    assert files == {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.pt")}
    assert second.seconds > 0
    # The folder changes nothing about the result.
    assert torch.equal(once, trained.network("ATST", 0).embed(pools[0].test))


def test_other_ways_of_tuning_have_names(trained, pools):
    paper = trained.network("uaMix-MAE", 0).embed(pools[0].test)
    same = trained.network(f"uaMix-MAE: {trained.variant}", 0).embed(pools[0].test)
    other = trained.network("uaMix-MAE: MixUp + LS", 0).embed(pools[0].test)
    assert torch.equal(paper, same) and not torch.equal(paper, other)


def test_an_unknown_name_is_told(trained):
    with pytest.raises(KeyError, match="known: BYOL-A, ATST"):
        trained.network("wav2vec", 0)
    with pytest.raises(KeyError, match="unknown encoder"):
        trained.network("uaMix-MAE, untrained", 0)
    with pytest.raises(KeyError, match="No Mixing"):
        trained.network("uaMix-MAE: Stir", 0)


def test_encoders_without_a_folder_are_read_from_the_shared_one(tmp_path, monkeypatch):
    """A second set, as of another chapter, trains nothing that the first one has trained."""
    monkeypatch.setenv("AUDIOSSL_ENCODERS", str(tmp_path))
    first = tiny_set().network("ATST", 0).encoder

    def trained_again(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(build, "train", trained_again)
    assert same_weights(tiny_set().network("ATST", 0).encoder, first)
    with pytest.raises(AssertionError, match="trained again"):
        tiny_set().network("ATST", 1)


def test_a_piece_of_work_waits_for_another_process_at_it(tmp_path):
    there = Finished(tmp_path)
    code = (
        "import sys; from audiossl_lite.experiments.studies import Finished\n"
        "print('ready', flush=True)\n"
        "with Finished(sys.argv[1]).alone('x'): print('at it')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with there.alone("x"), there.alone("y"):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
    assert other.communicate(timeout=60)[0] == "at it\n"


def same_weights(one, other) -> bool:
    return all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
