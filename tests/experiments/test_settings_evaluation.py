"""Settings of evaluation: the papers' numbers, a source for every one, and sizes that fit together."""

from __future__ import annotations

import dataclasses

import pytest

from audiossl_lite.experiments.settings.evaluation import (
    ATST_FINETUNE_RATES,
    ATST_LINEAR_RATES,
    EVALUATED,
    FineTuning,
    LinearEvaluation,
    Projection,
)
from audiossl_lite.experiments.settings.presets import FAMILIES, preset
from audiossl_lite.parameters import SCALES

NAMES = ("linear", "finetune_atst", "finetune_audiomae", "tsne")
# ATST Sec. 3.2 and its official code; AudioMAE's official code for AS-20K, which uaMix-MAE follows
PAPER = {
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
    },
    "tsne": {"iterations": 1000},
}  # fmt: skip


def test_the_experiments_are_registered():
    assert tuple(EVALUATED) == NAMES
    for name in NAMES:
        assert FAMILIES[name] is EVALUATED[name] and tuple(sorted(EVALUATED[name])) == tuple(
            sorted(SCALES)
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_paper_values_are_the_facts(name):
    config = dataclasses.asdict(preset(name, "paper"))
    for setting, value in PAPER[name].items():
        expected = pytest.approx(value) if isinstance(value, float) else value
        assert config[setting] == expected, setting


def test_the_rates_are_those_of_the_official_code():
    atst, mae = preset("finetune_atst", "paper"), preset("finetune_audiomae", "paper")
    assert atst.learning_rate in ATST_FINETUNE_RATES["AS-20K"]
    assert atst.learning_rate * atst.batch_size / 256 == pytest.approx(2.0)
    assert mae.learning_rate * mae.batch_size / 256 == pytest.approx(1.25e-4)
    linear = preset("linear", "paper")
    assert set(linear.learning_rates) == {r for rates in ATST_LINEAR_RATES.values() for r in rates}
    assert ATST_LINEAR_RATES["AS-20K"] == (2.0, 4.0, 1.0, 0.5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_every_scale_is_consistent(name, scale):
    config = preset(name, scale)
    kind = {"linear": LinearEvaluation, "tsne": Projection}.get(name, FineTuning)
    assert type(config) is kind
    for field in dataclasses.fields(kind):
        assert type(getattr(config, field.name)).__name__ == field.type.split("[")[0], field.name
    if kind is LinearEvaluation:
        assert min(config.learning_rates) > 0 and len(set(config.learning_rates)) > 2
        assert config.epochs % config.evaluate_every == 0 and 0 < config.validation_share < 1
    elif kind is FineTuning:
        assert config.warmup_epochs < config.epochs and config.batch_size >= 2
        assert config.mixup in ("linear", "power") and config.loss in ("bce", "ce")
        assert 0 <= config.drop_path < 1 and 0 < config.layer_decay <= 1
        assert config.head == "audiomae" or not (config.mask_time or config.mask_freq)
    else:
        assert len(set(config.classes)) == 8 and len(config.seeds) >= 2
        assert {"sea_waves", "wind", "siren", "rain"} <= set(config.classes)
        assert config.iterations >= 300


@pytest.mark.parametrize("name", ["linear", "finetune_atst", "finetune_audiomae"])
def test_lite_is_smaller_than_workshop_is_smaller_than_paper(name):
    lite, workshop, paper = (preset(name, scale) for scale in ("lite", "workshop", "paper"))
    assert lite.epochs < workshop.epochs < paper.epochs
    assert lite.batch_size <= workshop.batch_size <= paper.batch_size


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'layer_decay'"):
        preset("finetune_atst", "lite", {"layer_decai": 0.5})
    with pytest.raises(KeyError, match="did you mean 'finetune_atst'"):
        preset("finetune_ats")
    with pytest.raises(KeyError, match="did you mean 'learning_rates'"):
        preset("linear", "lite", {"learning_rate": 0.5})
    with pytest.raises(TypeError, match="'epochs' must be a whole number"):
        preset("linear", "lite", {"epochs": 0.5})
