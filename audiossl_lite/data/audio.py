"""Audio files in and out: any rate, channel count and bit depth to 16 kHz mono float32, or a clear error."""

from __future__ import annotations

import math
import os
import re
import stat
import warnings
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
import torch
import torchaudio.functional
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
WRITTEN_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
AUDIO_SUFFIXES = (*WRITTEN_SUFFIXES, ".aiff", ".aif")
LONGEST_S = 1800.0  # of a file: a header claims what it likes, and 1 MB of FLAC can hold hours
TOO_LONG = "too long"  # the reason, of which others show more than these words
FULL_LENGTH_RATE_HZ = 96_000  # files of a higher rate may last as many samples, not as many seconds
HIGHEST_RATE_HZ = 768_000
LOUD_PEAK = 10.0  # full scale is 1; above, whole numbers were probably written as floats
HIGHEST_PEAK = 1e15  # the power of louder samples, summed over a frame, leaves float32
BLOCK_SAMPLES = 2**20
LARGEST_KERNEL = 2**20  # taps of torchaudio's table of filters: 44.1 kHz needs 76,000
UNKNOWN_BYTES = 2**31 - 2**16  # streaming writers put such sizes where they do not know one
MP3_BYTES = 2 * 1442  # two frames of MP3, which an encoder may add as padding
MP3_LENGTH = re.compile(
    b"Xing|Info|VBRI"
)  # marks a stated length; without it, decoders estimate one
TAGS = re.compile(rb"APETAGEX|LYRICSBEGIN|ID3[\x02-\x04]")
READ_AHEAD_BYTES = 2**13  # of decoders, which may have passed the start of a tag
MP3_START = re.compile(rb"ID3|\xff[\xe2-\xff]")


class AudioError(ValueError):
    """A file that cannot be used as audio; the message names the file, the value and what to do.

    `reason` is the short form, the same words for the same kind of fault, so that faults can be counted; `full` is all
    but the file.
    """

    def __init__(self, path: str | Path, reason: str, detail: str, remedy: str) -> None:
        self.path, self.reason, self.full = str(path), reason, f"{reason} ({detail}); {remedy}"
        super().__init__(f"{path}: {self.full}")


class _Stream(soundfile.SoundFile):
    """A file read from front to end, without the seek after each block, which a FLAC of unknown length fails."""

    def seekable(self) -> bool:
        return False


def _open(path: Path) -> int:
    """A descriptor of a regular file. Anything else may block or never end, and is an AudioError."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            mode = os.fstat(descriptor).st_mode  # another file may have taken the name
            if stat.S_ISREG(mode):
                return descriptor
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError) as error:
        detail, remedy = "the path does not exist", "check the path or the manifest"
        raise AudioError(path, "no such file", detail, remedy) from error
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        remedy = "check the path and who may read it"
        raise AudioError(path, "cannot be opened", detail, remedy) from error
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
    remedy = "name a file, or pass the folder to load_clips"
    raise AudioError(path, "not a file", f"the path is {kind}", remedy)


def _decode(path: Path, descriptor: int) -> tuple[np.ndarray, int, int, int, bool]:
    """Mono samples (S,) float32, rate, channels, number of samples not finite, and whether the end is missing."""
    means, n_frames, n_bad = [], 0, 0
    start = MP3_START.search(os.pread(descriptor, 4096, 0))
    if start and path.suffix.lower() == ".mp3":  # broadcasts are cut anywhere
        os.lseek(descriptor, start.start(), os.SEEK_SET)
    with _Stream(descriptor, closefd=False) as sound:
        rate_hz, n_channels = sound.samplerate, sound.channels
        if rate_hz > HIGHEST_RATE_HZ:
            detail = f"{rate_hz} Hz, at most {HIGHEST_RATE_HZ} Hz are read"
            raise AudioError(path, "rate too high", detail, "convert it, or mend its header")
        longest = LONGEST_S * min(rate_hz, FULL_LENGTH_RATE_HZ)
        size, as_floats = BLOCK_SAMPLES // n_channels, {"dtype": "float32", "always_2d": True}
        while len(block := sound.read(min(size, sound.frames - n_frames), **as_floats)):
            n_frames += len(block)
            if n_frames > longest:
                known = n_frames <= sound.frames < 2**62
                stated = f"{round(sound.frames / rate_hz, 1):g} s by its header, " if known else ""
                detail = f"{stated}more than {longest / rate_hz:g} s"
                remedy = "cut it into pieces, or raise audiossl_lite.data.audio.LONGEST_S"
                raise AudioError(path, TOO_LONG, detail, remedy)
            n_bad += block.size - int(np.isfinite(block).sum())
            with np.errstate(over="ignore", invalid="ignore"):
                means.append(block.mean(axis=1))
        cut_off = _is_cut_off(path, descriptor, sound, n_frames)
    mono = np.concatenate(means) if means else np.zeros(0, np.float32)
    return mono, rate_hz, n_channels, n_bad, cut_off


def _is_cut_off(path: Path, descriptor: int, sound: _Stream, n_frames: int) -> bool:
    """Whether a decoded file has lost its end; raises AudioError when it holds more than was decoded."""
    n_bytes, position = os.fstat(descriptor).st_size, os.lseek(descriptor, 0, os.SEEK_CUR)
    more = n_bytes - position > MP3_BYTES
    if n_frames and more:  # no sound: what follows in other formats, tags, zeros
        start = max(position - READ_AHEAD_BYTES, 0)
        tagged = TAGS.search(os.pread(descriptor, position + 16 - start, start))
        zeros = not os.pread(descriptor, 2**16, position).strip(b"\0")
        chunk = os.pread(descriptor, 4, position + position % 2)  # begins with its name
        is_sound = sound.format in ("FLAC", "MP3", "OGG") or (
            sound.format in ("WAV", "WAVEX") and not re.fullmatch(rb"[A-Za-z0-9_ ]{4}", chunk)
        )
        more = is_sound and not tagged and not zeros
    cut_off = n_frames < sound.frames < 2**62
    if sound.format == "MP3":
        cut_off = cut_off and MP3_LENGTH.search(os.pread(descriptor, 2**17, 0)) is not None
    if sound.format == "OGG":
        tail = os.pread(descriptor, 2**17, max(n_bytes - 2**17, 0))
        page = tail[tail.rfind(b"OggS") :]  # the last one: bit 4 of byte 5 marks an end
        is_whole = len(page) > 26 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
        cut_off = not (is_whole and page[5] & 4)
        more = (more and not cut_off) or page[14:18] != os.pread(descriptor, 4, 14)
    stated = re.search(r"^ ?(?:data|SSND) : (\d+) \(should be (\d+)\)", sound.extra_info, re.M)
    if stated and int(stated[2]) < int(stated[1]) < UNKNOWN_BYTES:
        cut_off = True
    if more:
        detail = f"{n_bytes - position} of {n_bytes} bytes lie behind {n_frames} samples"
        remedy = "the length in its header is wrong or streams were joined: convert it with ffmpeg"
        raise AudioError(path, "more than its header says", detail, remedy)
    return cut_off


def read_audio(
    path: str | Path, *, min_s: float = 0.05, allow_silent: bool = False
) -> tuple[Tensor, bool]:
    """What `load_audio` gives, and whether the file has lost its end. Raises as it does."""
    path = Path(path)
    descriptor = _open(path)
    try:
        samples, rate_hz, n_channels, n_bad, cut_off = _decode(path, descriptor)
    except AudioError:
        raise
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
        detail = f"{os.fstat(descriptor).st_size} bytes; {getattr(error, 'error_string', error)}"
        remedy = "replace it by an intact WAV, FLAC, OGG or MP3 file"
        raise AudioError(path, "unreadable", detail, remedy) from error
    finally:
        os.close(descriptor)
    if len(samples) == 0:
        raise AudioError(path, "empty", "0 samples", "remove it or record it again")
    if n_bad:
        detail = f"{n_bad} of {len(samples) * n_channels} samples are NaN or infinite"
        raise AudioError(path, "not finite", detail, "write the file again")
    duration_s = len(samples) / rate_hz
    if duration_s < min_s:
        detail = f"{duration_s:.3f} s, at least {min_s} s are needed"
        raise AudioError(path, "too short", detail, "remove it or lower min_s")
    if not allow_silent and not samples.any():
        detail = f"all {len(samples)} samples are 0 after averaging {n_channels} channel(s)"
        raise AudioError(path, "silent", detail, "remove it or pass allow_silent=True")
    waveform = resample(torch.from_numpy(samples), rate_hz)
    if not float(waveform.abs().max()) < HIGHEST_PEAK:  # also what averaging made infinite
        detail = f"peak {float(waveform.abs().max()):.3g} at 16 kHz, below {HIGHEST_PEAK:g} is read"
        raise AudioError(path, "too loud", detail, "write the file again")
    return waveform.contiguous(), cut_off


def load_audio(path: str | Path, *, min_s: float = 0.05, allow_silent: bool = False) -> Tensor:
    """Read a WAV, FLAC, OGG, MP3 or AIFF file as 16 kHz mono float32, shape (S,).

    Channels are averaged, then the rate is converted. Values above 1 (float files, or the overshoot of the
    resampling filter) are kept, never clipped or rescaled: the level of a recording is part of it.
    Raises AudioError for a missing, unreadable, empty, NaN or infinite, too short (`min_s` seconds), too long
    (`LONGEST_S`), digitally silent (`allow_silent` accepts it) file, or one that holds more than was decoded.
    Warns of a file that has lost its end, and of one whose peak is above `LOUD_PEAK`.
    """
    waveform, cut_off = read_audio(path, min_s=min_s, allow_silent=allow_silent)
    if cut_off:
        seconds = len(waveform) / SAMPLE_RATE_HZ
        warnings.warn(f"{path}: the file has lost its end, {seconds:.2f} s are left", stacklevel=2)
    if is_loud(waveform):
        peak = float(waveform.abs().max())
        advice = "if whole numbers were written as floats, divide them by their full scale first"
        warnings.warn(f"{path}: peak {peak:.5g} where full scale is 1; {advice}", stacklevel=2)
    return waveform


def is_loud(waveform: Tensor) -> bool:
    """Whether a waveform `(S,)` is far above full scale: it is used as it is, and worth a word."""
    return float(waveform.abs().max()) > LOUD_PEAK


def resample(waveform: Tensor, rate_hz: int) -> Tensor:
    """A waveform `(S,)` at 16 kHz, by torchaudio's default filter: Hann-windowed sinc, 6 zeros, roll-off 0.99.

    torchaudio writes a filter for each output phase: gigabytes where the rates share no factor. There the same
    filter runs in scipy, which goes through one list of its taps.
    """
    common = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    down, up = rate_hz // common, SAMPLE_RATE_HZ // common
    if down == up:
        return waveform
    cutoff = 0.99 * min(down, up)
    reach = math.ceil(6 * up * down / cutoff)  # taps on either side, at `up` times the rate
    if up * down + 2 * reach <= LARGEST_KERNEL:
        return torchaudio.functional.resample(waveform, rate_hz, SAMPLE_RATE_HZ)
    zeros = np.clip(np.arange(-reach, reach + 1) * cutoff / (up * down), -6.0, 6.0)
    taps = np.sinc(zeros) * np.cos(np.pi / 12.0 * zeros) ** 2 * cutoff / (up * down)
    samples = scipy.signal.resample_poly(waveform.numpy(), up, down, window=np.float32(taps))
    return torch.from_numpy(samples)


def central(waveform: Tensor, max_s: float | None) -> Tensor:
    """The central `max_s` seconds of a waveform `(S,)`; all of it when it is shorter, or without `max_s`."""
    if max_s is None:
        return waveform
    size = min(round(max_s * SAMPLE_RATE_HZ), len(waveform))
    start = (len(waveform) - size) // 2
    return waveform[start : start + size]


def save_audio(path: str | Path, waveform: Tensor) -> Path:
    """Write a waveform (S,) or (channels, S) at 16 kHz as 16-bit audio in the format of the suffix; returns the path.

    Raises ValueError for another shape, for NaN or infinite samples, and for samples outside [-1, 1], which a
    16-bit file would clip; and for a suffix that is not .wav, .flac, .ogg or .mp3.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}; use one of {', '.join(WRITTEN_SUFFIXES)}"
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
    soundfile.write(path, samples.numpy().T, SAMPLE_RATE_HZ)
    return path
