"""Frontends: exact against the official outputs, batch equals items, and every error says what to do."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio

from audiossl_lite.common.padding import as_alone
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend

FRONTENDS = {
    "atst_official": lambda: ATSTFrontend("official"),
    "atst_paper": lambda: ATSTFrontend("paper"),
    "byola": BYOLAFrontend,
    "audiomae": lambda: AudioMAEFrontend(n_frames=128),
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference_wave() -> torch.Tensor:
    """Four sines, a little noise and a quarter of a second of digital silence."""
    t = torch.arange(48_000, dtype=torch.float64) / 16_000
    tones = ((0.3, 220), (0.2, 1000), (0.1, 3500), (0.05, 7000))
    wave = sum(gain * torch.sin(2 * math.pi * hz * t) for gain, hz in tones)
    hiss = torch.randn(48_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wave = (wave + 0.01 * hiss).float()
    wave[40_000:44_000] = 0
    return wave[None]


def test_atst_official_equals_the_reference(reference):
    expected = reference("atst_frontend")
    frontend = ATSTFrontend("official")
    out, db = frontend(reference_wave()), frontend.decibels(reference_wave())
    assert out.shape == (1, 301, 64)
    torch.testing.assert_close(out[0, expected["frames"]], expected["out"], atol=1e-5, rtol=0)
    torch.testing.assert_close(db[0, expected["frames"]], expected["db"], atol=5e-4, rtol=0)


@pytest.mark.shared
def test_atst_official_equals_the_full_reference(full_reference):
    expected = full_reference("atst_frontend")
    frontend = ATSTFrontend("official")
    out = frontend(expected["wave"])
    torch.testing.assert_close(out, expected["out"].transpose(1, 2), atol=1e-5, rtol=0)
    power = frontend.power(expected["wave"]).transpose(1, 2)
    torch.testing.assert_close(power, expected["mel_power"], atol=1e-3, rtol=1e-4)


def test_atst_paper_is_hamming_25_ms_without_a_floor_by_loudness():
    mel = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=1024, win_length=400, hop_length=160, f_min=60, f_max=7800, n_mels=64,
        window_fn=torch.hamming_window,
    )  # fmt: skip
    wave = reference_wave()
    db = 10 * torch.log10(mel(wave).clamp_min(1e-10))
    expected = (db + 79.6482) / (50.6842 + 79.6482) * 2 - 1
    out = ATSTFrontend("paper")(wave)
    torch.testing.assert_close(out, expected.transpose(1, 2), atol=1e-5, rtol=0)
    # A quarter second of digital silence reaches -100 dB here, and the 80 dB floor in the official variant.
    floor = (-100 + 79.6482) / (50.6842 + 79.6482) * 2 - 1
    assert out.min().item() == pytest.approx(floor, abs=1e-5)
    official = ATSTFrontend("official").decibels(wave)
    assert official.min().item() == pytest.approx(official.max().item() - 80, abs=1e-3)


def test_byola_is_the_standardised_natural_log_of_the_mel_power():
    mel = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=1024, win_length=1024, hop_length=160, f_min=60, f_max=7800, n_mels=64
    )
    wave = noise(2, 16_000)
    expected = (torch.log(mel(wave) + torch.finfo(torch.float32).eps) + 5.4919195) / 5.0389895
    torch.testing.assert_close(BYOLAFrontend()(wave), expected.transpose(1, 2))


def test_byola_fit_standardises():
    wave = noise(70, 8_000)  # more than one chunk of 64
    out = BYOLAFrontend().fit(wave)(wave)
    assert out.mean().abs() < 1e-3
    assert out.std().item() == pytest.approx(1, abs=1e-3)


def test_atst_fit_maps_the_data_to_minus_one_and_one():
    wave = noise(70, 8_000)
    frontend = ATSTFrontend("paper").fit(wave)
    assert frontend.variant == "paper"
    out = frontend(wave)
    assert out.min().item() == pytest.approx(-1, abs=1e-4)
    assert out.max().item() == pytest.approx(1, abs=1e-4)


def test_audiomae_equals_the_reference(reference):
    expected = reference("audiomae_fbank")
    frontend = AudioMAEFrontend()
    fbank = frontend.fbank(expected["waveform"])
    # The trimmed clip has another mean than the whole one; what remains of that is rounding.
    torch.testing.assert_close(fbank[0, :28], expected["fbank_raw"], atol=3e-4, rtol=0)
    out = frontend(expected["waveform"])
    assert out.shape == (1, 1024, 128)
    torch.testing.assert_close(out[0, :28], expected["fbank_norm"], atol=5e-5, rtol=0)
    torch.testing.assert_close(out[0, -1], expected["padding"], atol=1e-6, rtol=0)
    assert out[0, -1, 0].item() == pytest.approx(0.467, abs=1e-3)


@pytest.mark.shared
def test_audiomae_equals_the_full_reference(full_reference):
    expected = full_reference("audiomae_fbank")
    out = AudioMAEFrontend()(expected["waveform"])
    torch.testing.assert_close(out[0], expected["fbank_norm"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_samples", [400, 559, 560, 8_000, 16_123])
def test_audiomae_equals_torchaudio_kaldi(n_samples):
    wave = noise(1, n_samples, seed=n_samples) + 0.05  # an offset must not matter
    expected = torchaudio.compliance.kaldi.fbank(
        wave - wave.mean(), htk_compat=True, sample_frequency=16_000, use_energy=False,
        window_type="hanning", num_mel_bins=128, dither=0.0, frame_shift=10,
    )  # fmt: skip
    fbank = AudioMAEFrontend().fbank(wave)[0]
    assert fbank.shape == expected.shape
    torch.testing.assert_close(fbank, expected, atol=1e-4, rtol=1e-5)


def test_audiomae_cuts_long_clips():
    out = AudioMAEFrontend(n_frames=20)(noise(1, 16_000))
    torch.testing.assert_close(out, AudioMAEFrontend()(noise(1, 16_000))[:, :20])


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("n_samples", [520, 1600, 9_999])
def test_a_batch_equals_its_items(name, n_samples):
    frontend = FRONTENDS[name]()
    batch = noise(3, n_samples) * torch.tensor([[1.0], [0.001], [5.0]])
    items = torch.cat([frontend(item[None]) for item in batch])
    torch.testing.assert_close(frontend(batch), items, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["atst_official", "atst_paper", "byola"])
@pytest.mark.parametrize("n_samples", [513, 640, 15_199, 15_200, 96_000])
def test_frames_are_samples_over_160_plus_one(name, n_samples):
    frontend = FRONTENDS[name]()
    out = frontend(noise(1, n_samples))
    assert out.shape == (1, n_samples // 160 + 1, 64)
    assert out.dtype == torch.float32
    assert frontend.n_frames(n_samples) == out.shape[1]
    assert frontend.n_frames(torch.tensor([n_samples])).tolist() == [out.shape[1]]


@pytest.mark.parametrize(("n_samples", "frames"), [(400, 1), (559, 1), (560, 2), (160_000, 998)])
def test_audiomae_counts_valid_frames(n_samples, frames):
    frontend = AudioMAEFrontend()
    assert frontend.fbank(noise(1, n_samples)).shape[1] == frames
    assert frontend.n_frames(n_samples) == frames
    assert AudioMAEFrontend(n_frames=500).n_frames(160_000) == 500
    assert AudioMAEFrontend(n_frames=500).n_frames(torch.tensor([160_000])).tolist() == [500]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("atst_official", -1.3123),
        ("atst_paper", -1.3123),
        ("byola", (-15.942385 + 5.4919195) / 5.0389895),
        ("audiomae", -1.2775),
    ],
)
def test_silence_is_finite_and_where_it_should_be(name, value):
    out = FRONTENDS[name]()(torch.zeros(2, 4000))
    valid = out[:, :20]
    torch.testing.assert_close(valid, torch.full_like(valid, value), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", FRONTENDS)
def test_bad_waveforms_are_refused_with_a_reason(name):
    frontend = FRONTENDS[name]()
    with pytest.raises(ValueError, match=r"\(batch, samples\).*\(16000,\)"):
        frontend(torch.zeros(16_000))
    with pytest.raises(ValueError, match=r"batch, samples"):
        frontend(torch.zeros(1, 1, 16_000))
    shortest = frontend.min_samples
    with pytest.raises(ValueError, match=f"{shortest - 1} samples is too short.*{shortest}"):
        frontend(torch.zeros(1, shortest - 1))
    frontend(torch.zeros(1, shortest))
    broken = noise(3, 4000)
    broken[1, 7], broken[2, 9] = math.nan, math.inf
    with pytest.raises(ValueError, match=r"\[1, 2\].*NaN"):
        frontend(broken)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="'paper' or 'official', got 'papper'"):
        ATSTFrontend("papper")
    with pytest.raises(ValueError, match="min_db must be below"):
        ATSTFrontend(min_db=3.0, max_db=3.0)
    with pytest.raises(ValueError, match="std must be positive"):
        BYOLAFrontend(std=0.0)
    with pytest.raises(ValueError, match="std must be positive"):
        BYOLAFrontend().fit(torch.zeros(2, 4000))
    with pytest.raises(ValueError, match="positive"):
        AudioMAEFrontend(n_frames=0)


@pytest.mark.parametrize("name", FRONTENDS)
def test_half_precision_and_double_come_out_as_float32(name):
    wave = noise(1, 4000).double()
    out = FRONTENDS[name]()(wave)
    assert out.dtype == torch.float32


FITTED = {
    "atst paper": (ATSTFrontend("paper"), lambda f: (f.min_db, f.max_db)),
    "atst official": (ATSTFrontend("official"), lambda f: (f.min_db, f.max_db)),
    "byola": (BYOLAFrontend(), lambda f: (f.mean, f.std)),
    "audiomae": (AudioMAEFrontend(16), lambda f: (f.mean, f.std)),
}


@pytest.mark.parametrize("name", FITTED)
def test_a_batch_of_padded_clips_fits_as_the_clips_alone(name):
    frontend, constants = FITTED[name]
    lengths = torch.tensor([4000, 9137, 6400])
    generator = torch.Generator().manual_seed(3)
    clips = [0.3 * torch.randn(1, n, generator=generator) for n in lengths.tolist()]
    padded = torch.cat([torch.nn.functional.pad(c, (0, 12_000 - c.shape[1])) for c in clips])
    fitted = constants(frontend.fit(padded, lengths))
    if name.startswith("atst"):
        alone = [constants(frontend.fit(c)) for c in clips]
        expected = min(a for a, _ in alone), max(b for _, b in alone)
    else:
        compute = frontend.log_mel if name == "byola" else frontend.fbank
        cells = torch.cat([compute(c).flatten() for c in clips])
        expected = cells.mean().item(), cells.std().item()
    assert fitted == pytest.approx(expected, rel=1e-4)
    ignoring = constants(frontend.fit(padded))
    assert ignoring[0] < expected[0] - 0.5  # zeros pull the range or the mean down


def test_full_lengths_change_nothing():
    wave = 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    full = torch.full((3,), 8000)
    for frontend, constants in FITTED.values():
        assert constants(frontend.fit(wave, full)) == pytest.approx(constants(frontend.fit(wave)))


@pytest.mark.parametrize("compute", [None, "decibels"])
def test_the_floor_of_the_code_looks_at_a_clip_s_own_frames(compute):
    """A burst near the end: frames past the end see its mirror image, and may be louder."""
    frontend, alone, lengths = ATSTFrontend("official"), [], torch.tensor([8000, 6001])
    waves = torch.zeros(2, 8000)
    for wave, n in zip(waves, lengths.tolist(), strict=True):
        wave[:n] = 1e-7 * torch.randn(n, generator=torch.Generator().manual_seed(0))
        wave[n - 490 : n - 470] = 1.0
        alone.append(getattr(frontend, compute or "forward")(wave[None, :n])[0])
    view = getattr(frontend, compute) if compute else None
    batch = as_alone(frontend, waves, lengths, view)
    for spec, own in zip(batch, alone, strict=True):
        torch.testing.assert_close(spec[: len(own)], own, atol=1e-3, rtol=1e-3)
