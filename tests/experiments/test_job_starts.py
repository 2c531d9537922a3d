"""Tuning starts from an encoder with the normalisation that it was trained with, whatever the sounds are."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.data.sounds import synthetic_clips
from audiossl_lite.experiments.jobs import open_source, run_job, start_frontend
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.pretrained import load_shipped
from audiossl_lite.pretrained.shipped import load_encoder

HEAD = {"head_steps": 2, "head_batch_size": 4, "log_every": 1}
STEP_2 = {"steps": 2, "batch_size": 4, "log_every": 1}


@pytest.fixture
def louder(monkeypatch):
    """A function that makes the embedded sounds, of which a run takes few, louder by a factor."""

    def by(factor: float) -> None:
        def make(pool="event", **_):
            clips = synthetic_clips(pool, clips_per_class=1, duration_s=2.5)
            clips.waveforms.mul_(factor)
            return clips

        monkeypatch.setattr("audiossl_lite.experiments.build.synthetic_clips", make)

    return by


def constants(frontend: AudioMAEFrontend) -> tuple[float, float, int]:
    return frontend.mean, frontend.std, frontend.n_mels


def test_the_shipped_masked_autoencoder_is_tuned_on_ones_own_sounds(tmp_path, louder):
    louder(0.05)
    shipped = load_shipped("audiomae_sounds")
    first = run_job(
        "uamix_head", "workshop", "", tmp_path / "head", device="cpu",
        overrides=HEAD, start="audiomae_sounds",
    )  # fmt: skip
    for key, value in first.method.encoder.state_dict().items():
        assert torch.equal(value, shipped.encoder.state_dict()[key]), key
    second = run_job(
        "uamix", "workshop", "", tmp_path / "tuned", device="cpu",
        overrides=STEP_2, start=str(tmp_path / "head"),
    )  # fmt: skip
    half = len(shipped.encoder.blocks) // 2
    same = {
        key: torch.equal(value, shipped.encoder.state_dict()[key])
        for key, value in second.method.encoder.state_dict().items()
        if key.startswith("blocks.")
    }
    assert all(kept for key, kept in same.items() if int(key.split(".")[1]) < half)
    assert not all(same.values())
    for folder in ("head", "tuned"):
        left = load_encoder(tmp_path / folder / "encoder.safetensors")
        assert constants(left.frontend) == constants(shipped.frontend)


def test_a_run_is_tuned_with_the_normalisation_of_its_start_not_of_the_new_sounds(tmp_path, louder):
    louder(1.0)
    few = {"steps": 2, "batch_size": 4, "log_every": 1, "warmup_steps": 0}
    run_job("audiomae", "lite", "", tmp_path / "mae", device="cpu", overrides=few)
    louder(0.01)
    start = start_frontend(tmp_path / "mae")
    run_job(
        "uamix_head", "lite", "", tmp_path / "head", device="cpu",
        overrides=HEAD, start=str(tmp_path / "mae"),
    )  # fmt: skip
    left = load_encoder(tmp_path / "head" / "encoder.safetensors").frontend
    assert constants(left) == constants(start)
    _, fitted = open_source(find_job("uamix_head"), preset("uamix", "lite"), "")
    assert abs(fitted.mean - start.mean) > 1  # the new sounds would have given others


def test_an_encoder_of_another_kind_or_size_is_no_start():
    options = {"device": "cpu", "overrides": HEAD}
    with pytest.raises(ValueError, match="atst_sounds is an encoder of atst_compact"):
        run_job("uamix_head", "workshop", "", None, start="atst_sounds", **options)
    with pytest.raises(ValueError, match="audiomae_sound holds no last.pt"):
        run_job("uamix_head", "workshop", "", None, start="audiomae_sound", **options)
    with pytest.raises(ValueError, match=r"audiomae_sounds\.safetensors does not fit"):
        run_job("uamix_head", "lite", "", None, start="audiomae_sounds", **options)
