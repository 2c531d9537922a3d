"""Ten embedded speakers who say ten words: a source with pitch, filtered by moving formants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audiossl_lite.data.sounds.synthesis import BIN_HZ, CONTROL_SAMPLES, HOP_SAMPLES, Scene

# Formants in Hz of an average adult; typical textbook values, rounded.
VOWELS_HZ = {
    "a": (750, 1250, 2500),
    "e": (480, 1900, 2550),
    "i": (290, 2250, 3000),
    "o": (470, 880, 2400),
    "u": (310, 750, 2250),
    "m": (260, 1050, 2300),
}
WORDS = ("mia", "sua", "ota", "eti", "uso", "imo", "asi", "tea", "oei", "aum")


@dataclass(frozen=True)
class Speaker:
    """What makes a voice: usual pitch, tract length, tilt of the source, breath, pace, melody."""

    name: str
    text: str
    pitch_hz: float
    tract: float  # all formants are multiplied by this
    tilt_db: float  # fall of the source per octave
    breath: float
    pace: float  # duration of a phone, relative
    melody: float  # semitones from the start of a word to its end
    shimmer: float = 0.0  # depth of a tremor at 6 Hz, in semitones


SPEAKERS = (
    Speaker("ada", "high, light, quick, falling melody", 225, 1.17, 9, 0.02, 0.85, -4),
    Speaker("ben", "low, dark, slow, flat melody", 92, 0.86, 11, 0.01, 1.2, -1),
    Speaker("cleo", "middle, bright, rising melody", 175, 1.06, 5, 0.01, 1.0, 5),
    Speaker("dan", "low, bright, pressed, quick", 112, 0.93, 4, 0.01, 0.85, -3),
    Speaker("eve", "high, breathy, slow", 205, 1.12, 12, 0.25, 1.2, -2),
    Speaker("finn", "a child: very high, short tract, rising melody", 285, 1.32, 8, 0.04, 1.0, 3),
    Speaker("gus", "low, breathy, long tract", 100, 0.82, 9, 0.22, 1.0, -3),
    Speaker("hana", "high pitch on a long tract, trembling", 215, 0.97, 8, 0.02, 1.1, -1, 1.2),
    Speaker("ivo", "low pitch on a short tract, trembling", 118, 1.14, 8, 0.02, 1.0, -2, 1.2),
    Speaker("jun", "middle, whispery and quick, falling melody", 150, 1.0, 10, 0.5, 0.85, -6),
)


def _targets(word: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Formants (phones, 3), voicing (phones,) and hiss (phones,) of a word."""
    formants, voiced, hiss = [], [], []
    for place, phone in enumerate(word):
        # Consonants lean towards the formants of the vowel beside them.
        near = (
            phone if phone in VOWELS_HZ else word[place + 1 if place + 1 < len(word) else place - 1]
        )
        formants.append(VOWELS_HZ[near])
        voiced.append({"m": 0.4, "s": 0.0, "t": 0.0}.get(phone, 1.0))
        hiss.append(1.0 if phone == "s" else 0.0)
    return np.array(formants, float), np.array(voiced), np.array(hiss)


def _smooth(contour: np.ndarray, n_points: int) -> np.ndarray:
    kernel = np.hanning(n_points + 2)[1:-1]
    padded = np.pad(contour, (n_points // 2, n_points - 1 - n_points // 2), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def say(scene: Scene, word: str, speaker: Speaker) -> None:
    """Add the word, said again and again; every time pitch, pace, stress and melody differ a little."""
    formants_hz, voiced, hiss = _targets(word)
    phone_s = 0.125 * speaker.pace * scene.uniform(0.9, 1.1)
    word_s = phone_s * len(word)
    times, _ = scene.onsets(word_s + scene.uniform(0.12, 0.3), jitter=0.05)
    since, index = scene.since(times)
    n_takes = int(index.max()) + 2
    speed = scene.semitones(1.0, n_takes)[index]
    place = since * speed / phone_s  # 0 to len(word) while the word lasts
    phone = np.clip(place, 0, len(word) - 1).astype(int)
    inside = place < len(word)
    level = 10 ** (scene.rng.normal(0, 2, n_takes) / 20)[index]

    tract = speaker.tract * scene.semitones(0.25)
    moving = [_smooth(formants_hz[phone, k], 15) * tract for k in range(3)]
    voicing = _smooth(np.where(inside, voiced[phone], 0.0) * level, 9)
    hissing = _smooth(np.where(inside, hiss[phone], 0.0) * level, 9)

    slope = speaker.melody + scene.rng.normal(0, 1.5, n_takes)[index]
    melody = (
        slope * (np.clip(place / len(word), 0, 1) - 0.5) + scene.rng.normal(0, 1.0, n_takes)[index]
    )
    tremor = speaker.shimmer * np.sin(2 * np.pi * 6 * scene.seconds) + 0.2 * scene.drift(8.0)
    pitch_hz = speaker.pitch_hz * scene.semitones(1.0) * 2 ** ((_smooth(melody, 9) + tremor) / 12)
    scene.tone(pitch_hz, voicing, scene.harmonics(speaker.tilt_db, float(pitch_hz.max())))

    stride = HOP_SAMPLES // CONTROL_SAMPLES
    power = np.full((scene.n_blocks + 1, len(BIN_HZ)), 1e-4, np.float32)
    for k, track in enumerate([*moving, np.full_like(since, 3600 * tract)]):
        centre = track[::stride, None].astype(np.float32)
        width = np.float32((50, 70, 110, 200)[k])
        power += np.float32((1.0, 0.55, 0.25, 0.1)[k]) / (1 + np.square((BIN_HZ - centre) / width))
    scene.filter(np.sqrt(power))
    breath = speaker.breath * voicing
    scene.noise_power += np.square(breath[::stride, None]).astype(np.float32) * power
    scene.noise(0.5 * hissing, scene.band(4800.0 * tract, 0.5))
