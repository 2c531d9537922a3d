"""Audio files in and out: any rate, channel count and bit depth to 16 kHz mono float32, or a clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


class AudioError(ValueError):
    """A file that cannot be used as audio; the message names the file, the value and what to do.

    `reason` is the short form, the same words for the same kind of fault, so that faults can be counted.
    """

    def __init__(self, path: str | Path, reason: str, detail: str, remedy: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path}: {reason} ({detail}); {remedy}")


def _read(path: Path) -> tuple[np.ndarray, int]:
    """Samples (S, channels) float32 and their rate, before any check of their content."""
    if not path.exists():
        raise AudioError(
            path, "no such file", "the path does not exist", "check the path or the manifest"
        )
    if path.is_dir():
        raise AudioError(
            path,
            "not a file",
            "the path is a folder",
            "name a file, or pass the folder to load_clips",
        )
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
        detail = f"{path.stat().st_size} bytes; {error}" if path.exists() else str(error)
        remedy = "replace it by an intact WAV, FLAC, OGG or MP3 file"
        raise AudioError(path, "unreadable", detail, remedy) from error
    return samples, rate_hz


def load_audio(path: str | Path, *, min_s: float = 0.05, allow_silent: bool = False) -> Tensor:
    """Read a WAV, FLAC, OGG or MP3 file as 16 kHz mono float32, shape (S,).

    Channels are averaged, then the rate is converted. Values above 1 (float files, or the overshoot of the
    resampling filter) are kept, never clipped or rescaled: the level of a recording is part of it.
    Raises AudioError for a missing, unreadable, empty, NaN or infinite, too short (`min_s` seconds) or
    digitally silent file; `allow_silent` accepts the last.
    """
    path = Path(path)
    samples, rate_hz = _read(path)
    if samples.shape[0] == 0:
        raise AudioError(path, "empty", "0 samples", "remove it or record it again")
    if not np.isfinite(samples).all():
        n_bad = int((~np.isfinite(samples)).sum())
        detail = f"{n_bad} of {samples.size} samples are NaN or infinite"
        raise AudioError(path, "not finite", detail, "write the file again")
    duration_s = samples.shape[0] / rate_hz
    if duration_s < min_s:
        detail = f"{duration_s:.3f} s, at least {min_s} s are needed"
        raise AudioError(path, "too short", detail, "remove it or lower min_s")
    waveform = torch.from_numpy(samples.mean(axis=1))
    if not allow_silent and not bool(waveform.any()):
        detail = (
            f"all {samples.shape[0]} samples are 0 after averaging {samples.shape[1]} channel(s)"
        )
        raise AudioError(path, "silent", detail, "remove it or pass allow_silent=True")
    if rate_hz != SAMPLE_RATE_HZ:
        waveform = torchaudio.functional.resample(waveform, rate_hz, SAMPLE_RATE_HZ)
    return waveform.contiguous()


def central(waveform: Tensor, max_s: float | None) -> Tensor:
    """The central `max_s` seconds of a waveform `(S,)`; all of it when it is shorter, or without `max_s`."""
    if max_s is None:
        return waveform
    size = min(round(max_s * SAMPLE_RATE_HZ), len(waveform))
    start = (len(waveform) - size) // 2
    return waveform[start : start + size]


def save_audio(path: str | Path, waveform: Tensor, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Path:
    """Write a waveform (S,) or (channels, S) as 16-bit audio in the format of the suffix, and return the path.

    Raises ValueError for another shape, for NaN or infinite samples, and for samples outside [-1, 1], which a
    16-bit file would clip; and for a suffix that is not .wav, .flac, .ogg or .mp3.
    """
    path = Path(path)
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}; use one of {', '.join(AUDIO_SUFFIXES)}"
        )
    if waveform.ndim not in (1, 2) or waveform.numel() == 0:
        raise ValueError(
            f"{path}: waveform has shape {tuple(waveform.shape)}; pass (S,) or (channels, S)"
        )
    samples = waveform.detach().cpu().float()
    if not bool(torch.isfinite(samples).all()):
        raise ValueError(
            f"{path}: the waveform holds NaN or infinite samples; find where they come from"
        )
    peak = float(samples.abs().max())
    if peak > 1.0:
        raise ValueError(
            f"{path}: peak {peak:.3f} is above 1 and would be clipped; divide by it first"
        )
    soundfile.write(
        path, samples.numpy().T if samples.ndim == 2 else samples.numpy(), sample_rate_hz
    )
    return path
