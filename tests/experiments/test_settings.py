"""Settings: strict names and types, a source for every value, and the papers' own numbers."""

from __future__ import annotations

import dataclasses

import pytest

from audiossl_lite import encoders
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

FIELDS = {field.name: field for field in dataclasses.fields(Pretraining)}

# facts: ATST Sec. 3.1 and its official code; BYOL-A Sec. 4.1 and its official code
PAPER_VALUES = {
    "atst": {
        "frontend": "atst_paper", "crop_from": "spectrogram", "segments": "two", "segment_s": 6.0,
        "memory_size": 2048, "encoder": "atst_small", "hidden_dim": 4096, "projection_dim": 256,
        "steps": 39_000, "batch_size": 1536, "learning_rate": 5e-4, "warmup_steps": 1300,
        "final_learning_rate": 1e-6, "schedule": "cosine", "momentum": 0.99, "final_momentum": 1.0,
        "weight_decay": 0.04, "final_weight_decay": 0.4, "reduction": "sum", "mixup": True,
        "resized_crop": True, "predictor": True, "stop_gradient": True, "drop_path": 0.0,
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
        "joint_views": False, "head_bias": True,
    },
}  # fmt: skip
ALL = [(experiment, scale) for experiment in EXPERIMENTS for scale in EXPERIMENTS[experiment]]


def test_every_experiment_has_the_three_scales():
    assert set(PAPER_VALUES) <= set(EXPERIMENTS)
    for scales in EXPERIMENTS.values():
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


@pytest.mark.parametrize(("experiment", "scale"), ALL)
def test_every_preset_is_consistent(experiment, scale):
    config = preset(experiment, scale)
    for name, field in FIELDS.items():
        assert type(getattr(config, name)).__name__ == field.type, name
    assert config.encoder in encoders.__all__
    assert config.segments in ("one", "two")
    assert config.crop_from in ("waveform", "spectrogram")
    assert config.method in ("byol", "contrastive")
    assert config.warmup_steps < config.steps
    assert 0 <= config.momentum <= config.final_momentum <= 1
    assert config.weight_decay <= config.final_weight_decay
    assert config.segment_s <= config.clip_s


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_lite_is_smaller_than_workshop_is_smaller_than_paper(experiment):
    """Steps, clips seen, width of the heads; `workshop` may take more and smaller steps than `lite`."""
    sizes = [
        (c.steps, c.steps * c.batch_size, c.hidden_dim)
        for c in (preset(experiment, scale) for scale in ("lite", "workshop", "paper"))
    ]
    assert sizes[0][0] < sizes[1][0] < sizes[2][0]
    assert all(a <= b <= c for a, b, c in zip(*sizes, strict=True))


def test_presets_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("atst").steps = 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preset("astt"), "unknown experiment 'astt'; did you mean 'atst'"),
        (lambda: preset("byol-a"), "did you mean 'byola'"),
        (lambda: preset("atst", "light"), "unknown scale 'light'; did you mean 'lite'"),
        (lambda: preset("atst", "papr"), "did you mean 'paper'"),
        (
            lambda: preset("atst", "lite", {"step": 3}),
            "unknown setting 'step'; did you mean 'steps'",
        ),
        (lambda: preset("atst", "lite", {"learnig_rate": 3.0}), "did you mean 'learning_rate'"),
        (lambda: preset("uamx"), "unknown experiment 'uamx'; did you mean 'uamix'"),
        (lambda: preset("uamix", "lite", {"mixin": "none"}), "'mixin'; did you mean 'mixing'"),
        (lambda: preset("zzzzzz"), "Known: atst, "),
    ],
)
def test_a_misspelt_name_is_an_error_that_names_the_nearest(call, message):
    with pytest.raises(KeyError, match=message):
        call()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"steps": 3.0}, "'steps' must be a whole number"),
        ({"steps": "many"}, "'steps' must be a whole number, got.*'many'"),
        ({"steps": "3.5"}, "'steps' must be a whole number, got.*'3.5'"),
        ({"steps": True}, "'steps' must be a whole number, got.*True"),
        ({"learning_rate": True}, "'learning_rate' must be a number, got True"),
        ({"learning_rate": "fast"}, "'learning_rate' must be a number"),
        ({"learning_rate": None}, "'learning_rate' must be a number, got None"),
        ({"mixup": 1}, "'mixup' must be true or false"),
        ({"mixup": "yes"}, "'mixup' must be true or false"),
        ({"segments": 2}, "'segments' must be text"),
    ],
)
def test_a_value_of_another_type_is_an_error(overrides, message):
    with pytest.raises(TypeError, match=message):
        preset("atst", "lite", overrides)


def test_overrides_change_what_they_name_and_nothing_else():
    plain = dataclasses.asdict(preset("atst", "lite"))
    changes = {"steps": 7, "learning_rate": 1, "mixup": False, "segments": "one"}
    changed = preset("atst", "lite", changes)
    assert dataclasses.asdict(changed) == plain | changes
    assert type(changed.learning_rate) is float
    assert dataclasses.asdict(preset("atst", "lite")) == plain
    assert preset("atst", "lite", None) == preset("atst", "lite", {}) == preset("atst", "lite")


def test_text_from_a_command_line_is_read_as_the_type_of_the_setting():
    config = preset(
        "atst", "lite", {"steps": "7", "learning_rate": "1e-4", "mixup": "False", "segments": "one"}
    )
    assert (config.steps, config.learning_rate, config.mixup, config.segments) == (
        7,
        1e-4,
        False,
        "one",
    )


def test_override_works_on_any_frozen_dataclass():
    @dataclasses.dataclass(frozen=True)
    class Small:
        depth: int = 3

    assert override(Small(), {"depth": 4}) == Small(4)
    with pytest.raises(KeyError, match="did you mean 'depth'"):
        override(Small(), {"dept": 4})
