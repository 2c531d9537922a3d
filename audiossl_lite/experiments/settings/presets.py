"""Every experiment's settings at its scales, side by side: their difference is the documentation.

`paper` comes first and is the paper's (or the official code's) own; the others say only what they change. `gpu` is
what stage 5 of `make gpu` trains in minutes on one card; experiments that it does not train have no such scale.
Where each `paper` value comes from stands in `preset_sources.py`; chapter 05 prints both as a table.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

from audiossl_lite.experiments.settings.audiomae import MASKED, MASKED_SOURCES
from audiossl_lite.experiments.settings.encoders import ENCODER_RUNS, ENCODER_RUNS_SOURCES
from audiossl_lite.experiments.settings.evaluation import EVALUATED, EVALUATED_SOURCES
from audiossl_lite.experiments.settings.few_shot import FEW_SHOT, FEW_SHOT_SOURCES
from audiossl_lite.experiments.settings.sources import GPU_SOURCES, SOURCES
from audiossl_lite.experiments.settings.uamix import TUNED, TUNED_SOURCES
from audiossl_lite.parameters import nearest, typed_value

SCALES = ("lite", "workshop", "gpu", "paper")


@dataclass(frozen=True)
class Pretraining:
    """Settings of one self-supervised run, from clips to trained encoder.

    Where: ATST Sec. 3.1; chapter 05
    """

    # data (embedded sounds only: real data has the size it has)
    clips_per_class: int
    clip_s: float
    # what the network sees
    frontend: str  # "atst_official", "atst_paper" or "byola"
    crop_from: str  # "waveform" or "spectrogram"
    segments: str  # "one" or "two"
    segment_s: float
    memory_size: int
    # the network
    encoder: str  # a function of audiossl_lite.encoders
    drop_path: float
    head_bias: bool
    hidden_dim: int
    # the run
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    momentum: float
    # with defaults that most experiments share
    mixup: bool = True
    resized_crop: bool = True
    shared_memory: bool = False
    method: str = "byol"  # or "contrastive"
    projection_dim: int = 256
    reduction: str = "sum"
    joint_views: bool = False
    predictor: bool = True
    stop_gradient: bool = True
    temperature: float = 0.15
    final_learning_rate: float = 1e-6
    schedule: str = "cosine"
    weight_decay: float = 0.0
    final_weight_decay: float = 0.0
    final_momentum: float = 1.0
    eps: float = 1e-8
    precision: str = "32-true"
    log_every: int = 10
    save_every: int = 500
    probe_every: int = 0
    on_collapse: str = "stop"


# ATST-Small as the text of the paper describes it.
ATST_PAPER = Pretraining(
    clips_per_class=20,
    clip_s=10.0,
    frontend="atst_paper",
    crop_from="spectrogram",
    segments="two",
    segment_s=6.0,
    memory_size=2048,
    encoder="atst_small",
    drop_path=0.0,
    head_bias=True,
    hidden_dim=4096,
    steps=39_000,
    batch_size=1536,
    learning_rate=5e-4,
    warmup_steps=1300,
    momentum=0.99,
    weight_decay=0.04,
    final_weight_decay=0.4,
)
# ATST-Small as the authors' code trains it.
ATST_OFFICIAL = replace(
    ATST_PAPER,
    frontend="atst_official",
    crop_from="waveform",
    memory_size=2000,
    drop_path=0.1,
    head_bias=False,
    reduction="mean",
    joint_views=True,
    learning_rate=3e-3,
    eps=1e-6,
)
# ATST-Base: what differs from Small.
BASE = {
    "encoder": "atst_base",
    "steps": 260_400,
    "warmup_steps": 13_020,
    "learning_rate": 2e-4,
    "momentum": 0.9995,
}
BASE_OFFICIAL = BASE | {"steps": 318_000, "warmup_steps": 15_860, "learning_rate": 1.2e-3}
BYOLA_PAPER = Pretraining(
    clips_per_class=20,
    clip_s=10.0,
    frontend="byola",
    crop_from="waveform",
    segments="one",
    segment_s=0.95,
    memory_size=2048,
    shared_memory=True,
    encoder="byola_cnn",
    drop_path=0.0,
    head_bias=True,
    hidden_dim=4096,
    steps=766_400,
    batch_size=256,
    learning_rate=3e-4,
    warmup_steps=0,
    schedule="constant",
    final_learning_rate=3e-4,
    momentum=0.99,
    final_momentum=0.99,
)

WORKSHOP = {
    "clip_s": 5.0,
    "clips_per_class": 40,
    "segment_s": 3.0,
    "encoder": "atst_mini",
    "drop_path": 0.0,
    "hidden_dim": 1024,
    "steps": 1200,
    "batch_size": 64,
    "warmup_steps": 60,
    "learning_rate": 5e-4,
    "probe_every": 150,
    "save_every": 150,
}
LITE = {
    "clip_s": 4.0,
    "clips_per_class": 16,
    "segment_s": 2.0,
    "encoder": "atst_tiny",
    "drop_path": 0.0,
    "hidden_dim": 512,
    "steps": 120,
    "batch_size": 64,
    "warmup_steps": 10,
    "learning_rate": 1e-3,
    "memory_size": 512,
    "probe_every": 0,
}
# Chapter 05 runs a dozen of these one after the other, so each is short.
# Half the clips a step and a faster teacher: with 0.99 it has hardly left its start after a few hundred steps.
ATST_WORKSHOP = {"steps": 300, "batch_size": 32, "momentum": 0.95, "probe_every": 0}
ATST_LITE = {"steps": 24, "warmup_steps": 5, "clips_per_class": 10}
CNN = {"encoder": "byola_cnn", "segment_s": 0.95, "warmup_steps": 0}
# A faster teacher and more steps of fewer clips: a slow teacher has hardly moved after a hundred steps.
FAST_TEACHER = {"batch_size": 32, "momentum": 0.95}
TINY_CNN = CNN | FAST_TEACHER | {"encoder": "byola_tiny", "steps": 100}

# Minutes on one GPU, on the workshop corpus. `steps` is only the length of a schedule: the stage sets what fits.
GPU = {
    "clip_s": 5.0,
    "steps": 3000,
    "warmup_steps": 300,
    "batch_size": 512,
    "final_momentum": 0.99,
    "precision": "bf16-mixed",
    "log_every": 50,
    "save_every": 1000,
}
ATST_GPU = {"segment_s": 1.0, "hidden_dim": 2048, "learning_rate": 1e-3}
BYOLA_GPU = {
    "segment_s": 0.95,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "final_learning_rate": 1e-6,
    "hidden_dim": 2048,
}

EXPERIMENTS: dict[str, dict[str, Pretraining]] = {
    "atst": {
        "paper": ATST_PAPER,
        "gpu": replace(ATST_PAPER, **GPU | ATST_GPU),
        "workshop": replace(ATST_PAPER, **WORKSHOP | ATST_WORKSHOP),
        "lite": replace(ATST_PAPER, **LITE | ATST_LITE),
    },
    "atst_official": {
        "paper": ATST_OFFICIAL,
        "workshop": replace(ATST_OFFICIAL, **WORKSHOP),
        "lite": replace(ATST_OFFICIAL, **LITE),
    },
    "atst_base": {
        "paper": replace(ATST_PAPER, **BASE),
        "workshop": replace(ATST_PAPER, **WORKSHOP),
        "lite": replace(ATST_PAPER, **LITE),
    },
    "atst_base_official": {
        "paper": replace(ATST_OFFICIAL, **BASE_OFFICIAL),
        "workshop": replace(ATST_OFFICIAL, **WORKSHOP),
        "lite": replace(ATST_OFFICIAL, **LITE),
    },
    "byola": {
        "paper": BYOLA_PAPER,
        "gpu": replace(BYOLA_PAPER, **GPU | BYOLA_GPU),
        "workshop": replace(BYOLA_PAPER, **WORKSHOP | CNN | FAST_TEACHER),
        "lite": replace(BYOLA_PAPER, **LITE | TINY_CNN),
    },
}
# Experiments of other kinds have settings of their own; `preset` finds them all.
FAMILIES: dict[str, dict[str, Any]] = (
    EXPERIMENTS | MASKED | TUNED | EVALUATED | ENCODER_RUNS | FEW_SHOT
)
ALL_SOURCES: dict[str, dict[str, str]] = (
    SOURCES
    | MASKED_SOURCES
    | TUNED_SOURCES
    | EVALUATED_SOURCES
    | ENCODER_RUNS_SOURCES
    | FEW_SHOT_SOURCES
)


def _hint(name: str, known) -> str:
    return f"; did you mean {nearest(name, known)!r}? Known: {', '.join(known)}."


def override(config: Any, overrides: dict[str, Any] | None) -> Any:
    """A copy of a frozen dataclass with some fields changed; KeyError names the nearest field, TypeError the type."""
    known = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changes = {}
    for name, value in (overrides or {}).items():
        if name not in known:
            raise KeyError(f"unknown setting {name!r}{_hint(name, known)}")
        changes[name] = typed_value(name, value, known[name])
    return replace(config, **changes)


def preset(experiment: str, scale: str = "lite", overrides: dict[str, Any] | None = None) -> Any:
    """Settings of an experiment at a scale, with overrides; every misspelling is an error that names the nearest."""
    if experiment not in FAMILIES:
        raise KeyError(f"unknown experiment {experiment!r}{_hint(experiment, FAMILIES)}")
    if scale not in FAMILIES[experiment]:
        raise KeyError(f"unknown scale {scale!r}{_hint(scale, FAMILIES[experiment])}")
    return override(FAMILIES[experiment][scale], overrides)


def preset_table(experiment: str) -> list[dict[str, Any]]:
    """One row a setting: its value at each scale, the source of the `paper` value, and why `gpu` has another."""
    scales = FAMILIES[experiment]
    reasons = GPU_SOURCES.get(experiment, {})
    return [
        {"setting": field.name}
        | {scale: getattr(scales[scale], field.name) for scale in SCALES if scale in scales}
        | {"source of the paper value": ALL_SOURCES[experiment][field.name]}
        | ({"source of the gpu value": reasons.get(field.name, "as paper")} if reasons else {})
        for field in dataclasses.fields(scales["paper"])
    ]
