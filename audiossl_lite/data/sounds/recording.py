"""How a made sound is "recorded": room, microphone colour that drifts, background, level. All of it is nuisance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.signal

from audiossl_lite.data.sounds.synthesis import (
    BIN_HZ,
    CONTROL_SAMPLES,
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    Scene,
    overlap_add,
    spectra,
)


@dataclass(frozen=True)
class Recording:
    """Ranges of the recording conditions; every clip draws its own, and they drift along the clip."""

    colour_db: float = 6.0  # spread of the microphone's colour at each octave
    tilt_db: float = 1.5  # spread of its tilt per octave
    moving_share: float = 0.7  # how much of the colour changes along the clip
    level_drift_db: float = 3.0
    snr_db: tuple[float, float] = (8.0, 28.0)
    rms_db: tuple[float, float] = (-34.0, -14.0)
    wet_db: tuple[float, float] = (-24.0, -8.0)
    reverberation_s: tuple[float, float] = (0.05, 0.35)


def _moving_level(
    scene: Scene, depth_db: float, tilt_db: float, moving: float, drift_db: float
) -> np.ndarray:
    """Amplitude gain (frames, bins): a fixed random colour, two that come and go, a drifting level."""
    stride = HOP_SAMPLES // CONTROL_SAMPLES
    shares = np.array([np.sqrt(1 - moving**2), *[moving * np.sqrt(0.75)] * 2])
    colours = [scene.colour(depth_db, tilt_db) for _ in shares]
    weights = [np.ones(scene.n_blocks + 1), *(scene.drift(1.0)[::stride] for _ in range(2))]
    basis = np.stack([*colours, np.full(len(BIN_HZ), drift_db)])
    moves = np.stack(
        [*(w * share for w, share in zip(weights, shares)), scene.drift(1.0)[::stride]]
    )
    level_db = moves.T.astype(np.float32) @ basis.astype(np.float32)
    return np.exp(level_db * np.float32(np.log(10) / 20))


def record(scene: Scene, conditions: Recording | None = None) -> np.ndarray:
    """Samples (S,) of the scene as a microphone in a room hears it, peak below 1."""
    conditions = conditions or Recording()
    dry = spectra(scene.dry)
    if scene.transfer is not None:
        dry = dry * scene.transfer
    # Frames overlap by half and the squared windows add up to 1: unit noise has |X|^2 = 256 a bin.
    noise_power = HOP_SAMPLES * scene.noise_power
    power = np.square(dry.real) + np.square(dry.imag) + noise_power

    # Late reverberation: noise whose power is the sound's own, smeared by an exponential decay.
    reverberation_s = scene.log_uniform(*conditions.reverberation_s)
    decay = np.exp(-HOP_SAMPLES / (SAMPLE_RATE_HZ * reverberation_s))
    wet = 10 ** (scene.uniform(*conditions.wet_db) / 10) * (1 - decay)
    feed, back = np.array([0.0, wet], np.float32), np.array([1.0, -decay], np.float32)
    noise_power += scipy.signal.lfilter(feed, back, power, axis=0)

    gain = _moving_level(
        scene,
        conditions.colour_db,
        conditions.tilt_db,
        conditions.moving_share,
        conditions.level_drift_db,
    )
    squared = np.square(gain)
    heard_power = float(np.mean(squared * power)) + 1e-12
    background = np.square(_moving_level(scene, 5.0, 2.0, 0.6, 3.0))
    snr_db = scene.uniform(*conditions.snr_db)
    background *= np.float32(heard_power * 10 ** (-snr_db / 10) / float(background.mean()))

    draw = scene.rng.random((*dry.shape, 2), dtype=np.float32) - np.float32(0.5)
    noise = draw.view(np.complex64)[..., 0]  # two parts of variance 1/12
    noise = noise * np.sqrt(6 * (squared * noise_power + background))
    samples = overlap_add(dry * gain + noise)[: round(scene.duration_s * SAMPLE_RATE_HZ)]
    rms = float(np.sqrt(np.mean(np.square(samples)))) + 1e-9
    samples = samples * np.float32(10 ** (scene.uniform(*conditions.rms_db) / 20) / rms)
    return (samples / np.float32(max(1.0, float(np.abs(samples).max()) / 0.99))).astype(np.float32)
