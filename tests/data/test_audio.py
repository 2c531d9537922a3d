"""What becomes of any file that claims to be audio."""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch

from audiossl_lite.common.commands import printable
from audiossl_lite.data import audio
from audiossl_lite.data.audio import (
    SAMPLE_RATE_HZ,
    AudioError,
    load_audio,
    save_audio,
)
from tests.data import bad_sounds
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


def test_samples_on_the_scale_of_whole_numbers_are_kept_with_a_warning(tmp_path):
    path = put(tmp_path / "int16.wav", 60_000 * hum(), subtype="FLOAT")
    with pytest.warns(
        UserWarning, match=r"int16\.wav: peak 3\d{4} where full scale is 1; .*divide"
    ):
        assert float(load_audio(path).max()) > 29_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio(put(tmp_path / "loud.wav", 4 * hum(), subtype="FLOAT"))


def test_a_file_that_is_too_long_says_how_long_it_is_and_how_long_it_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "LONGEST_S", 1.0)
    with pytest.raises(AudioError) as caught:
        load_audio(put(tmp_path / "long.flac", hum(3.0)))
    assert caught.value.reason == "too long"
    assert caught.value.full.startswith(
        "too long (3 s by its header, more than 1 s); cut it into pieces"
    )
    bad_sounds.state_flac_length(tmp_path / "long.flac", 0)
    with pytest.raises(AudioError, match=r"too long \(more than 1 s\); cut"):
        load_audio(tmp_path / "long.flac")


def test_names_are_printed_without_what_moves_a_terminal():
    for name in ("Vögel 鳥 é.wav", "a b|c\u3000d.wav"):
        assert printable(name) == name
    assert printable("a\n\x1b[2J\x9b\u2028\udce9.wav") == r"a\n\x1b[2J\x9b\u2028\udce9.wav"


def test_a_bad_file_is_an_error_that_names_file_fault_and_remedy(tmp_path):
    """Of the kinds of `bad_sounds` those that are made at once, and some more."""
    floats = partial(put, subtype="FLOAT")
    slow = ("too long", "name that is not UTF-8", "format that is not read (.m4a)")
    kinds = {kind: made for kind, made in bad_sounds.KINDS.items() if made[1] not in slow} | {
        "missing": ("wav", "no such file", lambda path: None),
        "cut in the header": ("wav", "unreadable", lambda path: bad_sounds.cut(path, 0.0003)),
        "cancelling": ("wav", "silent", lambda p: floats(p, np.stack([hum(), -hum()], axis=1))),
        "infinite": ("wav", "not finite", lambda path: floats(path, hum() + np.inf)),
    }
    for kind, (suffix, reason, write) in kinds.items():
        path = tmp_path / f"{kind}.{suffix}"
        write(path)
        with pytest.raises(AudioError) as caught:
            load_audio(path)
        assert caught.value.reason == reason, kind
        assert str(caught.value).startswith(f"{path}: {reason} ("), kind
        assert "; " in str(caught.value), kind  # what is wrong; what to do


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
