"""Small sounds and files for the tests beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def hum(seconds: float = 0.5, rate_hz: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    """A sine of amplitude 0.5, (S,) float32."""
    clock = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hertz * clock)).astype(np.float32)


def put(path: Path, samples: np.ndarray | None = None, rate_hz: int = 16_000, **options) -> Path:
    """Write samples (a hum by default) to the path, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, hum() if samples is None else samples, rate_hz, **options)
    return path
