"""What becomes of any file that claims to be audio."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from audiossl_lite.data.audio import SAMPLE_RATE_HZ, AudioError, load_audio, save_audio
from tests.data.sounds import hum, put


def strongest_hz(waveform: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(waveform).abs()
    return float(spectrum.argmax()) * SAMPLE_RATE_HZ / len(waveform)


# Suffix, rate, depth (none: the format's own), and how near the samples are to those that were written.
FORMATS = [
    ("wav", 16_000, None, 1e-4), ("wav", 16_000, "PCM_U8", 1e-2), ("wav", 16_000, "PCM_24", 1e-6),
    ("wav", 16_000, "FLOAT", 1e-7), ("wav", 16_000, "DOUBLE", 1e-7), ("flac", 44_100, None, 5e-3),
    ("wav", 96_000, None, 5e-3), ("wav", 8_000, None, 5e-3), ("wav", 11_025, None, 5e-3),
    ("ogg", 48_000, None, 5e-2), ("mp3", 44_100, None, math.inf),  # mp3 may shift the start
]  # fmt: skip


def test_any_rate_depth_and_format_becomes_16_khz_mono(tmp_path):
    middle = slice(2000, 14_000)
    faults = []
    for suffix, rate_hz, subtype, tolerance in FORMATS:
        path = put(tmp_path / f"a.{suffix}", hum(1.0, rate_hz), rate_hz, subtype=subtype)
        waveform = load_audio(path)
        assert waveform.dtype == torch.float32 and waveform.ndim == 1
        longer = abs(len(waveform) - SAMPLE_RATE_HZ)
        gap = (waveform[middle] - torch.from_numpy(hum(1.0))[middle]).abs().max()
        if longer > (2501 if suffix == "mp3" else 1) or gap >= tolerance:
            faults.append((suffix, rate_hz, subtype, longer, gap))
        if abs(strongest_hz(waveform) - 440) > 2:
            faults.append((suffix, rate_hz, subtype, strongest_hz(waveform)))
    assert faults == []


def test_channels_are_averaged(tmp_path):
    stereo = np.stack([hum(), 0.5 * hum()], axis=1)
    waveform = load_audio(put(tmp_path / "stereo.wav", stereo, subtype="FLOAT"))
    assert torch.allclose(waveform, 0.75 * torch.from_numpy(hum()), atol=1e-6)


def test_values_above_one_are_kept(tmp_path):
    waveform = load_audio(put(tmp_path / "loud.wav", 4 * hum(), subtype="FLOAT"))
    assert float(waveform.max()) == pytest.approx(2.0, abs=0.01)


def test_a_bad_file_is_an_error_that_names_file_fault_and_remedy(tmp_path):
    at_100 = np.arange(8000) == 100
    # What the file holds (samples, bytes, or nothing at all) and a word that its error must contain.
    bad = {
        "missing": (None, "no such file"),
        "folder": (None, "folder"),
        "text": (b"this is not audio", "unreadable"),
        "zero bytes": (b"", "unreadable"),
        "cut in the header": (put(tmp_path / "whole.wav").read_bytes()[:20], "unreadable"),
        "empty": (hum()[:0], "empty"),
        "silent": (np.zeros(8000, np.float32), "silent"),
        "cancelling": (np.stack([hum(), -hum()], axis=1), "silent"),
        "nan": (np.where(at_100, np.nan, hum()), "NaN"),
        "infinite": (np.where(at_100, np.inf, hum()), "infinite"),
        "short": (hum()[:100], "too short"),
    }
    (tmp_path / "folder.wav").mkdir()
    for kind, (content, word) in bad.items():
        path = tmp_path / f"{kind}.wav"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            put(path, content, subtype="FLOAT")
        with pytest.raises(AudioError, match=word) as caught:
            load_audio(path)
        said = str(caught.value)
        assert str(path) in said and caught.value.reason in said, kind
        assert "; " in said, kind  # what is wrong; what to do


def test_a_file_cut_in_the_middle_is_an_error_or_its_readable_part(tmp_path):
    whole = put(tmp_path / "whole.wav")
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:8044])
    with pytest.warns(UserWarning, match="lost its end"):
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


def test_save_refuses_what_a_file_cannot_hold(tmp_path):
    for name, waveform, word in (
        ("a.wav", torch.tensor([0.0, 1.5]), "peak 1.5"),
        ("a.wav", torch.tensor([0.0, math.nan]), "NaN"),
        ("a.wav", torch.zeros(2, 3, 4), "shape"),
        ("a.wav", torch.zeros(0), "shape"),
        ("a.xyz", torch.zeros(10), "suffix"),
    ):
        with pytest.raises(ValueError, match=word):
            save_audio(tmp_path / name, waveform)
    assert not list(tmp_path.iterdir())
