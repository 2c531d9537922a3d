"""Tools for making sounds cheaply: contours at control rate, wavetable tones, strikes, shaped noise, a recording.

A clip is described at a slow control rate (one value every 4 ms) and rendered once. Noise and late reverberation
are drawn directly in the short-time Fourier domain, so that one forward and one inverse transform suffice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
import scipy.signal

SAMPLE_RATE_HZ = 16_000
CONTROL_SAMPLES = 64  # one control value every 4 ms
FRAME_SAMPLES = 512
HOP_SAMPLES = 256
TABLE_SIZE = 2048
BIN_HZ = np.fft.rfftfreq(FRAME_SAMPLES, 1 / SAMPLE_RATE_HZ).astype(np.float32)
_WINDOW = np.sin(np.pi * (np.arange(FRAME_SAMPLES) + 0.5) / FRAME_SAMPLES).astype(np.float32)
_RAMP = (np.arange(CONTROL_SAMPLES, dtype=np.float32) / CONTROL_SAMPLES)[None]
_OCTAVES = np.log2(np.maximum(BIN_HZ, np.float32(40)) / np.float32(40))  # 0 at 40 Hz, 7.6 at 8 kHz


class Scene:
    """One clip being made: parts are added with `tone`, `strikes` and `noise`, then `record` renders them.

    `seconds` (M,) are the control times. `rng` is the only source of randomness.
    """

    def __init__(self, rng: np.random.Generator, duration_s: float) -> None:
        self.rng = rng
        self.duration_s = duration_s
        self.n_blocks = -(-round(duration_s * SAMPLE_RATE_HZ) // HOP_SAMPLES)
        self.n_samples = self.n_blocks * HOP_SAMPLES
        n_control = self.n_samples // CONTROL_SAMPLES + 1
        self.seconds = np.arange(n_control) * (CONTROL_SAMPLES / SAMPLE_RATE_HZ)
        self.dry = np.zeros(self.n_samples, np.float32)
        self.transfer: np.ndarray | None = None
        self.noise_power = np.zeros((self.n_blocks + 1, len(BIN_HZ)), np.float32)

    # ---- random numbers -------------------------------------------------------------------------------------

    def uniform(self, low: float, high: float) -> float:
        """One number, uniform."""
        return float(self.rng.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        """One positive number, uniform on a logarithmic axis."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def semitones(self, spread: float, size: int | tuple[int, ...] | None = None) -> np.ndarray:
        """Frequency ratios, Gaussian in semitones with this spread."""
        return 2.0 ** (self.rng.normal(0.0, spread, size) / 12)

    def drift(self, knots_per_s: float) -> np.ndarray:
        """A slow random contour (M,) of about unit variance at control rate."""
        n_knots = max(2, round(self.duration_s * knots_per_s) + 1)
        knots = self.rng.standard_normal(n_knots)
        return np.interp(self.seconds, np.linspace(0, self.seconds[-1], n_knots), knots)

    # ---- rhythm ---------------------------------------------------------------------------------------------

    def onsets(self, period_s: float, offsets_s: Sequence[float] = (0.0,), jitter: float = 0.04):
        """Onset times (n,) in seconds and their place in the pattern (n,), from a random phase of the pattern.

        The pattern `offsets_s` repeats every `period_s`; each repetition is moved by `jitter` of the period.
        """
        offsets = np.asarray(offsets_s, np.float64)
        n_repeats = int(self.duration_s / period_s) + 2
        starts = -self.uniform(0.0, period_s) + period_s * np.arange(n_repeats)
        starts = starts + self.rng.normal(0.0, jitter * period_s, n_repeats)
        speed = 1 + self.rng.normal(0.0, jitter, (n_repeats, 1))
        times = (starts[:, None] + offsets[None] * speed).reshape(-1)
        place = np.tile(np.arange(len(offsets)), n_repeats)
        heard = (times > -2.0) & (times < self.duration_s - 0.01)
        return times[heard], place[heard]

    def since(self, onsets_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Seconds since the latest onset (M,) and its index (M,), -1 before the first one."""
        order = np.sort(onsets_s)
        index = np.searchsorted(order, self.seconds, side="right") - 1
        return np.where(index >= 0, self.seconds - order[np.maximum(index, 0)], 1e3), index

    # ---- parts ----------------------------------------------------------------------------------------------

    def harmonics(self, tilt_db: float, highest_hz: float, odd_only: bool = False) -> np.ndarray:
        """Harmonic amplitudes (K,) that fall by about `tilt_db` an octave, each a little random.

        `highest_hz` is the largest fundamental that will be played; harmonics stay below 7.6 kHz.
        """
        n_harmonics = int(np.clip(7600.0 / highest_hz, 1, 80))
        number = np.arange(1, n_harmonics + 1)
        level_db = -tilt_db * np.log2(number) + self.rng.normal(0.0, 3.0, n_harmonics)
        amplitudes = 10 ** (level_db / 20)
        return amplitudes * (number % 2 == 1) if odd_only else amplitudes

    def tone(self, frequency_hz: np.ndarray, amplitude: np.ndarray, harmonics: np.ndarray) -> None:
        """Add a harmonic tone whose fundamental (M,) and amplitude (M,) follow control-rate contours."""
        phases = self.rng.uniform(0, 2 * np.pi, len(harmonics))
        spectrum = np.zeros(TABLE_SIZE // 2 + 1, np.complex64)
        spectrum[1 : len(harmonics) + 1] = harmonics * np.exp(1j * phases)
        table = scipy.fft.irfft(spectrum).astype(np.float32)
        table /= np.sqrt(np.mean(table**2)) + 1e-12
        phase = table_phase(frequency_hz)
        self.dry += table[phase] * upsample(amplitude)

    def strikes(
        self,
        onsets_s: np.ndarray,
        modes_hz: np.ndarray,
        decay_s: np.ndarray | float,
        level: np.ndarray | float = 1.0,
        noise_share: float = 0.3,
    ) -> None:
        """Add struck sounds: at each onset (n,), damped sines at `modes_hz` (n, modes) and a noise burst.

        `decay_s` (n,) or a number is the time in which the amplitude falls to 1/e; `level` (n,) scales each hit.
        """
        n_hits = len(onsets_s)
        if n_hits == 0:
            return
        decay = np.broadcast_to(np.asarray(decay_s, np.float32), (n_hits,))
        length = min(int(5.0 * decay.max() * SAMPLE_RATE_HZ) + 32, self.n_samples)
        clock = np.arange(length, dtype=np.float32) / SAMPLE_RATE_HZ
        modes = np.clip(modes_hz, 30.0, 7600.0).astype(np.float32)
        phases = self.rng.uniform(0, 2 * np.pi, modes.shape).astype(np.float32)
        ring = np.zeros((n_hits, length), np.float32)
        for mode in range(modes.shape[1]):
            angle = (2 * np.pi * modes[:, mode, None]) * clock + phases[:, mode, None]
            ring += np.sin(angle) * np.float32(0.75**mode)
        burst = self.rng.random((n_hits, length), dtype=np.float32) * 3.4 - 1.7
        envelope = np.exp(-clock[None] / decay[:, None]) * np.minimum(clock / 0.001, 1.0)
        hits = (ring * (1 - noise_share) + burst * noise_share) * envelope
        hits *= np.broadcast_to(np.asarray(level, np.float32), (n_hits,))[:, None]
        for start, hit in zip(np.round(onsets_s * SAMPLE_RATE_HZ).astype(int), hits, strict=True):
            first, last = max(start, 0), min(start + length, self.n_samples)
            if first < last:
                self.dry[first:last] += hit[first - start : last - start]

    def noise(self, amplitude: np.ndarray, colour_db: np.ndarray) -> None:
        """Add shaped noise: amplitude (M,) over time, level in dB over frequency (bins,) or (frames, bins)."""
        stride = HOP_SAMPLES // CONTROL_SAMPLES
        level = np.atleast_2d(colour_db).astype(np.float32) * np.float32(np.log(10) / 10)
        self.noise_power += np.square(amplitude[::stride, None]).astype(np.float32) * np.exp(level)

    def filter(self, gain: np.ndarray) -> None:
        """Filter all tones and strikes, when recorded, by a gain (frames, bins) that moves with time."""
        self.transfer = gain if self.transfer is None else self.transfer * gain

    def band(self, centre_hz: np.ndarray | float, width_octaves: float) -> np.ndarray:
        """Level in dB (frames, bins) or (1, bins) of a bell-shaped band on a logarithmic frequency axis.

        `centre_hz` may be a contour (M,) at control rate.
        """
        stride = HOP_SAMPLES // CONTROL_SAMPLES
        centres = np.atleast_1d(centre_hz)
        centres = centres[::stride] if len(centres) > 1 else centres
        distance = _OCTAVES[None] - np.log2(centres / 40.0)[:, None].astype(np.float32)
        distance /= np.float32(width_octaves)
        return np.maximum(-4.3 * distance**2, -60.0)

    def colour(self, depth_db: float, tilt_db: float = 0.0) -> np.ndarray:
        """A smooth random level in dB (bins,), with this spread at each octave plus a random tilt per octave."""
        knots = self.rng.normal(0.0, depth_db, 9) + self.rng.normal(0.0, tilt_db) * (
            np.arange(9) - 5
        )
        return np.interp(_OCTAVES, np.arange(9), knots)


def upsample(contour: np.ndarray) -> np.ndarray:
    """Control-rate contour (M,) to samples ((M - 1) * 64,), linearly interpolated."""
    values = np.asarray(contour, np.float32)
    return (values[:-1, None] + np.diff(values)[:, None] * _RAMP).reshape(-1)


def table_phase(frequency_hz: np.ndarray) -> np.ndarray:
    """Wavetable index ((M - 1) * 64,) of an oscillator that follows a frequency contour (M,).

    Between control points the frequency is linear, so the phase is a parabola.
    """
    step = np.clip(frequency_hz, 10.0, 7800.0) * (TABLE_SIZE / SAMPLE_RATE_HZ)
    mean_step = (step[:-1] + step[1:]) / 2
    start = np.concatenate([[0.0], np.cumsum(CONTROL_SAMPLES * mean_step)[:-1]]) % TABLE_SIZE
    rate = step[:-1, None].astype(np.float32) * CONTROL_SAMPLES
    bend = np.diff(step)[:, None].astype(np.float32) * (CONTROL_SAMPLES / 2)
    phase = start[:, None].astype(np.float32) + _RAMP * (rate + _RAMP * bend)
    return phase.astype(np.int32).reshape(-1) & (TABLE_SIZE - 1)


def spectra(samples: np.ndarray) -> np.ndarray:
    """Samples (n * 256,) to short-time spectra (n + 1, 257); `overlap_add` is its inverse."""
    padded = np.concatenate(
        [np.zeros(HOP_SAMPLES, np.float32), samples, np.zeros(HOP_SAMPLES, np.float32)]
    )
    blocks = padded.reshape(-1, HOP_SAMPLES)
    return scipy.fft.rfft(np.concatenate([blocks[:-1], blocks[1:]], axis=1) * _WINDOW, axis=1)


def overlap_add(spectrum: np.ndarray) -> np.ndarray:
    """Short-time spectra (n + 1, 257) to samples (n * 256,)."""
    frames = scipy.fft.irfft(spectrum, n=FRAME_SAMPLES, axis=1) * _WINDOW
    return (frames[:-1, HOP_SAMPLES:] + frames[1:, :HOP_SAMPLES]).reshape(-1)
