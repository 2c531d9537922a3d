"""What a header, a rate or a file type claims is not believed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from audiossl_lite.data import audio, pack
from audiossl_lite.data.audio import AudioError, load_audio, read_audio, resample
from audiossl_lite.data.datasets import load_clips
from tests.data import bad_sounds
from tests.data.sounds import hum, put

N_KINDS = len(bad_sounds.KINDS)


def test_every_kind_of_bad_file_among_good_ones_is_counted_once_and_nothing_blocks():
    command = [sys.executable, "-m", "tests.data.bad_sounds", "--bad", str(N_KINDS), "--good", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"8 read, {N_KINDS} counted" in done.stdout


def test_the_sweep_sees_what_is_let_in_and_what_is_lost(tmp_path, monkeypatch):
    kinds = {
        "good one": ("wav", "silent", put),
        "miscounted": ("wav", "empty", bad_sounds.KINDS["text"][2]),
    }
    monkeypatch.setattr(bad_sounds, "KINDS", kinds)
    faults = bad_sounds.sweep(tmp_path, 2, 1)
    assert len(faults) == 6 and any("was let in" in fault for fault in faults)


def test_the_header_is_not_the_amount(tmp_path):
    whole = put(tmp_path / "whole.flac", hum(2.0))
    samples = load_audio(whole)
    for name, stated, is_cut_off in (("unknown", 0, False), ("too many", 10**10, True)):
        content = tmp_path / f"{name}.flac"
        content.write_bytes(whole.read_bytes())
        waveform, cut_off = read_audio(bad_sounds.state_flac_length(content, stated))
        assert torch.equal(waveform, samples) and cut_off is is_cut_off, name
    too_few = bad_sounds.state_flac_length(put(tmp_path / "few.flac", hum(8.0)), 16_000)
    with pytest.raises(AudioError, match="more than its header says"):
        load_audio(too_few)


def test_files_last_as_long_as_the_limit_says(tmp_path, monkeypatch):
    path = put(tmp_path / "long.flac", hum(3.0))
    monkeypatch.setattr(audio, "LONGEST_S", 3.0)
    assert len(load_audio(path)) == 48_000
    monkeypatch.setattr(audio, "LONGEST_S", 2.9)
    with pytest.raises(
        AudioError, match=r"too long \(3 s by its header, more than 2.9 s\).*LONGEST_S"
    ):
        load_audio(path)


def test_blocks_give_what_reading_at_once_gives(tmp_path, monkeypatch):
    noise = 0.1 * np.random.default_rng(0).standard_normal((30_000, 3))
    for suffix in ("wav", "flac", "ogg"):
        path = put(tmp_path / f"a.{suffix}", noise)
        at_once = load_audio(path)
        with monkeypatch.context() as patch:
            patch.setattr(audio, "BLOCK_SAMPLES", 1000)
            assert torch.equal(load_audio(path), at_once), suffix


def test_files_that_lost_their_end_are_kept_and_named(tmp_path, tmp_path_factory, capsys):
    for suffix in ("wav", "aiff", "mp3"):
        path = put(tmp_path / "dog" / f"cut.{suffix}", hum(4.0))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    put(tmp_path / "dog" / "whole.ogg", hum(4.0))
    ogg = tmp_path / "dog" / "cut.ogg"
    soundfile.write(ogg, np.random.default_rng(0).uniform(-0.5, 0.5, 960_000), 16_000)
    ogg.write_bytes(ogg.read_bytes()[: ogg.stat().st_size // 2])
    for suffix in ("wav", "flac", "ogg", "mp3", "aiff"):
        put(tmp_path / "cat" / f"whole.{suffix}", hum(4.0))
    with pytest.warns(UserWarning, match="lost its end, 2.00 s are left"):
        left = load_audio(tmp_path / "dog" / "cut.wav")
    assert torch.equal(left, load_audio(tmp_path / "cat" / "whole.wav")[: len(left)])
    clips = load_clips(tmp_path)
    assert clips.cut_off == ("dog/cut.aiff", "dog/cut.mp3", "dog/cut.ogg", "dog/cut.wav")
    assert "4 clips have lost their end (for example dog/cut.aiff)" in clips.report()
    assert len(clips) == 10 and clips.skipped == ()
    folder = tmp_path_factory.mktemp("packed") / "store"
    for _ in range(2):  # packed again, nothing is forgotten
        assert pack.main([str(tmp_path), str(folder), "--workers", "0"]) == 0
        said = capsys.readouterr().out
        assert ", 4 cut off, packed as waveform" in said
        assert [line[20:] for line in said.splitlines() if "lost its end" in line] == list(
            clips.cut_off
        )


def test_tags_and_chunks_behind_the_sound_are_no_sound(tmp_path):
    for suffix in ("mp3", "flac", "wav"):
        path = put(tmp_path / f"a.{suffix}")
        whole = load_audio(path)
        for tag in (
            b"TAG" + bytes(125),
            b"APETAGEX" + bytes(20_000),
            b"LIST" + bytes(8),
            bytes(9000),
        ):
            tagged = tmp_path / f"tagged.{suffix}"
            tagged.write_bytes(path.read_bytes() + tag)
            assert torch.equal(load_audio(tagged), whole), (suffix, tag[:8])
    late = tmp_path / "late.mp3"
    late.write_bytes(bytes(500) + (tmp_path / "a.mp3").read_bytes())
    assert torch.equal(load_audio(late), load_audio(tmp_path / "a.mp3"))


def test_rates_without_a_common_factor_are_resampled_exactly_and_in_little_memory(monkeypatch):
    waveform = torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal(7919)).float()
    monkeypatch.setattr(torchaudio.functional, "resample", None)  # its table would take gigabytes
    resampled = resample(waveform, 7919).numpy()
    assert len(resampled) == 16_000
    seconds, cutoff = np.arange(7919) / 7919, 0.99 * 7919
    for place in range(0, 16_000, 997):  # the filter, written out for single samples
        zeros = np.clip((seconds - place / 16_000) * cutoff, -6, 6)
        taps = np.sinc(zeros) * np.cos(np.pi * zeros / 12) ** 2 * cutoff / 7919
        assert abs(resampled[place] - (taps * waveform.numpy()).sum()) < 1e-6


def test_both_ways_to_resample_agree(monkeypatch):
    waveform = torch.from_numpy(hum(1.0, 44_100))
    usual = resample(waveform, 44_100)
    monkeypatch.setattr(audio, "LARGEST_KERNEL", 0)
    other = resample(waveform, 44_100)
    assert other.shape == usual.shape and torch.allclose(other, usual, atol=1e-5)


def test_what_grows_infinite_on_the_way_is_refused(tmp_path):
    huge = put(tmp_path / "huge.wav", np.full((8000, 2), 3e38, np.float32), subtype="FLOAT")
    with pytest.raises(AudioError, match="too loud"):
        load_audio(huge)
    peaks = 3e38 * np.sign(hum(0.5, 44_100, 15_000.0))  # finite; the filter overshoots
    with pytest.raises(AudioError, match="too loud"):
        load_audio(put(tmp_path / "peaks.wav", peaks, 44_100, subtype="FLOAT"))
    integers = put(tmp_path / "integers.wav", 2.0**31 * hum(), subtype="FLOAT")
    assert float(load_audio(integers).max()) == 2.0**30


def test_an_estimated_length_of_mp3_is_no_loss(tmp_path):
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
    content = put(tmp_path / "a.mp3", hum(5.0), **options).read_bytes()
    second = content.index(content[:4], 4)  # the first frame holds no sound but the stated length
    tag = b"ID3\x03\0\0\0\0\x10\0" + bytes(2048)  # counted as sound by the estimate
    (tmp_path / "b.mp3").write_bytes(tag + content[second:])
    assert soundfile.info(tmp_path / "b.mp3").duration > 5.1
    waveform, cut_off = read_audio(tmp_path / "b.mp3")
    assert len(waveform) >= 80_000 and not cut_off
