"""What several tests train: every encoder of the book, for two steps and once, jobs at `lite`, a tiny CNN."""

from __future__ import annotations

import functools

from audiossl_lite.experiments.build import Parts, TrainTest
from audiossl_lite.experiments.build_uamix import tuning_pools
from audiossl_lite.experiments.jobs import make_parts, synthetic_source
from audiossl_lite.experiments.real_sounds import sounds
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.settings.study import RUNS
from audiossl_lite.experiments.study_set import encoder_set
from audiossl_lite.experiments.zoo import EncoderSet
from audiossl_lite.training.sources import ClipSource

TINY = {
    "byola_steps": 2, "atst_steps": 2, "mae_steps": 2, "head_steps": 2, "tuning_steps": 2,
    "byola_batch_size": 8, "atst_batch_size": 8,
}  # fmt: skip


@functools.cache
def tiny_pools() -> list[TrainTest]:
    return tuning_pools("", preset("audiomae", "lite", {"clips_per_class": 3, "clip_s": 1.5}))


def tiny_set(folder=None) -> EncoderSet:
    """A set of its own, in which nothing is trained yet."""
    runs = preset("encoders", "lite", TINY)
    return encoder_set(tiny_pools(), runs, device="cpu", n_episodes=20, output_dir=folder)


shared_set = functools.cache(tiny_set)

# A row of the study that ends after four steps.
SHORT_CNN = {
    "steps": 4, "warmup_steps": 1, "batch_size": 8, "log_every": 1, "precision": "32-true",
    "hidden_dim": 32, "encoder": "byola_tiny", "memory_size": 16, "segment_s": 0.5,
}  # fmt: skip


def lite_job(name: str, batch: int = 4) -> tuple[Parts, ClipSource]:
    """Method, views and settings of a job, and so many made-up clips."""
    job = find_job(name)
    config = preset(job.experiment, "lite")
    source, frontend = synthetic_source(job, config, batch)
    return make_parts(job, config, frontend), source


# Rows of the study, small enough for a second each.
SMALL_RUNS = {
    "ATST": {"hidden_dim": 64, "memory_size": 16, "segment_s": 0.5},
    "AudioMAE": {"n_frames": 48, "decoder_dim": 32, "decoder_depth": 1},
    "EAT": {"n_frames": 48, "decoder_dim": 32, "decoder_depth": 1, "n_masks": 2},
    "No Mixing": {"head_steps": 2, "head_batch_size": 8, "hidden_dim": 32, "predictor_dim": 32, "queue_size": 16},
}  # fmt: skip
_drawn, _decoded = sounds.draw_scores, sounds.decoded


def small_study(monkeypatch) -> None:
    """Runs of four steps on a few embedded sounds, scored on 20 episodes."""
    for name, changes in SMALL_RUNS.items():
        small = {"steps": 4, "batch_size": 8, "log_every": 1, "precision": "32-true"} | changes
        if name != "No Mixing":
            small["warmup_steps"] = 1
        monkeypatch.setitem(RUNS, name, RUNS[name] | small)
    monkeypatch.setattr(sounds, "decoded", lambda out, data, toy: _decoded(out, data, toy=True))
    monkeypatch.setattr(
        sounds, "draw_scores", lambda listed, n_episodes, **how: _drawn(listed, 20, **how)
    )
