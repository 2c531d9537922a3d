"""The embedded sounds: deterministic, well formed, and as described."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiossl_lite.data.sounds import POOLS, describe, synthetic_clips
from audiossl_lite.data.sounds.synthesis import Scene, overlap_add, spectra, upsample
from audiossl_lite.data.sounds.voices import SPEAKERS, WORDS

TASKS = {
    "event": {"event": 32, "family": 4},
    "voice": {"speaker": 10, "word": 10},
    "note": {"instrument": 12, "family": 4, "pitch": 12},
}


@pytest.mark.parametrize("pool", POOLS)
def test_same_seed_same_clips_and_clip_i_does_not_depend_on_n(pool):
    few = synthetic_clips(pool, clips_per_class=2, seed=3, duration_s=1.0)
    many = synthetic_clips(pool, clips_per_class=4, seed=3, duration_s=1.0)
    other = synthetic_clips(pool, clips_per_class=2, seed=4, duration_s=1.0)
    assert (
        few.fingerprint()
        == synthetic_clips(pool, clips_per_class=2, seed=3, duration_s=1.0).fingerprint()
    )
    place = {name: index for index, name in enumerate(many.names)}
    same = many.subset([place[name] for name in few.names])
    assert torch.equal(same.waveforms, few.waveforms)
    for task in few.labels:
        assert torch.equal(same.labels[task], few.labels[task])
    assert not set(few.names) & set(other.names)
    assert not torch.isclose(few.waveforms, other.waveforms).all(dim=1).any()


def test_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    synthetic_clips("event", clips_per_class=1, duration_s=1.0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("pool", POOLS)
def test_clips_are_well_formed(pool):
    clips = synthetic_clips(pool, clips_per_class=12, seed=1)
    assert clips.task == POOLS[pool]
    assert clips.waveforms.shape == (12 * TASKS[pool][clips.task], 64_000)
    assert bool(torch.isfinite(clips.waveforms).all())
    assert float(clips.waveforms.abs().max()) < 1.0
    level_db = 20 * clips.waveforms.square().mean(1).sqrt().log10()
    assert float(level_db.min()) > -40
    assert float(level_db.std()) > 3  # the level is a nuisance, so it must vary
    assert float(clips.waveforms.mean(1).abs().max()) < 0.02
    for task, n_classes in TASKS[pool].items():
        assert len(clips.class_names[task]) == n_classes
        assert len(clips.labels[task].unique()) == n_classes


def test_groups_of_each_pool_are_the_thing_that_could_leak():
    events = synthetic_clips("event", clips_per_class=2, duration_s=0.5)
    assert len(events.groups["event"].unique()) == len(events)
    assert torch.equal(events.groups["family"], events.labels["event"])
    voices = synthetic_clips("voice", clips_per_class=10, duration_s=0.5)
    assert torch.equal(voices.groups["speaker"], voices.labels["word"])
    assert torch.equal(voices.groups["word"], voices.labels["speaker"])
    pairs = set(zip(voices.labels["speaker"].tolist(), voices.labels["word"].tolist()))
    assert len(pairs) == 100  # every speaker says every word
    notes = synthetic_clips("note", clips_per_class=12, duration_s=0.5)
    assert torch.equal(notes.groups["instrument"], notes.labels["pitch"])
    assert torch.equal(notes.groups["family"], notes.labels["instrument"])
    assert len(set(zip(notes.labels["instrument"].tolist(), notes.labels["pitch"].tolist()))) == 144


@pytest.mark.parametrize("pool", POOLS)
def test_every_class_is_described(pool):
    rows = describe(pool)
    clips = synthetic_clips(pool, clips_per_class=1, duration_s=0.5)
    assert tuple(row.name for row in rows) == clips.class_names[POOLS[pool]]
    assert len({row.text for row in rows}) == len(rows)
    assert all(10 < len(row.text) < 80 for row in rows)
    if "family" in clips.labels:
        families = clips.class_names["family"]
        assert [families[k] for k in clips.labels["family"]] == [row.family for row in rows]


def test_wrong_arguments_are_named():
    for options, word in (
        ({"pool": "noise"}, "unknown pool"),
        ({"clips_per_class": 0}, "clips_per_class"),
        ({"duration_s": 0.1}, "duration_s"),
    ):
        with pytest.raises(ValueError, match=word):
            synthetic_clips(**options)
    with pytest.raises(ValueError, match="unknown pool"):
        describe("noise")


def test_short_time_transform_is_undone_by_overlap_add():
    samples = np.random.default_rng(0).standard_normal(2560).astype(np.float32)
    assert spectra(samples).shape == (11, 257)
    assert np.allclose(overlap_add(spectra(samples)), samples, atol=1e-5)


def test_upsample_passes_through_the_control_points():
    contour = np.array([0.0, 1.0, -1.0])
    fine = upsample(contour)
    assert fine.shape == (128,)
    assert np.allclose(fine[::64], contour[:2])
    assert fine[96] == pytest.approx(0.0)


def test_a_tone_has_the_pitch_that_was_asked_for():
    scene = Scene(np.random.default_rng(0), 1.0)
    ones = np.ones(len(scene.seconds))
    scene.tone(500 * ones, ones, np.array([1.0, 0.5]))
    spectrum = np.abs(np.fft.rfft(scene.dry[:16_000]))
    assert set(np.argsort(spectrum)[-2:]) == {500, 1000}
    assert spectrum[500] == pytest.approx(2 * spectrum[1000], rel=0.02)


def test_strikes_begin_at_their_onsets():
    scene = Scene(np.random.default_rng(0), 1.0)
    scene.strikes(np.array([-0.2, 0.25, 0.99]), np.full((3, 1), 800.0), 0.02, 1.0, 0.2)
    assert not scene.dry[:4000].any()
    assert np.abs(scene.dry[4000:4400]).max() > 0.2
    scene.strikes(np.zeros(0), np.zeros((0, 1)), 0.02)  # no hit is no fault


def test_speakers_and_words_are_distinct():
    assert len({(s.pitch_hz, s.tract) for s in SPEAKERS}) == len(SPEAKERS)
    assert len(set(WORDS)) == len(WORDS) == 10


def test_more_than_fits_into_memory_is_refused_before_it_is_asked_for():
    with pytest.raises(ValueError, match=r"need \d+ GiB, more than 8; lower clips_per_class"):
        synthetic_clips("event", clips_per_class=10**9)
