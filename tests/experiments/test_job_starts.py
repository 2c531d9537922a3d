"""Tuning starts from an encoder with the normalisation that it was trained with, whatever the sounds are."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.data.audio import save_audio
from audiossl_lite.data.packing import pack
from audiossl_lite.data.sounds import synthetic_clips
from audiossl_lite.experiments.jobs import find_start, open_source, run_job, start_frontend
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.pretrained import load_shipped
from audiossl_lite.pretrained.shipped import load_encoder
from audiossl_lite.training.identity import module_digest
from audiossl_lite.views.mixtures import CroppedViews, TuningViews

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
    with pytest.raises(
        ValueError, match="of audiomae_tiny for 208 frames, these .* tune .* of 400"
    ):
        run_job("uamix_head", "lite", "", None, start="audiomae_sounds", **options)
    with pytest.raises(ValueError, match="uamix_sounds is an encoder of audiomae_compact"):
        run_job("uamix_head", "workshop", "", None, start="uamix_sounds", **options)


def test_a_store_of_another_normalisation_than_the_start_s_is_refused(tmp_path):
    audio = tmp_path / "audio" / "noise"
    audio.mkdir(parents=True)
    save_audio(audio / "0.wav", (0.1 * torch.randn(32_000)).clamp(-1, 1))
    pack(tmp_path / "audio", tmp_path / "store", kind="audiomae", workers=0)
    job, config = find_job("uamix_head"), preset("uamix", "paper")
    own, other = AudioMAEFrontend(1024), AudioMAEFrontend(1024, -6.0, 3.0)
    _, frontend = open_source(job, config, str(tmp_path / "store"), frontend=own)
    assert constants(frontend) == constants(own)
    with pytest.raises(ValueError, match=r"store is normalised by mean -4\.268 and std 4\.569"):
        open_source(job, config, str(tmp_path / "store"), frontend=other)


def test_a_run_of_before_crops_were_a_setting_is_known_by_the_same_identity():
    one, two = (CroppedViews(16, 0.0, TuningViews("none"), n) for n in ("one", "two"))
    before, other = module_digest(one), module_digest(two)
    del one.segments
    assert module_digest(one) == before != other


def test_a_start_that_nobody_takes_is_refused_and_a_tilde_is_a_home(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="byola starts from nothing, got start='x'; leave it out"):
        run_job("byola", "lite", "", None, device="cpu", start="x")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mae.pth").touch()
    assert find_start(find_job("uamix_head"), "~/mae.pth") == tmp_path / "mae.pth"
