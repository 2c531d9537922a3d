"""Twelve embedded instruments in four families, each playing one pitch again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audiossl_lite.data.sounds.synthesis import Scene

PITCHES_MIDI = tuple(range(48, 72, 2))  # whole tones over two octaves, C3 to A#4
_NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
PITCH_NAMES = tuple(f"{_NOTE_NAMES[m % 12]}{m // 12 - 1}" for m in PITCHES_MIDI)


@dataclass(frozen=True)
class Instrument:
    """Envelope, harmonics and habits of an instrument; `partials` makes it a struck, inharmonic one."""

    name: str
    family: str
    text: str
    tilt_db: float = 6.0  # fall of the harmonics per octave
    odd: bool = False
    attack_s: float = 0.01
    decay_s: float = 0.5
    sustain: float = 0.0  # level that is held, 0 for a sound that only decays
    vibrato: float = 0.0  # semitones at 5 to 6 Hz
    tremolo: float = 0.0  # level swing at 4 to 5 Hz, in decades
    breath: float = 0.0
    scoop: float = 0.0  # semitones by which a note starts below its pitch
    partials: tuple[float, ...] = ()


INSTRUMENTS = (
    Instrument("guitar", "plucked", "harmonics that die away in half a second", 5, decay_s=0.45),
    Instrument("harp", "plucked", "dull harmonics with a long decay", 14, decay_s=0.9),
    Instrument("banjo", "plucked", "bright harmonics that stop at once", 1, decay_s=0.1),
    Instrument(
        "marimba",
        "struck",
        "fundamental and its fourth harmonic, short",
        decay_s=0.14,
        partials=(1, 3.9, 9.2),
    ),
    Instrument(
        "chime", "struck", "inharmonic partials, long", decay_s=0.8, partials=(1, 2.76, 5.4, 8.9)
    ),
    Instrument(
        "steelpan",
        "struck",
        "octave and twelfth, beating",
        decay_s=0.3,
        partials=(1, 1.006, 2.01, 3.02, 4.1),
    ),
    Instrument(
        "violin",
        "bowed",
        "bright, slow attack, wide vibrato",
        4,
        attack_s=0.07,
        sustain=1,
        vibrato=0.6,
    ),
    Instrument(
        "cello",
        "bowed",
        "dark, slow attack, wide vibrato",
        11,
        attack_s=0.1,
        sustain=1,
        vibrato=0.4,
    ),
    Instrument(
        "viol", "bowed", "bright, no vibrato, swelling", 5, attack_s=0.22, sustain=1, breath=0.06
    ),
    Instrument(
        "flute",
        "blown",
        "few harmonics, breath, tremolo",
        20,
        attack_s=0.04,
        sustain=1,
        tremolo=0.2,
        breath=0.15,
    ),
    Instrument(
        "clarinet", "blown", "odd harmonics, held still", 5, odd=True, attack_s=0.025, sustain=1
    ),
    Instrument(
        "trumpet",
        "blown",
        "bright, scooped from below, held",
        2,
        attack_s=0.03,
        sustain=1,
        scoop=3.0,
    ),
)
FAMILIES = tuple(dict.fromkeys(instrument.family for instrument in INSTRUMENTS))


def play_notes(scene: Scene, instrument: Instrument, pitch: int) -> None:
    """Add notes of one pitch; length, loudness, brightness and tuning differ from note to note."""
    period_s = scene.uniform(0.5, 0.9)
    times, _ = scene.onsets(period_s, jitter=0.06)
    since, index = scene.since(times)
    n_takes = int(index.max()) + 2
    loudness = 10 ** (scene.rng.normal(0, 3, n_takes) / 20)
    tuning = scene.semitones(0.12, n_takes) * scene.semitones(0.2)
    pitch_hz = 440.0 * 2 ** ((PITCHES_MIDI[pitch] - 69) / 12)
    decay_s = instrument.decay_s * scene.uniform(0.8, 1.25)
    if instrument.partials:
        modes = pitch_hz * np.resize(tuning, len(times))[:, None] * np.array(instrument.partials)
        scene.strikes(times, modes, decay_s, np.resize(loudness, len(times)), 0.04)
        return

    held_s = period_s * scene.uniform(0.7, 0.95)
    envelope = np.clip(since / instrument.attack_s, 0, 1)
    envelope = envelope * (instrument.sustain + (1 - instrument.sustain) * np.exp(-since / decay_s))
    envelope = envelope * np.clip((held_s - since) / 0.04, 0, 1) * loudness[index]
    swing = np.sin(2 * np.pi * scene.uniform(4.2, 5.0) * scene.seconds)
    envelope = envelope * 10 ** (instrument.tremolo * (swing - 1))
    bend = instrument.vibrato * np.sin(2 * np.pi * scene.uniform(5.2, 6.2) * scene.seconds)
    bend = bend - instrument.scoop * np.exp(-since / 0.05) + 0.05 * scene.drift(6.0)
    contour = pitch_hz * tuning[index] * 2 ** (bend / 12)
    highest = float(contour.max())
    # Louder notes are brighter: two mixtures of the same harmonics, chosen note by note.
    share = np.clip(0.5 + 0.15 * scene.rng.standard_normal(n_takes), 0, 1)[index]
    for tilt_db, part in ((instrument.tilt_db, share), (instrument.tilt_db + 5, 1 - share)):
        scene.tone(contour, envelope * part, scene.harmonics(tilt_db, highest, instrument.odd))
    if instrument.breath:
        scene.noise(instrument.breath * envelope, scene.band(pitch_hz * 3, 1.5))
