"""How a made sound is "recorded": room, microphone colour that drifts, background, level. All of it is nuisance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.signal

from audiossl_lite.data.synthesis import CONTROL_SAMPLES, HOP_SAMPLES, Scene, overlap_add, spectra


@dataclass(frozen=True)
class Recording:
    """Ranges of the recording conditions; every clip draws its own, and they drift along the clip.

    Where: this project; chapter 02
    """

    colour_db: float = 6.0  # spread of the microphone's colour at each octave
    tilt_db: float = 1.5  # spread of its tilt per octave
    moving_share: float = 0.7  # how much of the colour changes along the clip
    level_drift_db: float = 3.0
    snr_db: tuple[float, float] = (8.0, 28.0)
    rms_db: tuple[float, float] = (-34.0, -14.0)
    wet_db: tuple[float, float] = (-24.0, -8.0)
    reverberation_s: tuple[float, float] = (0.05, 0.35)


def _moving_colour(scene: Scene, depth_db: float, tilt_db: float, moving: float) -> np.ndarray:
    """Level in dB (frames, bins): a fixed random colour plus two that are cross-faded at random."""
    stride = HOP_SAMPLES // CONTROL_SAMPLES
    fixed = scene.colour(depth_db, tilt_db)
    ends = [scene.colour(depth_db, tilt_db) for _ in range(2)]
    weights = [scene.drift(1.0)[::stride, None] for _ in range(2)]
    swing = weights[0] * ends[0] + weights[1] * ends[1]
    return np.sqrt(1 - moving**2) * fixed + moving * np.sqrt(0.75) * swing


def record(scene: Scene, conditions: Recording | None = None) -> np.ndarray:
    """Samples (S,) of the scene as a microphone in a room hears it, peak below 1.

    Where: this project; chapter 02
    """
    conditions = conditions or Recording()
    stride = HOP_SAMPLES // CONTROL_SAMPLES
    dry = spectra(scene.dry)
    # Window power is 1 at half overlap, so noise of unit variance has |X|^2 of FRAME / 2 in every bin.
    unit = HOP_SAMPLES
    power = np.square(dry.real) + np.square(dry.imag) + unit * scene.noise_power

    # Late reverberation: noise whose power is the sound's own, smeared by an exponential decay.
    decay = np.exp(-HOP_SAMPLES / (16_000 * scene.log_uniform(*conditions.reverberation_s)))
    wet = 10 ** (scene.uniform(*conditions.wet_db) / 10) * (1 - decay)
    smear = scipy.signal.lfilter([0.0, wet], [1.0, -decay], power, axis=0).astype(np.float32)

    colour = _moving_colour(scene, conditions.colour_db, conditions.tilt_db, conditions.moving_share)
    colour = colour + conditions.level_drift_db * scene.drift(1.0)[::stride, None]
    gain = np.exp(colour * (np.log(10) / 20)).astype(np.float32)
    heard_power = float(np.mean(np.square(gain) * (power + smear))) + 1e-12

    background = _moving_colour(scene, 5.0, 2.0, 0.6) + 3.0 * scene.drift(1.0)[::stride, None]
    background = np.exp(background * (np.log(10) / 10)).astype(np.float32)
    snr_db = scene.uniform(*conditions.snr_db)
    background *= heard_power * 10 ** (-snr_db / 10) / float(background.mean())

    noise_power = np.square(gain) * (unit * scene.noise_power + smear) + background
    draw = scene.rng.random((2, *noise_power.shape), dtype=np.float32) - 0.5
    noise = (draw[0] + 1j * draw[1]) * np.sqrt(6 * noise_power)  # variance 1/12 for each of two parts
    samples = overlap_add(dry * gain + noise)[: round(scene.duration_s * 16_000)]
    rms = float(np.sqrt(np.mean(np.square(samples)))) + 1e-9
    samples *= 10 ** (scene.uniform(*conditions.rms_db) / 20) / rms
    return (samples / max(1.0, float(np.abs(samples).max()) / 0.99)).astype(np.float32)
