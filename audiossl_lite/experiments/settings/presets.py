"""Every experiment's settings at its scales, side by side: their difference is the documentation.

`paper` is the paper's (or the official code's) own, each value with its source; the others say only what they change.
`gpu` is what stage 5 of `make gpu` trains in minutes on one card, with the reason of each change; experiments that it
does not train have no such scale. Chapter 05 prints values and sources as a table.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

from audiossl_lite.common.parameters import nearest, typed_value
from audiossl_lite.common.ranges import check_ranges
from audiossl_lite.experiments.settings.audiomae import MASKED
from audiossl_lite.experiments.settings.data2vec import LATENT
from audiossl_lite.experiments.settings.encoders import ENCODER_RUNS, EncoderRuns
from audiossl_lite.experiments.settings.evaluation import EVALUATED
from audiossl_lite.experiments.settings.few_shot import FEW_SHOT
from audiossl_lite.experiments.settings.scales import GPU, OURS, Scales
from audiossl_lite.experiments.settings.uamix import TUNED

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
    head_bias: bool  # of BYOL's heads; a contrastive one has none
    hidden_dim: int
    # the run
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    momentum: float
    # what most experiments share
    mixup: bool
    resized_crop: bool
    shared_memory: bool
    normalise_views: bool
    method: str  # "byol" or "contrastive"
    projection_dim: int
    reduction: str
    joint_views: bool
    predictor: bool
    stop_gradient: bool
    temperature: float
    final_learning_rate: float
    schedule: str
    weight_decay: float
    final_weight_decay: float
    final_momentum: float
    eps: float
    precision: str
    log_every: int
    save_every: int
    probe_every: int
    on_collapse: str


# ATST-Small as the text of the paper describes it.
ATST = OURS | {
    "clips_per_class": (20, "not used at this scale: AudioSet has the size it has (ATST Sec. 3.1)"),
    "clip_s": (10.0, "ATST Sec. 3.1: AudioSet clips of 10 s"),
    "frontend": ("atst_paper", "ATST Sec. 3.1: Hamming, 25 ms, 64 bands, 60-7800 Hz, min-max"),
    "crop_from": ("spectrogram", "ATST Sec. 2.2.1: segments are cut from the mel-spectrogram"),
    "segments": ("two", "ATST Sec. 2.2.1: two different segments"),
    "segment_s": (6.0, "ATST Sec. 3.1: 6 s"),
    "memory_size": (2048, "ATST Sec. 3.1: as BYOL-A, whose memory holds 2048"),
    "encoder": ("atst_small", "ATST Sec. 3.1: 12 blocks, 6 heads, 384 wide, 1536 inside"),
    "drop_path": (0.0, "ATST does not mention it: off"),
    "head_bias": (True, "ATST Sec. 2.1: not stated; torch's default"),
    "hidden_dim": (4096, "ATST Sec. 2.1"),
    "steps": (39_000, "ATST Sec. 3.1: 300 epochs of 200,000 / 1536 = 130 steps"),
    "batch_size": (1536, "ATST Sec. 3.1"),
    "learning_rate": (5e-4, "ATST Sec. 3.1: 5e-4, as printed"),
    "warmup_steps": (1300, "ATST Sec. 3.1: 10 epochs"),
    "momentum": (0.99, "ATST Sec. 3.1: m0 = 0.99"),
    "mixup": (True, "ATST Sec. 2.2.1"),
    "resized_crop": (True, "ATST Sec. 2.2.1"),
    "shared_memory": (False, "not stated; one memory per view, as the official code"),
    "normalise_views": (False, "ATST does not mention it, its official code has none"),
    "method": ("byol", "ATST Sec. 2.1"),
    "projection_dim": (256, "ATST Sec. 2.1"),
    "reduction": ("sum", "ATST Sec. 2.1: L + L'"),
    "joint_views": (False, "ATST Sec. 2.1: each view is fed on its own"),
    "predictor": (True, "ATST Sec. 2.1"),
    "stop_gradient": (True, "ATST Sec. 2.1"),
    "temperature": (0.15, "not used by BYOL"),
    "final_learning_rate": (1e-6, "ATST Sec. 3.1: 1e-6"),
    "schedule": ("cosine", "ATST Sec. 3.1: cosine"),
    "weight_decay": (0.04, "ATST Sec. 3.1: from 0.04"),
    "final_weight_decay": (0.4, "ATST Sec. 3.1: to 0.4"),
    "final_momentum": (1.0, "ATST Sec. 3.1: rises to 1"),
    "eps": (1e-8, "not stated; AdamW's default"),
    "precision": ("32-true", "official code: fp32"),
    "on_collapse": ("stop", "this project"),
}  # fmt: skip
# ATST-Small as the authors' code trains it.
ATST_OFFICIAL = ATST | {
    "frontend": ("atst_official", "official code: Hann, 64 ms, floor 80 dB below the maximum of the crop"),
    "crop_from": ("waveform", "official code: cut the waveform, then mel"),
    "memory_size": (2000, "official code: 2000"),
    "drop_path": (0.1, "official code: 0.1, in the teacher too"),
    "head_bias": (False, "official code: linear layers without bias"),
    "reduction": ("mean", "official code: (L + L') / 2"),
    "joint_views": (True, "official code: one forward for both views"),
    "learning_rate": (3e-3, "official code: 5e-4 x 1536 / 256"),
    "eps": (1e-6, "official code: 1e-6"),
}  # fmt: skip
# ATST-Base: what differs from Small.
BASE = {
    "encoder": ("atst_base", "ATST Sec. 3.1: 12 blocks, 12 heads, 768 wide, 3072 inside"),
    "steps": (260_400, "ATST Sec. 3.1: 200 epochs of about 2,000,000 / 1536 = 1302 steps"),
    "warmup_steps": (13_020, "ATST Sec. 3.1: 10 epochs"),
    "learning_rate": (2e-4, "ATST Sec. 3.1: 2e-4, as printed"),
    "momentum": (0.9995, "ATST Sec. 3.1: m0 = 0.9995"),
}  # fmt: skip
BASE_OFFICIAL = BASE | {
    "steps": (318_000, "official code, base script: 318,000"),
    "warmup_steps": (15_860, "official code, base script: 15,860"),
    "learning_rate": (1.2e-3, "official code: 2e-4 x 1536 / 256"),
}  # fmt: skip
BYOLA = ATST | {
    "clip_s": (10.0, "BYOL-A Sec. 4.1: AudioSet clips of 10 s"),
    "frontend": ("byola", "BYOL-A Sec. 4.1: 64 ms windows, 10 ms hop, 64 bands, standardised natural log"),
    "crop_from": ("waveform", "BYOL-A, official code: cut the waveform, then mel"),
    "segments": ("one", "BYOL-A Sec. 3.1: one segment, two augmentations"),
    "segment_s": (0.95, "BYOL-A Sec. 4.1: 96 frames"),
    "memory_size": (2048, "BYOL-A Sec. 3.2: 2048"),
    "encoder": ("byola_cnn", "BYOL-A Sec. 4.1: three convolution blocks, 512-d"),
    "drop_path": (0.0, "not a transformer"),
    "head_bias": (True, "BYOL-A, official code"),
    "hidden_dim": (4096, "BYOL-A Sec. 4.1: 4096"),
    "steps": (767_100, "BYOL-A, official code: 100 epochs of 1,963,807 // 256 = 7,671 steps"),
    "batch_size": (256, "BYOL-A Sec. 4.1: 256"),
    "learning_rate": (3e-4, "BYOL-A Sec. 4.1: Adam, 3e-4"),
    "warmup_steps": (0, "BYOL-A: none"),
    "momentum": (0.99, "BYOL-A Sec. 4.1: 0.99"),
    "shared_memory": (True, "BYOL-A, official code: both views store and draw"),
    "normalise_views": (True, "BYOL-A Sec. 3.4; official code: one mean and deviation over both views of a batch"),
    "reduction": ("sum", "BYOL-A Sec. 3.1: L + L'"),
    "joint_views": (False, "BYOL-A, official code: one forward per view"),
    "final_learning_rate": (3e-4, "BYOL-A: constant"),
    "schedule": ("constant", "BYOL-A: constant"),
    "weight_decay": (0.0, "BYOL-A: none"),
    "final_weight_decay": (0.0, "BYOL-A: none"),
    "final_momentum": (0.99, "BYOL-A: constant"),
}  # fmt: skip

# The study of real sounds (`python -m audiossl_lite workshop`) and the jobs on one's own: up to an hour of one core.
# At so few steps a momentum that rises to 1 freezes the teacher on early weights.
WORKSHOP = {
    "clip_s": 5.0,
    "drop_path": 0.0,
    "hidden_dim": 1024,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "momentum": 0.99,
    "final_momentum": 0.99,
    "precision": "auto",
    "log_every": 50,
    "save_every": 100,
}
ATST_WORKSHOP = WORKSHOP | {
    "segment_s": 1.0,
    "encoder": "atst_tiny",
    "steps": 3000,
    "warmup_steps": 300,
}
# The longer of the two: a larger network and twice the steps.
BASE_WORKSHOP = ATST_WORKSHOP | {"encoder": "atst_mini", "steps": 6000, "warmup_steps": 600}
BYOLA_WORKSHOP = WORKSHOP | {
    "normalise_views": False,  # as in every recorded run
    "encoder": "byola_small",
    "steps": 1500,
    "warmup_steps": 150,
    "schedule": "cosine",
    "final_learning_rate": 1e-6,
}
# The small scales are also those of ATST-Base: hence the momentum of ATST-Small.
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
    "momentum": 0.99,
    "memory_size": 512,
    "probe_every": 0,
}
# Chapter 05 runs a dozen of these one after the other, so each is short.
ATST_LITE = {"steps": 16, "warmup_steps": 4, "batch_size": 48, "clips_per_class": 10}
# A faster teacher and more steps of fewer clips: a slow teacher has hardly moved after a hundred steps.
TINY_CNN = {
    "normalise_views": False,  # as in every recorded run
    "encoder": "byola_tiny",
    "segment_s": 0.95,
    "steps": 100,
    "warmup_steps": 0,
    "batch_size": 32,
    "momentum": 0.95,
}

# Minutes on one GPU, on the workshop corpus. `steps` is only the length of a schedule: the stage sets what fits.
BYOL_GPU = GPU | {
    "segment_s": (0.95, "chosen by the clips: most are longer than 1 s, and 1 s learned on two cores"),
    "hidden_dim": (2048, "chosen by time: half the paper's"),
    "final_momentum": (0.99, "chosen by the teacher's lag: at few steps, rising to 1 freezes it on early weights"),
}  # fmt: skip
ATST_GPU = BYOL_GPU | {
    "encoder": ("atst_compact", "chosen by time: a third of the weights of ATST-Small; its file can be shipped"),
    "segment_s": (1.0, BYOL_GPU["segment_s"][1]),
    "learning_rate": (1e-3, "chosen by scaling: 5e-4 learned at batch 32, the official rate for 512 clips is 1e-3"),
}  # fmt: skip
BYOLA_GPU = BYOL_GPU | {
    "normalise_views": (False, "chosen by the records: no recorded run has it"),
    "learning_rate": (1e-3, "chosen by scaling: the paper's 3e-4 for 256 clips, and more since the run is short"),
    "schedule": ("cosine", "chosen by length: a short run ends better at a small rate"),
    "final_learning_rate": (1e-6, "chosen by length: a short run ends better at a small rate"),
}  # fmt: skip

EXPERIMENTS: dict[str, Scales] = {
    "atst": Scales(
        Pretraining,
        paper=ATST,
        gpu=ATST_GPU,
        workshop=ATST_WORKSHOP,
        lite=LITE | ATST_LITE,
    ),
    "atst_official": Scales(Pretraining, paper=ATST_OFFICIAL, workshop=ATST_WORKSHOP, lite=LITE),
    "atst_base": Scales(Pretraining, paper=ATST | BASE, workshop=BASE_WORKSHOP, lite=LITE),
    "atst_base_official": Scales(
        Pretraining,
        paper=ATST_OFFICIAL | BASE_OFFICIAL,
        workshop=BASE_WORKSHOP,
        lite=LITE,
    ),
    "byola": Scales(
        Pretraining,
        paper=BYOLA,
        gpu=BYOLA_GPU,
        workshop=BYOLA_WORKSHOP,
        lite=LITE | TINY_CNN,
    ),
}
# Experiments of other kinds have settings of their own; `preset` finds them all.
FAMILIES: dict[str, Scales] = (
    EXPERIMENTS | MASKED | LATENT | TUNED | EVALUATED | ENCODER_RUNS | FEW_SHOT
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
    config = override(FAMILIES[experiment][scale], overrides)
    check_ranges(config)
    return config


def encoder_configs(runs: EncoderRuns, scale: str) -> dict[str, Any]:
    """The settings of every method at a scale, with the steps, batches and momentum of `runs`.

    Where: ATST Sec. 3.1; uaMix-MAE Sec. 4; chapter 10
    """

    def byol(name: str) -> dict[str, Any]:
        own = {key: getattr(runs, f"{name}_{key}") for key in ("steps", "batch_size")}
        return own | {"momentum": runs.momentum, "probe_every": 0}

    changes = {"byola": byol("byola"), "atst": byol("atst"), "audiomae": {"steps": runs.mae_steps}}
    configs = {}
    for name, experiment in (("BYOL-A", "byola"), ("ATST", "atst"), ("AudioMAE", "audiomae")):
        change = changes[experiment]
        # However few the steps, at most a tenth of them.
        warmup = min(preset(experiment, scale).warmup_steps, change["steps"] // 10)
        configs[name] = preset(experiment, scale, change | {"warmup_steps": warmup})
    steps = {"steps": runs.tuning_steps, "head_steps": runs.head_steps}
    return configs | {"uaMix-MAE": preset("uamix", scale, steps)}


def preset_table(experiment: str) -> list[dict[str, Any]]:
    """One row a setting: its value at each scale, the source of the `paper` value, and why `gpu` has another."""
    scales = FAMILIES[experiment]
    reasons = scales.sources.get("gpu", {})
    return [
        {"setting": field.name}
        | {scale: getattr(scales[scale], field.name) for scale in SCALES if scale in scales}
        | {"source of the paper value": scales.sources["paper"][field.name]}
        | ({"source of the gpu value": reasons.get(field.name, "as paper")} if reasons else {})
        for field in dataclasses.fields(scales["paper"])
    ]
