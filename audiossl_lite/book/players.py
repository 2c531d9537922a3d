"""Sounds on a page: players whose bytes are inside the page, so that they play without a kernel."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
import soundfile as sf
import torch

from audiossl_lite.book.words import escaped, printable, show_html

SAMPLE_RATE_HZ = 16_000
MAX_S = 5.0
N_BITS = 12
MAX_TOTAL_BYTES = 4_000_000


def flac_bytes(waveform: np.ndarray, sample_rate_hz: int) -> bytes:
    """Encode a waveform (S,) in [-1, 1] as mono FLAC; samples outside are cut at the limits.

    Of 16 bits the highest 12 that the sound uses are kept: rounding stays 70 dB below it, and a third of the bytes go.
    """
    samples = np.clip(waveform, -1.0, 1.0) * 32767.0
    step = 2 ** max(0, int(np.abs(samples).max()).bit_length() - N_BITS + 1)
    rounded = np.clip(np.round(samples / step) * step, -32768, 32768 - step).astype("<i2")
    buffer = io.BytesIO()
    sf.write(buffer, rounded, sample_rate_hz, format="FLAC", compression_level=1.0)
    return buffer.getvalue()


def sound_address(waveform: np.ndarray, sample_rate_hz: int) -> str:
    """A waveform (S,) as an address that holds its bytes."""
    data = base64.b64encode(flac_bytes(waveform, sample_rate_hz)).decode("ascii")
    return f"data:audio/flac;base64,{data}"


def described(waveform: np.ndarray, sample_rate_hz: int) -> str:
    """A sound (S,) in words, for those who do not hear it: how long, where its energy lies, when it is loudest."""
    length = f"{len(waveform) / sample_rate_hz:.1f} s"
    power = np.abs(np.fft.rfft(waveform)) ** 2
    if not power[1:].sum() > 0:
        return f"{length}, silent"
    share = np.cumsum(power[1:]) / power[1:].sum()
    low, high = (
        (np.searchsorted(share, (0.25, 0.75)) + 1) * sample_rate_hz / len(waveform)
    ).tolist()
    width = max(1, sample_rate_hz // 20)
    energy = np.add.reduceat(np.square(waveform), np.arange(0, len(waveform), width))
    loudest_s = energy.argmax() * width / sample_rate_hz
    return (
        f"{length}, half of its energy from {float(f'{low:.2g}'):.0f} to {float(f'{high:.2g}'):.0f} Hz, "
        f"loudest at {loudest_s:.1f} s"
    )


def levelled(waves: torch.Tensor, peak: float = 0.7) -> torch.Tensor:
    """Return waveforms (..., S) with the same peak, so that no clip is told by its level; silence stays silence."""
    return peak * waves / waves.abs().amax(-1, keepdim=True).clamp_min(1e-6)


def one_waveform(waveform: object, name: str) -> np.ndarray:
    """A tensor or array as samples (S,); ValueError names the sound for another shape, NaN or infinite samples."""
    if isinstance(waveform, torch.Tensor):
        waveform = waveform.detach().cpu()
    samples = np.asarray(waveform, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"{name!r} needs one waveform (samples,), got shape {samples.shape}.")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name!r} holds NaN or infinite samples.")
    return samples


def player_html(
    waveform: object, label: str = "sound", *, max_s: float = MAX_S, normalize: bool = False
) -> str:
    """Return one labelled player as HTML.

    waveform: (S,) tensor or array at 16 kHz. Longer sounds are cut at `max_s` seconds, and a peak above 1 is turned
    down; the label says so. Errors: ValueError for another shape, or NaN.
    """
    samples, notes = one_waveform(waveform, label), []
    limit = max(1, round(max_s * SAMPLE_RATE_HZ))
    if samples.size > limit:
        notes.append(f"first {max_s:g} s of {samples.size / SAMPLE_RATE_HZ:.1f} s")
        samples = samples[:limit]
    peak = float(np.abs(samples).max())
    if normalize and peak > 0:
        samples = samples / peak * 0.9
    elif peak > 1.0:
        notes.append(f"turned down from peak {peak:.2f}")
        samples = samples / peak
    name, note = escaped(label), f" <small>({'; '.join(notes)})</small>" if notes else ""
    words = described(samples, SAMPLE_RATE_HZ)
    return (
        '<div class="player" style="margin:0.3em 0.6em 0.3em 0;display:inline-block">'
        f'<div style="font-size:0.9em;margin-bottom:0.2em">{name}{note}</div>'
        f'<audio controls preload="metadata" aria-label="{name}: {words}" title="{words}" '
        'style="width:15em;max-width:100%;height:2.4em" '
        f'src="{sound_address(samples, SAMPLE_RATE_HZ)}"></audio></div>'
    )


def grid_html(sounds: Mapping[str, object], title: str = "", **options: float | bool) -> str:
    """Return several labelled players side by side as HTML; options are those of `player_html`.

    Errors: ValueError when there is no sound, or when together they would make the page heavier than 4 MB.
    """
    if not sounds:
        raise ValueError("play_grid got no sound; give a dict of label -> waveform.")
    players = [player_html(sound, str(label), **options) for label, sound in sounds.items()]
    n_bytes = sum(len(player) for player in players)
    if n_bytes > MAX_TOTAL_BYTES:
        raise ValueError(
            f"{len(players)} players would put {n_bytes / 1e6:.1f} MB into the page; "
            "show fewer sounds or lower max_s."
        )
    heading = f'<div style="font-weight:600">{escaped(title)}</div>' if title else ""
    label = escaped(title or "sounds")
    return f'<div role="group" aria-label="{label}">{heading}{"".join(players)}</div>'


def play_grid(sounds: Mapping[str, object], title: str = "", **options: float | bool) -> None:
    """Show labelled players side by side: `play_grid({"anchor": a, "positive": b}, max_s=2.0, normalize=True)`."""
    plain = f"players: {', '.join(map(printable, sounds))}"
    show_html(grid_html(sounds, title, **options), plain)
