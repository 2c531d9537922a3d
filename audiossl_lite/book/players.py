"""Sounds on a page: players whose bytes are inside the page, so that they play without a kernel."""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Mapping

import numpy as np
import torch

SAMPLE_RATE_HZ = 16_000
MAX_S = 5.0
MAX_TOTAL_BYTES = 4_000_000


def wav_bytes(waveform: np.ndarray, sample_rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """Encode a waveform (S,) in [-1, 1] as 16-bit mono WAV; samples outside are cut at the limits."""
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32767.0).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def levelled(waves: torch.Tensor, peak: float = 0.7) -> torch.Tensor:
    """Return waveforms (..., S) with the same peak, so that no clip is told by its level; silence stays silence."""
    return peak * waves / waves.abs().amax(-1, keepdim=True).clamp_min(1e-6)


def _as_samples(waveform: object, label: str) -> np.ndarray:
    if hasattr(waveform, "detach"):
        waveform = waveform.detach().cpu().numpy()
    samples = np.asarray(waveform, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(
            f"player {label!r} needs one waveform (samples,), got shape {samples.shape}."
        )
    if not np.isfinite(samples).all():
        raise ValueError(f"player {label!r} got NaN or infinite samples.")
    return samples


def _prepare(
    samples: np.ndarray, sample_rate_hz: int, max_s: float, normalize: bool
) -> tuple[np.ndarray, list[str]]:
    """Cut to the length cap and guard against clipping; return what was done as short notes."""
    notes = []
    limit = max(1, round(max_s * sample_rate_hz))
    if samples.size > limit:
        notes.append(f"first {max_s:g} s of {samples.size / sample_rate_hz:.1f} s")
        samples = samples[:limit]
    peak = float(np.abs(samples).max())
    if normalize and peak > 0:
        samples = samples / peak * 0.9
    elif peak > 1.0:
        notes.append(f"turned down from peak {peak:.2f}")
        samples = samples / peak
    return samples, notes


def player_html(
    waveform: object,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    label: str = "sound",
    *,
    max_s: float = MAX_S,
    normalize: bool = False,
) -> str:
    """Return one labelled player as HTML.

    waveform: (S,) tensor or array. Longer sounds are cut at `max_s` seconds, and a peak above 1 is
    turned down; the label says so. Errors: ValueError for another shape, or NaN.
    """
    samples, notes = _prepare(_as_samples(waveform, label), sample_rate_hz, max_s, normalize)
    data = base64.b64encode(wav_bytes(samples, sample_rate_hz)).decode("ascii")
    name = html.escape(label, quote=True)
    note = f" <small>({html.escape('; '.join(notes))})</small>" if notes else ""
    return (
        '<div style="margin:0.3em 0.6em 0.3em 0;display:inline-block">'
        f'<div style="font-size:0.9em;margin-bottom:0.2em">{name}{note}</div>'
        f'<audio controls preload="metadata" aria-label="{name}" style="width:15em;height:2.4em" '
        f'src="data:audio/wav;base64,{data}"></audio></div>'
    )


def grid_html(
    sounds: Mapping[str, object],
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    title: str = "",
    *,
    max_s: float = MAX_S,
    normalize: bool = False,
) -> str:
    """Return several labelled players side by side as HTML.

    Errors: ValueError when there is no sound, or when together they would make the page heavier
    than 4 MB.
    """
    if not sounds:
        raise ValueError("play_grid got no sound; give a dict of label -> waveform.")
    players = [
        player_html(sound, sample_rate_hz, str(label), max_s=max_s, normalize=normalize)
        for label, sound in sounds.items()
    ]
    n_bytes = sum(len(player) for player in players)
    if n_bytes > MAX_TOTAL_BYTES:
        raise ValueError(
            f"{len(players)} players would put {n_bytes / 1e6:.1f} MB into the page; "
            "show fewer sounds or lower max_s."
        )
    heading = f'<div style="font-weight:600">{html.escape(title)}</div>' if title else ""
    label = html.escape(title or "sounds", quote=True)
    return f'<div role="group" aria-label="{label}">{heading}{"".join(players)}</div>'


def play(
    waveform: object,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    title: str = "sound",
    *,
    max_s: float = MAX_S,
    normalize: bool = False,
) -> None:
    """Show a player for a waveform (S,), or one for each row of a batch (B, S)."""
    shape = getattr(waveform, "shape", None)
    if shape is not None and len(shape) == 2:
        sounds = {f"{title} {row + 1}": waveform[row] for row in range(shape[0])}
    else:
        sounds = {title: waveform}
    play_grid(sounds, sample_rate_hz, max_s=max_s, normalize=normalize)


def play_grid(
    sounds: Mapping[str, object],
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    title: str = "",
    *,
    max_s: float = MAX_S,
    normalize: bool = False,
) -> None:
    """Show labelled players side by side: `play_grid({"anchor": a, "positive": b})`."""
    from IPython.display import display

    page = grid_html(sounds, sample_rate_hz, title, max_s=max_s, normalize=normalize)
    plain = "players: " + ", ".join(str(label) for label in sounds)
    display({"text/html": page, "text/plain": plain}, raw=True)
