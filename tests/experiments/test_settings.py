"""Settings: strict names and types, a source for every value, and the papers' own numbers."""

from __future__ import annotations

import dataclasses
import operator

import pytest
import torch

from audiossl_lite import encoders
from audiossl_lite.evaluation.settings import FineTuning, LinearEvaluation, Projection
from audiossl_lite.experiments.settings.evaluation import ATST_FINETUNE_RATES, ATST_LINEAR_RATES
from audiossl_lite.experiments.settings.few_shot import FewShotGrids
from audiossl_lite.experiments.settings.presets import (
    EXPERIMENTS,
    FAMILIES,
    SCALES,
    Pretraining,
    override,
    preset,
    preset_table,
)
from audiossl_lite.experiments.settings.scales import Scales
from audiossl_lite.experiments.settings.uamix import VARIANTS, Tuning
from audiossl_lite.mixing import RULES
from audiossl_lite.training import Compute
from audiossl_lite.views.mixtures import MIXINGS, TuningViews

# facts: ATST Sec. 3.1 and its official code; BYOL-A Sec. 4.1 and its official code
PAPER_VALUES = {
    "atst": {
        "frontend": "atst_paper", "crop_from": "spectrogram", "segments": "two", "segment_s": 6.0,
        "memory_size": 2048, "encoder": "atst_small", "hidden_dim": 4096, "projection_dim": 256,
        "steps": 39_000, "batch_size": 1536, "learning_rate": 5e-4, "warmup_steps": 1300,
        "final_learning_rate": 1e-6, "schedule": "cosine", "momentum": 0.99, "final_momentum": 1.0,
        "weight_decay": 0.04, "final_weight_decay": 0.4, "reduction": "sum", "mixup": True,
        "resized_crop": True, "predictor": True, "stop_gradient": True, "drop_path": 0.0,
        "normalise_views": False,
    },
    "atst_official": {
        "frontend": "atst_official", "crop_from": "waveform", "memory_size": 2000,
        "drop_path": 0.1, "head_bias": False, "reduction": "mean", "joint_views": True,
        "learning_rate": 5e-4 * 1536 / 256, "eps": 1e-6, "batch_size": 1536, "momentum": 0.99,
        "weight_decay": 0.04, "final_weight_decay": 0.4, "segment_s": 6.0, "warmup_steps": 1300,
    },
    "atst_base": {
        "encoder": "atst_base", "learning_rate": 2e-4, "momentum": 0.9995, "batch_size": 1536,
    },
    "atst_base_official": {
        "encoder": "atst_base", "learning_rate": 2e-4 * 1536 / 256, "steps": 318_000,
        "warmup_steps": 15_860, "momentum": 0.9995,
    },
    "byola": {
        "frontend": "byola", "segments": "one", "segment_s": 0.95, "memory_size": 2048,
        "encoder": "byola_cnn", "hidden_dim": 4096, "projection_dim": 256, "batch_size": 256,
        "learning_rate": 3e-4, "schedule": "constant", "warmup_steps": 0, "momentum": 0.99,
        "final_momentum": 0.99, "weight_decay": 0.0, "final_weight_decay": 0.0, "reduction": "sum",
        "joint_views": False, "head_bias": True, "shared_memory": True, "normalise_views": True,
    },
    # AudioMAE Sec. 3 and 4; its 33 epochs, 3 of them warm-up
    "audiomae": {
        "mask_ratio": 0.8, "structured": False, "norm_patches": True, "n_frames": 1024, "n_mels": 128,
        "batch_size": 512, "learning_rate": 2e-4 * 512 / 256, "weight_decay": 1e-4, "beta_2": 0.95,
    },
    # uaMix-MAE Sec. 3 and 4, and where it is silent the method that it follows
    "uamix": {
        "head_steps": 1_600, "head_batch_size": 512, "head_learning_rate": 1e-4, "steps": 25_600,
        "batch_size": 128, "learning_rate": 1e-4, "temperature": 0.15, "k": 1, "layer_decay": 0.65,
        "mixing": "t_cutmix", "rule": "paper", "alpha": 1.0, "per_sample": False, "symmetric": False,
        "hidden_dim": 2048, "predictor_dim": 4096, "projection_dim": 256, "ema_projector": True,
        "momentum": 0.99, "weight_decay": 0.05, "head_decay_scale": 1e-5 / 0.05, "warmup_share": 0.2,
        "n_frames": 1024,
    },
    # ATST Sec. 3.2 and its official code; AudioMAE's official code for AS-20K, which uaMix-MAE follows
    "linear": {
        "max_s": 12.0, "chunk_frames": 601, "epochs": 100, "batch_size": 1024, "momentum": 0.9,
        "final_learning_rate": 1e-6, "normalise": True, "init_std": 0.01, "scale_rates": True,
        "mean_over": "official", "refit": False,
    },
    "finetune_atst": {
        "head": "atst", "optimizer": "sgd", "epochs": 200, "warmup_epochs": 5, "batch_size": 512,
        "final_learning_rate": 1e-6, "clip_norm": 3.0, "weight_decay": 0.0, "drop_path": 0.1,
        "layer_decay": 1.0, "loss": "bce", "mixup_alpha": 0.5, "mixup_probability": 1.0,
        "mixup": "linear", "resized_crop": True, "learning_rate": 1.0, "momentum": 0.9,
        "spec_frames": 0, "spec_bands": 0, "mask_time": 0.0, "mask_freq": 0.0,
    },
    "finetune_audiomae": {
        "head": "audiomae", "optimizer": "adamw", "epochs": 60, "warmup_epochs": 4,
        "batch_size": 32, "weight_decay": 5e-4, "layer_decay": 0.75, "drop_path": 0.1,
        "loss": "bce", "mixup_alpha": 10.0, "mixup_probability": 0.5, "mixup": "power",
        "spec_frames": 192, "spec_bands": 48, "mask_time": 0.2, "mask_freq": 0.2,
        "final_learning_rate": 1e-6, "count_padding": True, "stem_apart": True, "clip_norm": 0.0,
        "learning_rate": 1.25e-4 * 256 / 32,
    },
    "tsne": {"iterations": 1000},
    "few_shot": {"n_way": 5, "k_shots": (1, 5), "n_episodes": 600, "n_query": 15},
}  # fmt: skip
ALL = [(name, scale) for name in FAMILIES for scale in FAMILIES[name]]
# What grows from `lite` over `workshop` to `paper`, and what at least does not shrink.
GROW = {
    **dict.fromkeys(EXPERIMENTS, (["steps"], ["hidden_dim"])),
    "uamix": (
        ["steps", "head_steps"],
        ["batch_size", "head_batch_size", "hidden_dim", "predictor_dim"],
    ),
    **dict.fromkeys(["linear", "finetune_atst", "finetune_audiomae"], (["epochs"], ["batch_size"])),
}


def test_every_experiment_has_the_three_scales():
    assert set(PAPER_VALUES) <= set(FAMILIES)
    for scales in FAMILIES.values():
        assert set(scales) <= set(SCALES) <= set(scales) | {"gpu"}


@pytest.mark.parametrize("experiment", [name for name in FAMILIES if "gpu" in FAMILIES[name]])
def test_every_value_of_gpu_that_is_not_the_papers_says_how_it_was_chosen(experiment):
    paper, gpu = (dataclasses.asdict(preset(experiment, scale)) for scale in ("paper", "gpu"))
    changed = {name for name in paper if paper[name] != gpu[name]}
    assert changed <= set(FAMILIES[experiment].sources["gpu"])
    rows = {row["setting"]: row for row in preset_table(experiment)}
    assert all(row["source of the gpu value"] for row in rows.values())
    assert rows["steps"]["gpu"] == gpu["steps"]


@pytest.mark.parametrize("experiment", PAPER_VALUES)
def test_the_paper_values_are_the_facts(experiment):
    config = dataclasses.asdict(preset(experiment, "paper"))
    for name, value in PAPER_VALUES[experiment].items():
        assert (
            config[name] == pytest.approx(value)
            if isinstance(value, float)
            else (config[name] == value)
        ), name


def test_the_steps_are_the_epochs_of_the_paper():
    assert preset("atst", "paper").steps == 300 * (200_000 // 1536)
    assert preset("atst", "paper").warmup_steps == 10 * (200_000 // 1536)
    assert preset("atst_base", "paper").steps == 200 * (2_000_000 // 1536)
    mae, uamix = preset("audiomae", "paper"), preset("uamix", "paper")
    assert mae.steps == 11 * mae.warmup_steps
    clips = 20_550  # of AudioSet-20K, uaMix-MAE Table 1
    assert uamix.head_steps == 40 * (clips // uamix.head_batch_size)
    assert uamix.steps == 160 * (clips // uamix.batch_size)
    # stale entries: the queue is turned over within an epoch
    assert uamix.queue_size <= clips
    assert uamix.queue_size % uamix.head_batch_size == uamix.queue_size % uamix.batch_size == 0


def test_the_rates_are_those_of_the_official_code():
    atst, linear = preset("finetune_atst", "paper"), preset("linear", "paper")
    assert atst.learning_rate in ATST_FINETUNE_RATES["AS-20K"]
    assert atst.learning_rate * atst.batch_size / 256 == pytest.approx(2.0)
    assert set(linear.learning_rates) == {r for rates in ATST_LINEAR_RATES.values() for r in rates}
    assert ATST_LINEAR_RATES["AS-20K"] == (2.0, 4.0, 1.0, 0.5)


@pytest.mark.parametrize("experiment", FAMILIES)
def test_every_setting_of_paper_has_a_source(experiment):
    scales = FAMILIES[experiment]
    table = preset_table(experiment)
    fields = [field.name for field in dataclasses.fields(scales["paper"])]
    assert [row["setting"] for row in table] == fields
    for row in table:
        assert ("gpu" in row) == ("gpu" in scales)
        for scale in scales:
            assert row[scale] == getattr(preset(experiment, scale), row["setting"])
        source = row["source of the paper value"]
        assert source.strip() and source == scales.sources["paper"][row["setting"]]


def test_a_value_of_paper_needs_a_source_and_every_field_a_value():
    @dataclasses.dataclass(frozen=True)
    class Small:
        depth: int
        width: int

    cited = {"depth": (3, "Sec. 1"), "width": (8, "Sec. 2")}
    scales = Scales(Small, cited, gpu={"width": (4, "time")}, lite={"depth": 1})
    assert dict(scales) == {"paper": Small(3, 8), "gpu": Small(3, 4), "lite": Small(1, 8)}
    assert scales.sources["gpu"] == {"width": "time"}
    with pytest.raises(TypeError, match="width"):
        Scales(Small, {"depth": (3, "Sec. 1")})
    with pytest.raises(TypeError, match="unpack"):
        Scales(Small, cited | {"width": 8})
    with pytest.raises(TypeError, match="wdth"):
        Scales(Small, cited, lite={"wdth": 8})


def check_pretraining(config):
    assert config.encoder in encoders.__all__
    assert config.segments in ("one", "two")
    assert config.crop_from in ("waveform", "spectrogram")
    assert config.method in ("byol", "contrastive")
    assert config.warmup_steps < config.steps
    assert 0 <= config.momentum <= config.final_momentum <= 1
    assert config.weight_decay <= config.final_weight_decay
    assert config.segment_s <= config.clip_s


def check_tuning(config):
    assert config.mixing in MIXINGS and config.rule in RULES
    assert config.n_frames % 16 == 0
    assert max(config.head_batch_size, config.batch_size) <= config.queue_size
    assert config.batch_size % 2 == 0, "the middle clip of an odd batch is mixed with itself"
    assert 0 <= config.warmup_share < 1 and 0 < config.layer_decay <= 1
    assert 1 <= config.k <= config.queue_size and 0 <= config.momentum <= 1


def check_linear(config):
    assert min(config.learning_rates) > 0 and len(set(config.learning_rates)) > 2
    assert config.epochs % config.evaluate_every == 0 and 0 < config.validation_share < 1


def check_finetuning(config):
    assert config.warmup_epochs < config.epochs and config.batch_size >= 2
    assert config.mixup in ("linear", "power") and config.loss in ("bce", "ce")
    assert 0 <= config.drop_path < 1 and 0 < config.layer_decay <= 1
    assert config.head == "audiomae" or not (config.mask_time or config.mask_freq)


def check_projection(config):
    assert len(set(config.classes)) == 8 and len(config.seeds) >= 2
    assert {"sea_waves", "wind", "siren", "rain"} <= set(config.classes)
    assert config.iterations >= 300


def check_grids(config):
    assert config.n_way in config.ways and set(config.k_shots) <= set(config.shots)
    assert set(config.mixings) <= set(VARIANTS)


CHECKS = {
    Pretraining: check_pretraining, Tuning: check_tuning, LinearEvaluation: check_linear,
    FineTuning: check_finetuning, Projection: check_projection, FewShotGrids: check_grids,
}  # fmt: skip


@pytest.mark.parametrize(("experiment", "scale"), ALL)
def test_every_preset_is_consistent(experiment, scale):
    config = preset(experiment, scale)
    for field in dataclasses.fields(config):
        kind = type(getattr(config, field.name)).__name__
        assert kind == field.type.split("[")[0], field.name
    CHECKS.get(type(config), lambda config: None)(config)


@pytest.mark.parametrize("experiment", GROW)
def test_lite_is_smaller_than_workshop_is_smaller_than_paper(experiment):
    """Clips seen, too; `workshop` may take more and smaller steps than `lite`."""
    small, middle, large = (preset(experiment, scale) for scale in ("lite", "workshop", "paper"))
    for names, smaller in zip(GROW[experiment], (operator.lt, operator.le), strict=True):
        for name in names:
            a, b, c = (getattr(config, name) for config in (small, middle, large))
            assert smaller(a, b) and smaller(b, c), name
    if experiment in EXPERIMENTS:
        clips = [config.steps * config.batch_size for config in (small, middle, large)]
        assert clips == sorted(clips)
    if experiment == "uamix":  # the paper's own start
        assert small.checkpoint == middle.checkpoint == "" and large.checkpoint.endswith(".pth")


@pytest.mark.parametrize("mixing", MIXINGS)
def test_every_mixing_is_a_setting_that_builds_its_views(mixing):
    for scale in FAMILIES["uamix"]:
        config = preset("uamix", scale, {"mixing": mixing})
        assert dataclasses.replace(config, mixing="t_cutmix") == preset("uamix", scale)
        views = TuningViews(
            mixing, rule=config.rule, alpha=config.alpha, augmentation=config.augmentation
        )
        out = views(torch.zeros(4, 32, 16), torch.Generator().manual_seed(0), ids=torch.arange(4))
        assert out[0].shape == (4, 32, 16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preset("astt"), "unknown experiment 'astt'; did you mean 'atst'"),
        (lambda: preset("atst", "light"), "unknown scale 'light'; did you mean 'lite'"),
        (
            lambda: preset("atst", "lite", {"step": 3}),
            "unknown setting 'step'; did you mean 'steps'",
        ),
        (lambda: preset("uamix", "lite", {"mixin": "none"}), "'mixin'; did you mean 'mixing'"),
        (lambda: preset("linear", "lite", {"learning_rate": 0.5}), "did you mean 'learning_rates'"),
        (lambda: preset("zzzzzz"), "Known: atst, "),
    ],
)
def test_a_misspelt_name_is_an_error_that_names_the_nearest(call, message):
    with pytest.raises(KeyError, match=message):
        call()


def test_a_value_of_another_type_is_an_error():
    with pytest.raises(TypeError, match="'steps' must be a whole number, got.*'3.5'"):
        preset("atst", "lite", {"steps": "3.5"})


def test_overrides_change_what_they_name_and_nothing_else():
    plain = dataclasses.asdict(preset("atst", "lite"))
    changes = {"steps": 7, "learning_rate": 1, "mixup": False, "segments": "one"}
    changed = preset("atst", "lite", changes)
    assert dataclasses.asdict(changed) == plain | changes
    assert type(changed.learning_rate) is float
    texts = {name: str(value) for name, value in changes.items()}
    assert preset("atst", "lite", texts) == changed
    assert dataclasses.asdict(preset("atst", "lite")) == plain
    assert preset("atst", "lite", None) == preset("atst", "lite", {}) == preset("atst", "lite")


def test_override_works_on_any_frozen_dataclass():
    @dataclasses.dataclass(frozen=True)
    class Small:
        depth: int = 3

    assert override(Small(), {"depth": 4}) == Small(4)
    assert override(Compute(), {"recompute": "false", "n_parts": "2"}) == Compute(n_parts=2)
    with pytest.raises(KeyError, match="did you mean 'depth'"):
        override(Small(), {"dept": 4})
