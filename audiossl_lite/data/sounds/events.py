"""Thirty-two embedded event classes in four families, each defined by structure, not by spectrum or level."""

from __future__ import annotations

import numpy as np

from audiossl_lite.data.sounds.synthesis import Scene

# ---- impulsive: what matters is when the hits come -------------------------------------------------------------


def _hits(
    scene: Scene, times, *, ratio=1.0, decay_s=(0.012, 0.05), noise=(0.1, 0.7), accent=1.0
) -> None:
    """Strike a body of random size at these times; every hit differs a little in pitch, level and damping."""
    n_hits = len(times)
    body = scene.log_uniform(220, 1800) * scene.semitones(2.0, n_hits) * ratio
    modes = body[:, None] * np.array([1.0, scene.uniform(1.5, 2.1), scene.uniform(2.4, 3.3)])
    decay = scene.log_uniform(*decay_s) * scene.semitones(2.5, n_hits)
    level = accent * 10 ** (scene.rng.normal(0, 2.5, n_hits) / 20)
    scene.strikes(times, modes, decay, level, scene.uniform(*noise))


def _knock(scene: Scene) -> None:
    gap = scene.uniform(0.12, 0.17)
    times, _ = scene.onsets(scene.uniform(0.85, 1.1), (0, gap, 2 * gap))
    _hits(scene, times)


def _clap(scene: Scene) -> None:
    times, _ = scene.onsets(scene.uniform(0.42, 0.6))
    _hits(scene, times, noise=(0.4, 0.95))


def _footsteps(scene: Scene) -> None:
    times, place = scene.onsets(scene.uniform(0.55, 0.75), (0, scene.uniform(0.085, 0.12)))
    _hits(scene, times, ratio=np.where(place == 0, 1.0, 1.6), accent=np.where(place == 0, 1.0, 0.5))


def _gallop(scene: Scene) -> None:
    beat = scene.uniform(0.1, 0.125)
    times, place = scene.onsets(4 * beat, (0, beat, 2 * beat), jitter=0.02)
    _hits(scene, times, accent=np.where(place == 2, 1.0, 0.55), decay_s=(0.012, 0.025))


def _clock(scene: Scene) -> None:
    half = scene.uniform(0.22, 0.3)
    times, place = scene.onsets(2 * half, (0, half), jitter=0.01)
    _hits(
        scene, times, ratio=np.where(place == 0, 1.0, 2.2), decay_s=(0.005, 0.012), noise=(0.1, 0.3)
    )


def _bounce(scene: Scene) -> None:
    first, ratio = scene.uniform(0.3, 0.42), scene.uniform(0.74, 0.8)
    offsets = np.concatenate([[0], np.cumsum(first * ratio ** np.arange(11))])
    times, place = scene.onsets(offsets[-1] + 0.35, offsets)
    _hits(scene, times, accent=0.93**place)


def _rattle(scene: Scene) -> None:
    rate = scene.uniform(17, 22)
    n_hits = int(scene.uniform(0.35, 0.5) * rate)
    times, _ = scene.onsets(n_hits / rate + scene.uniform(0.2, 0.3), np.arange(n_hits) / rate)
    _hits(scene, times, decay_s=(0.006, 0.012))


def _typing(scene: Scene) -> None:
    n_hits = scene.rng.poisson(scene.uniform(6.5, 9) * scene.duration_s) + 2
    _hits(scene, np.sort(scene.rng.uniform(0, scene.duration_s, n_hits)), decay_s=(0.005, 0.015))


# ---- tonal: what matters is the pitch contour ------------------------------------------------------------------


def _voice(scene: Scene, semitones, amplitude, index=None, low=350, high=1500) -> None:
    """A tone with a random register; each repetition `index` (M,) is transposed and scaled a little."""
    ratio, level = np.ones(len(scene.seconds)), np.ones(len(scene.seconds))
    if index is not None:
        n_takes = int(index.max()) + 2
        ratio = scene.semitones(1.5, n_takes)[index]
        level = 10 ** (scene.rng.normal(0, 2, n_takes) / 20)[index]
    wobble = 2 ** (0.15 * scene.drift(6.0) / 12)
    contour = scene.log_uniform(low, high) * 2 ** (semitones / 12) * ratio * wobble
    harmonics = scene.harmonics(scene.uniform(4, 14), float(contour.max()))
    scene.tone(contour, amplitude * level, harmonics)


def _gate(since, length_s, rise_s=0.012):
    """1 from the onset for `length_s`, with short slopes."""
    return np.clip(since / rise_s, 0, 1) * np.clip((length_s - since) / rise_s, 0, 1)


def _beeper(scene: Scene) -> None:
    period = scene.uniform(0.24, 0.36)
    since, index = scene.since(scene.onsets(period, jitter=0.01)[0])
    _voice(scene, 0 * since, _gate(since, period * scene.uniform(0.4, 0.6)), index)


def _two_tone(scene: Scene) -> None:
    half, step = scene.uniform(0.3, 0.45), scene.uniform(4, 6)
    since, index = scene.since(scene.onsets(2 * half, jitter=0.01)[0])
    _voice(scene, np.where(since < half, step, 0), np.ones_like(since), index)


def _wail(scene: Scene) -> None:
    angle = 2 * np.pi * (scene.seconds / scene.uniform(1.0, 1.6) + scene.uniform(0, 1))
    _voice(
        scene,
        scene.uniform(5, 8) * np.sin(angle),
        np.ones_like(angle) * 10 ** (0.1 * scene.drift(2.0)),
    )


def _yelp(scene: Scene) -> None:
    period = scene.uniform(0.16, 0.24)
    since, index = scene.since(scene.onsets(period, jitter=0.02)[0])
    _voice(scene, scene.uniform(9, 13) * np.minimum(since / period, 1), np.ones_like(since), index)


def _rising(scene: Scene) -> None:
    _glide(scene, 1)


def _falling(scene: Scene) -> None:
    _glide(scene, -1)


def _glide(scene: Scene, direction: int) -> None:
    length = scene.uniform(0.3, 0.45)
    since, index = scene.since(scene.onsets(length + scene.uniform(0.1, 0.25))[0])
    climb = direction * scene.uniform(10, 16) * (np.minimum(since / length, 1) - 0.5)
    _voice(scene, climb, _gate(since, length, 0.03), index)


def _bell(scene: Scene) -> None:
    times, _ = scene.onsets(scene.uniform(0.5, 0.8), jitter=0.06)
    partials = np.array([1.0, 1.53, 2.09, 2.74, 3.76]) * scene.semitones(0.7, 5)
    modes = scene.log_uniform(350, 1200) * scene.semitones(1.5, len(times))[:, None] * partials
    scene.strikes(
        times,
        modes,
        scene.uniform(0.2, 0.35),
        10 ** (scene.rng.normal(0, 2, len(times)) / 20),
        0.02,
    )


def _arpeggio(scene: Scene) -> None:
    note = scene.uniform(0.09, 0.13)
    since, index = scene.since(scene.onsets(4 * note + scene.uniform(0.0, 0.06), jitter=0.01)[0])
    step = np.minimum(since // note, 3)
    chord = np.array([0, 4, 7, 12])[step.astype(int)]
    _voice(scene, chord, _gate(since - step * note, note, 0.01), index, high=1100)


# ---- noisy: what matters is how the noise moves ----------------------------------------------------------------


def _rain(scene: Scene) -> None:
    scene.noise(10 ** (0.05 * scene.drift(1.5)), scene.colour(3.0))
    n_drops = scene.rng.poisson(scene.uniform(22, 34) * scene.duration_s) + 1
    times = scene.rng.uniform(0, scene.duration_s, n_drops)
    modes = scene.log_uniform(900, 2500) * scene.semitones(7.0, (n_drops, 1))
    scene.strikes(
        times,
        modes,
        0.004,
        scene.uniform(6, 10) * 10 ** (scene.rng.normal(0, 4, n_drops) / 20),
        0.2,
    )


def _wind(scene: Scene) -> None:
    centre = scene.log_uniform(350, 1400) * 2 ** (0.55 * scene.drift(2.5))
    scene.noise(10 ** (0.25 * scene.drift(2.0)), scene.band(centre, scene.uniform(0.35, 0.55)))


def _waves(scene: Scene) -> None:
    phase = (scene.seconds / scene.uniform(1.2, 1.8) + scene.uniform(0, 1)) % 1
    swell = np.where(phase < 0.7, phase / 0.7, (1 - phase) / 0.3)
    scene.noise(10 ** (1.2 * (swell - 1)), scene.colour(4.0, 1.0))


def _fire(scene: Scene) -> None:
    scene.noise(10 ** (0.2 * scene.drift(6.0)), scene.band(scene.log_uniform(90, 250), 1.2))
    n_cracks = scene.rng.poisson(scene.uniform(7, 11) * scene.duration_s) + 1
    times = scene.rng.uniform(0, scene.duration_s, n_cracks)
    modes = scene.log_uniform(1200, 3500) * scene.semitones(6.0, (n_cracks, 1))
    scene.strikes(times, modes, 0.006, 3 * 10 ** (scene.rng.normal(0, 5, n_cracks) / 20), 0.85)


def _puffs(scene: Scene) -> None:
    period = scene.uniform(0.32, 0.5)
    since, index = scene.since(scene.onsets(period)[0])
    level = 10 ** (scene.rng.normal(0, 2, index.max() + 2) / 20)[index]
    scene.noise(level * np.exp(-since / (0.3 * period)), scene.colour(4.0, 1.0))


def _saw(scene: Scene) -> None:
    half = scene.uniform(0.17, 0.25)
    since, _ = scene.since(scene.onsets(2 * half, jitter=0.02)[0])
    stroke = np.sin(np.pi * np.clip((since % half) / half, 0, 1))
    centre = scene.log_uniform(700, 1500) * np.where(since < half, 1.0, 2.3)
    scene.noise(0.05 + stroke, scene.band(centre, scene.uniform(0.6, 0.9)))


def _rotor(scene: Scene) -> None:
    rate = scene.uniform(8.5, 11.5) * 2 ** (0.04 * scene.drift(1.0))
    angle = np.cumsum(rate) * 2 * np.pi * 0.004
    scene.noise(10 ** (0.5 * np.sin(angle)), scene.colour(4.0, 1.0))


def _breath(scene: Scene) -> None:
    period = scene.uniform(0.9, 1.2)
    since, _ = scene.since(scene.onsets(period)[0])
    inward = np.sin(np.pi * np.clip(since / (0.36 * period), 0, 1))
    outward = np.sin(np.pi * np.clip((since / period - 0.44) / 0.4, 0, 1))
    rise = np.clip(since / (0.36 * period), 0, 1)
    fall = np.clip((since / period - 0.44) / 0.4, 0, 1)
    centre = scene.log_uniform(500, 1300) * 2 ** (
        np.where(since < 0.4 * period, rise, 1 - fall) * 1.5
    )
    scene.noise(0.02 + inward + 0.8 * outward, scene.band(centre, 0.5))


# ---- modulated: what matters is the modulation of a carrier ----------------------------------------------------


def _engine(scene: Scene) -> None:
    firing = scene.uniform(24, 38) * 2 ** (0.06 * scene.drift(2.0))
    scene.tone(firing, 10 ** (0.08 * scene.drift(4.0)), scene.harmonics(scene.uniform(1.5, 4), 60))


def _rev(scene: Scene) -> None:
    length = scene.uniform(0.7, 1.0)
    since, index = scene.since(scene.onsets(length)[0])
    place = np.clip(since / length, 0, 1)
    climb = np.where(place < 0.65, place / 0.65, (1 - place) / 0.35)
    peak = scene.uniform(12, 18) * climb
    _voice(scene, peak, 10 ** (0.4 * climb), index, low=70, high=130)


def _cricket(scene: Scene) -> None:
    pulse = scene.uniform(0.045, 0.06)
    times, _ = scene.onsets(scene.uniform(0.36, 0.5), (0, pulse, 2 * pulse), jitter=0.02)
    since, _ = scene.since(times)
    _voice(scene, 0 * since, _gate(since, 0.5 * pulse, 0.006), low=1500, high=4500)


def _bee(scene: Scene) -> None:
    pitch = 2.0 * scene.drift(9.0) + 2.5 * scene.drift(2.0)
    _voice(scene, pitch, 10 ** (0.12 * scene.drift(6.0)), low=120, high=300)


def _warble(scene: Scene) -> None:
    length = scene.uniform(0.4, 0.6)
    since, index = scene.since(scene.onsets(length + scene.uniform(0.08, 0.2))[0])
    trill = scene.uniform(2.5, 4) * np.sin(2 * np.pi * scene.uniform(12, 16) * since)
    _voice(scene, trill, _gate(since, length, 0.03), index, low=700, high=2600)


def _cuckoo(scene: Scene) -> None:
    note = scene.uniform(0.17, 0.23)
    since, index = scene.since(scene.onsets(2 * note + scene.uniform(0.3, 0.45))[0])
    second = since >= note * 1.15
    within = np.where(second, since - note * 1.15, since)
    _voice(scene, np.where(second, -scene.uniform(3.5, 5), 0), _gate(within, note, 0.025), index)


def _frog(scene: Scene) -> None:
    length = scene.uniform(0.22, 0.34)
    since, index = scene.since(scene.onsets(length + scene.uniform(0.15, 0.3))[0])
    pulses = (0.5 - 0.5 * np.cos(2 * np.pi * scene.uniform(24, 32) * since)) ** 2
    _voice(scene, 0 * since, pulses * _gate(since, length), index, low=300, high=1100)


def _bark(scene: Scene) -> None:
    length = scene.uniform(0.14, 0.2)
    since, index = scene.since(scene.onsets(length + scene.uniform(0.2, 0.35), jitter=0.08)[0])
    place = np.clip(since / length, 0, 1)
    envelope = np.sin(np.pi * place) ** 0.7 * _gate(since, length)
    _voice(scene, 9 * np.sin(np.pi * place), envelope, index, low=220, high=500)
    scene.noise(0.5 * envelope, scene.band(scene.log_uniform(800, 2000), 1.0))


EVENTS = {  # class: (family, maker, what defines it)
    "knock": ("impulsive", _knock, "three hits in a row, then a pause"),
    "clap": ("impulsive", _clap, "single hits, evenly spaced"),
    "footsteps": (
        "impulsive",
        _footsteps,
        "pairs of hits, heel and toe, the second softer and higher",
    ),
    "gallop": ("impulsive", _gallop, "three beats and a rest without end, the third beat accented"),
    "clock": ("impulsive", _clock, "even clicks that alternate between low and high"),
    "bounce": ("impulsive", _bounce, "hits that come faster and faster, then start again"),
    "rattle": ("impulsive", _rattle, "runs of about twenty hits a second with gaps"),
    "typing": ("impulsive", _typing, "clicks at random times"),
    "beeper": ("tonal", _beeper, "one pitch, on and off, three times a second"),
    "two_tone": ("tonal", _two_tone, "two pitches that alternate without a gap"),
    "wail": ("tonal", _wail, "pitch that swings slowly up and down"),
    "yelp": ("tonal", _yelp, "fast upward sweeps without a gap, five a second"),
    "rising": ("tonal", _rising, "separate glides upward"),
    "falling": ("tonal", _falling, "separate glides downward"),
    "bell": ("tonal", _bell, "struck inharmonic partials that ring on"),
    "arpeggio": ("tonal", _arpeggio, "four rising steps of a chord, again and again"),
    "rain": ("noisy", _rain, "steady noise with many small drops"),
    "wind": ("noisy", _wind, "a narrow band of noise that wanders"),
    "waves": ("noisy", _waves, "noise that swells slowly and falls away"),
    "fire": ("noisy", _fire, "a low rumble with sharp crackles at random times"),
    "puffs": ("noisy", _puffs, "noise bursts with a sharp attack and a soft decay"),
    "saw": ("noisy", _saw, "strokes of noise, alternately dark and bright"),
    "rotor": ("noisy", _rotor, "noise that beats ten times a second"),
    "breath": ("noisy", _breath, "noise that rises in pitch, falls in pitch, and pauses"),
    "engine": ("modulated", _engine, "a dense harmonic hum of low pulses"),
    "rev": ("modulated", _rev, "a harmonic growl whose pitch climbs slowly and drops"),
    "cricket": ("modulated", _cricket, "groups of three very short high pulses"),
    "bee": ("modulated", _bee, "a harmonic buzz whose pitch wanders"),
    "warble": ("modulated", _warble, "notes with a fast, wide trill"),
    "cuckoo": ("modulated", _cuckoo, "two notes, the second lower, then a pause"),
    "frog": ("modulated", _frog, "short croaks made of thirty pulses a second"),
    "bark": ("modulated", _bark, "short harmonic bursts whose pitch rises and falls"),
}
