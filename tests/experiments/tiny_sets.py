"""Every encoder of the book, each trained for two steps, once for all tests that ask it."""

from __future__ import annotations

import functools

from audiossl_lite.experiments.build import TrainTest
from audiossl_lite.experiments.build_uamix import tuning_pools
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.study_set import encoder_set
from audiossl_lite.experiments.zoo import EncoderSet

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
