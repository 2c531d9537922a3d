"""What becomes of any file that claims to be audio."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiossl_lite.data.audio import SAMPLE_RATE_HZ, AudioError, load_audio, save_audio
from tests.data.sounds import hum, put


def strongest_hz(waveform: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(waveform).abs()
    return float(spectrum.argmax()) * SAMPLE_RATE_HZ / len(waveform)


@pytest.mark.parametrize(
    ("name", "rate_hz", "options", "tolerance"),
    [
        ("a.wav", 16_000, {}, 1e-4),
        ("a.wav", 16_000, {"subtype": "PCM_U8"}, 1e-2),
        ("a.wav", 16_000, {"subtype": "PCM_24"}, 1e-6),
        ("a.wav", 16_000, {"subtype": "FLOAT"}, 1e-7),
        ("a.wav", 16_000, {"subtype": "DOUBLE"}, 1e-7),
        ("a.flac", 44_100, {}, 5e-3),
        ("a.wav", 96_000, {}, 5e-3),
        ("a.wav", 8_000, {}, 5e-3),
        ("a.wav", 11_025, {}, 5e-3),
        ("a.ogg", 48_000, {}, 5e-2),
        ("a.mp3", 44_100, {}, 5e-2),
    ],
)
def test_any_rate_depth_and_format_becomes_16_khz_mono(tmp_path, name, rate_hz, options, tolerance):
    path = put(tmp_path / name, hum(1.0, rate_hz), rate_hz, **options)
    waveform = load_audio(path)
    assert waveform.dtype == torch.float32
    assert waveform.ndim == 1
    assert abs(len(waveform) - SAMPLE_RATE_HZ) <= 2500 * (name.endswith("mp3")) + 1
    assert strongest_hz(waveform) == pytest.approx(440, abs=2)
    if not name.endswith("mp3"):  # mp3 may shift the start
        middle = slice(2000, 14_000)
        expected = torch.from_numpy(hum(1.0))[middle]
        assert (waveform[middle] - expected).abs().max() < tolerance


def test_channels_are_averaged(tmp_path):
    stereo = np.stack([hum(), 0.5 * hum()], axis=1)
    waveform = load_audio(put(tmp_path / "stereo.wav", stereo, subtype="FLOAT"))
    assert torch.allclose(waveform, 0.75 * torch.from_numpy(hum()), atol=1e-6)


def test_values_above_one_are_kept(tmp_path):
    waveform = load_audio(put(tmp_path / "loud.wav", 4 * hum(), subtype="FLOAT"))
    assert float(waveform.max()) == pytest.approx(2.0, abs=0.01)


def write_bad(kind: str, folder):
    """A bad file of this kind and a word that its error must contain."""
    path = folder / f"{kind}.wav"
    if kind == "missing":
        return path, "no such file"
    if kind == "directory":
        path.mkdir()
        return path, "folder"
    if kind == "text":
        path.write_text("this is not audio")
        return path, "unreadable"
    if kind == "zero bytes":
        path.write_bytes(b"")
        return path, "unreadable"
    if kind == "cut in the header":
        path.write_bytes(put(path).read_bytes()[:20])
        return path, "unreadable"
    samples = {
        "empty": hum()[:0],
        "silent": np.zeros(8000, np.float32),
        "cancelling": np.stack([hum(), -hum()], axis=1),
        "nan": np.where(np.arange(8000) == 100, np.nan, hum()),
        "infinite": np.where(np.arange(8000) == 100, np.inf, hum()),
        "short": hum()[:100],
    }[kind]
    put(path, samples, subtype="FLOAT")
    words = {"cancelling": "silent", "nan": "NaN", "infinite": "infinite", "short": "too short"}
    return path, words.get(kind, kind)


BAD_KINDS = ["missing", "directory", "text", "zero bytes", "cut in the header", "empty", "silent"]
BAD_KINDS += ["cancelling", "nan", "infinite", "short"]


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_a_bad_file_is_an_error_that_names_file_fault_and_remedy(tmp_path, kind):
    path, word = write_bad(kind, tmp_path)
    with pytest.raises(AudioError, match=word) as caught:
        load_audio(path)
    assert str(path) in str(caught.value)
    assert "; " in str(caught.value)  # what is wrong; what to do
    assert caught.value.reason in str(caught.value)


def test_a_file_cut_in_the_middle_is_an_error_or_its_readable_part(tmp_path):
    whole = put(tmp_path / "whole.wav")
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:8044])
    assert torch.equal(load_audio(cut), load_audio(whole)[:4000])
    cut_flac = tmp_path / "cut.flac"
    cut_flac.write_bytes(put(tmp_path / "whole.flac", hum(2.0)).read_bytes()[:3000])
    try:
        assert 0 < len(load_audio(cut_flac)) <= 32_000
    except AudioError as error:
        assert error.reason in ("unreadable", "empty")


def test_half_a_second_unicode_names_and_allowed_silence(tmp_path):
    assert len(load_audio(put(tmp_path / "Vögel 鳥 é.wav"))) == 8000
    silent = put(tmp_path / "silent.wav", np.zeros(8000))
    assert not load_audio(silent, allow_silent=True).any()
    with pytest.raises(AudioError, match="too short"):
        load_audio(put(tmp_path / "half.wav"), min_s=1.0)


def test_save_and_load_round_trip(tmp_path):
    waveform = torch.from_numpy(hum())
    path = save_audio(tmp_path / "out.flac", waveform)
    assert (load_audio(path) - waveform).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("name", "waveform", "word"),
    [
        ("a.wav", torch.tensor([0.0, 1.5]), "peak 1.5"),
        ("a.wav", torch.tensor([0.0, float("nan")]), "NaN"),
        ("a.wav", torch.zeros(2, 3, 4), "shape"),
        ("a.wav", torch.zeros(0), "shape"),
        ("a.xyz", torch.zeros(10), "suffix"),
    ],
)
def test_save_refuses_what_a_file_cannot_hold(tmp_path, name, waveform, word):
    with pytest.raises(ValueError, match=word):
        save_audio(tmp_path / name, waveform)
    assert not (tmp_path / name).exists()
