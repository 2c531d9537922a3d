"""Embedding clips in batches, and the baselines, against one clip at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio

from audiossl_lite.data.datasets import load_clips
from audiossl_lite.encoders import atst_tiny, byola_cnn
from audiossl_lite.evaluation import (
    embed_clips,
    embed_with,
    few_shot_accuracy,
    log_mel_statistics,
    mfcc_statistics,
    spectrograms,
)
from audiossl_lite.evaluation.baselines import cosine_transform, mean_and_std
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend

LENGTHS = torch.tensor([16_000, 4_000, 9_999, 700, 16_000, 12_345])


def clips() -> torch.Tensor:
    """Six noises of different colour and length, zero after their end."""
    waves = 0.1 * torch.randn(6, 16_000, generator=torch.Generator().manual_seed(0))
    waves = waves + 0.3 * torch.sin(torch.arange(16_000) * torch.arange(1, 7)[:, None] * 0.03)
    return waves * (torch.arange(16_000) < LENGTHS[:, None])


MEL = {"n_fft": 1024, "hop_length": 160, "n_mels": 64, "f_min": 60, "f_max": 7800}


def test_baselines_equal_torchaudio_clip_by_clip():
    mfcc = torchaudio.transforms.MFCC(16_000, n_mfcc=20, melkwargs=MEL)
    mel = torchaudio.transforms.MelSpectrogram(16_000, **MEL)
    waves = clips()[[0, 4]]
    for baseline, compute, atol in (
        (mfcc_statistics, mfcc, 2e-3),
        (log_mel_statistics, lambda x: torch.log(mel(x) + torch.finfo(torch.float32).eps), 1e-4),
    ):
        frames = compute(waves)  # (2, F, T)
        expected = torch.cat([frames.mean(2), frames.std(2, unbiased=False)], 1)
        torch.testing.assert_close(baseline(waves), expected, atol=atol, rtol=1e-4)


FRONTENDS = {
    "ATST, paper": ATSTFrontend("paper"),
    "ATST, official": ATSTFrontend("official"),
    "BYOL-A": BYOLAFrontend(),
    "AudioMAE": AudioMAEFrontend(128),
    "AudioMAE, clips cut": AudioMAEFrontend(64, n_mels=64),
}


@pytest.mark.parametrize("frontend", FRONTENDS.values(), ids=FRONTENDS)
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_spectrogram_of_a_padded_clip_is_that_of_the_clip_alone(frontend, batch_size):
    lengths = LENGTHS.clone()
    lengths[3] = 1_300
    waves = clips() * (torch.arange(16_000) < lengths[:, None])
    spec, frames = spectrograms(frontend, waves, lengths, batch_size=batch_size)
    assert spec.shape[1] - int(frames.max()) < frontend.frame_multiple
    assert spec.shape[1] % frontend.frame_multiple == 0
    for row, n, wave, length in zip(spec, frames, waves, lengths.tolist(), strict=True):
        assert int(n) == frontend.n_frames(length)
        alone = frontend(wave[None, :length])[0, :n]
        torch.testing.assert_close(row[:n], alone, atol=2e-3, rtol=0)
        assert (row[n:] == frontend.pad_value).all()


def test_filter_banks_of_a_padded_batch_are_those_of_the_batch_with_its_padding_overwritten():
    """No frame of AudioMAE reaches beyond its clip: nothing is mirrored, and not a bit may change."""
    frontend = AudioMAEFrontend(128, -3.0, 4.0)
    spec, frames = spectrograms(frontend, clips(), LENGTHS.clamp_min(1_280))
    n = (LENGTHS.clamp_min(1_280) - 400) // 160 + 1
    assert torch.equal(frames, n)
    expected = frontend(clips())[:, : -(-int(n.max()) // 16) * 16]
    for row, valid in zip(expected, n.tolist(), strict=True):
        row[valid:] = 3.0 / 8.0
    assert torch.equal(spec, expected)


def test_longer_clips_are_cut_to_their_centre_before_the_frontend():
    long = clips()[:1].repeat(1, 2)
    cut, n = spectrograms(ATSTFrontend(), long, max_s=1.0)
    middle, m = spectrograms(ATSTFrontend(), long[:, 8_000:24_000])
    assert torch.equal(cut, middle) and int(n) == int(m) == 101


@pytest.mark.parametrize("baseline", [log_mel_statistics, mfcc_statistics])
def test_a_padded_clip_gives_what_it_gives_alone(baseline):
    waves = clips()
    together = baseline(waves, LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        alone = baseline(waves[i : i + 1, :length], torch.tensor([length]))[0]
        torch.testing.assert_close(together[i], alone, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("maker", [atst_tiny, byola_cnn])
def test_a_padded_clip_is_embedded_as_it_is_alone(maker):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = maker()
    waves = clips()
    keep = LENGTHS >= 4000
    together = embed_clips(encoder, ATSTFrontend(), waves[keep], LENGTHS[keep], batch_size=5)
    for row, wave, length in zip(together, waves[keep], LENGTHS[keep].tolist(), strict=True):
        alone = embed_clips(encoder, ATSTFrontend(), wave[None, :length])[0]
        torch.testing.assert_close(row, alone, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("baseline", [log_mel_statistics, mfcc_statistics])
def test_baselines_survive_silence_and_very_short_clips(baseline):
    waves = torch.zeros(2, 100)
    out = baseline(waves, torch.tensor([100, 30]))
    assert torch.isfinite(out).all()
    half = out.shape[1] // 2
    torch.testing.assert_close(out[:, half:], torch.zeros(2, half), atol=1e-2, rtol=0)


def test_mean_and_std_count_valid_frames_only():
    frames = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0))
    lengths = [10, 3, 1]
    out = mean_and_std(frames, torch.tensor(lengths))
    for row, item, n in zip(out, frames, lengths, strict=True):
        expected = torch.cat([item[:n].mean(0), item[:n].std(0, unbiased=False)])
        torch.testing.assert_close(row, expected)


def test_the_cosine_transform_is_orthonormal_and_torchaudios():
    basis = cosine_transform(64, 64)
    torch.testing.assert_close(basis @ basis.T, torch.eye(64), atol=1e-5, rtol=0)
    expected = torchaudio.functional.create_dct(20, 64, norm="ortho").T
    torch.testing.assert_close(cosine_transform(20, 64), expected, atol=1e-6, rtol=0)


# --- embedding -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_embeddings_come_back_in_the_order_of_the_clips(batch_size):
    def embed(waveform, valid):
        assert waveform.shape[1] == valid.max(), "more padding than the batch needs"
        return torch.stack([waveform.sum(1), valid.float()], dim=1)

    waves = clips()
    out = embed_with(embed, waves, LENGTHS, batch_size=batch_size)
    torch.testing.assert_close(out[:, 0], waves.sum(1), atol=1e-3, rtol=1e-4)
    assert out[:, 1].tolist() == LENGTHS.tolist()


def test_an_embedding_that_is_not_finite_names_the_clips():
    def embed(waveform, valid):
        return torch.where(valid[:, None] == 9_999, math.nan, 1.0)

    with pytest.raises(ValueError, match=r"clips \[2\] is not finite"):
        embed_with(embed, clips(), LENGTHS)
    with pytest.raises(ValueError, match="no clips"):
        embed_with(embed, clips()[:0], LENGTHS[:0])


def test_embed_clips_restores_the_mode_and_takes_no_gradient():
    encoder = byola_cnn()
    outs = []
    for mode in (False, True):
        outs.append(embed_clips(encoder.train(mode), BYOLAFrontend(), clips(), LENGTHS))
        assert encoder.training == mode
        assert not outs[-1].requires_grad and outs[-1].shape == (6, 512)
    assert torch.equal(*outs), "evaluated in train mode: dropout or batch statistics acted"

    def fail(spec, lengths):
        raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        embed_clips(encoder, BYOLAFrontend(), clips(), features=fail)
    assert encoder.training


def test_other_features_of_the_encoder_can_be_asked_for():
    encoder, frontend = atst_tiny().eval(), ATSTFrontend()
    out = embed_clips(encoder, frontend, clips()[[0, 4]], features=encoder.linear_features)
    with torch.no_grad():
        expected = encoder.linear_features(frontend(clips()[[0, 4]]))
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


# --- real audio ------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.slow
def test_the_baselines_on_real_audio_are_near_the_measured_ones(shared):
    """Measured on 50 classes of this fold: log-mel 51.4, MFCC 54.0; here are 40 of them."""
    clips = load_clips(shared / "data" / "ESC-50-fold4")
    waves, labels, sources = clips.waveforms, clips.labels["event"], clips.groups["event"]
    assert waves.shape == (320, 80_000) and len(labels.unique()) == 40
    scores = {}
    for name, baseline in (("log-mel", log_mel_statistics), ("MFCC", mfcc_statistics)):
        features = baseline(waves)
        plain = few_shot_accuracy(features, labels)
        parted = few_shot_accuracy(features, labels, groups=sources)
        scores[name] = plain.mean
        assert 46 <= plain.mean <= 57, (name, plain)
        assert plain.n_query == 7
        assert parted.mean < plain.mean, "parting the recordings must not help"
    assert scores["MFCC"] > scores["log-mel"]
