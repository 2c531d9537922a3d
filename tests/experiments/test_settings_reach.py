"""No setting is ignored: each field of a preset changes what is built, or stands in the list of those that need not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from torch import nn

from audiossl_lite.encoders import audiomae_tiny
from audiossl_lite.experiments.build import Parts, pretraining_parts
from audiossl_lite.experiments.build_mae import masked_parts
from audiossl_lite.experiments.build_uamix import tuning_parts
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend
from audiossl_lite.training import Compute, start_run
from audiossl_lite.training.compute import make_fabric
from tests.training.tiny_run import make_config, make_method, make_views

OTHER = {
    "encoder": {"atst_tiny": "atst_mini", "audiomae_tiny": "audiomae_small"},
    "crop_from": {"spectrogram": "waveform"}, "segments": {"two": "one", "one": "two"},
    "method": {"byol": "contrastive", "contrastive": "byol"}, "reduction": {"sum": "mean"},
    "schedule": {"cosine": "constant"}, "precision": {"32-true": "bf16-mixed"},
    "on_collapse": {"stop": "continue"}, "decoder": {"window": "global", "global": "window"},
    "mixing": {"t_cutmix": "mixup"}, "rule": {"paper": "linear"}, "augmentation": {"resized_crop": "spec_augment"},
}  # fmt: skip
# What describes data, frontend or the encoder to start from, which the parts are handed.
HANDED = {"clips_per_class", "clip_s", "frontend", "normalisation", "checkpoint"}


def fingerprint(part: Any) -> dict[str, Any]:
    """Every plain attribute, part and parameter shape of a module, or every field of a dataclass."""
    if not isinstance(part, nn.Module):
        return dataclasses.asdict(part)
    lines: dict[str, Any] = {}
    for name, module in part.named_modules():
        plain = (bool, int, float, str, tuple, type(None))
        lines[name] = type(module).__name__
        lines |= {f"{name}.{k}": v for k, v in vars(module).items() if isinstance(v, plain)}
    tensors = [*part.named_parameters(), *part.named_buffers()]
    return lines | {name: tuple(tensor.shape) for name, tensor in tensors}


def built(parts: Parts) -> list[dict[str, Any]]:
    return [fingerprint(part) for part in (parts.method, parts.views, parts.config)]


def another(config: Any, name: str) -> Any:
    """The settings with another value for one of them."""
    value = getattr(config, name)
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, str):
        other = OTHER[name][value]
    elif isinstance(value, int):
        other = 2 * value if value else 1
    else:
        other = 0.5 * value if value else 0.25
    return dataclasses.replace(config, **{name: other})


SMALL = {"hidden_dim": 16, "projection_dim": 8}


def pretraining(**changes) -> tuple[Any, Any]:
    config = preset("atst", "lite", SMALL | changes)
    return config, lambda config: built(pretraining_parts(config, ATSTFrontend("paper")))


def masked() -> tuple[Any, Any]:
    config = preset("audiomae", "lite", {"decoder_dim": 32})
    return config, lambda config: built(masked_parts(config, AudioMAEFrontend(config.n_frames)))


def latent() -> tuple[Any, Any]:
    config = preset("eat", "lite", {"decoder_dim": 32, "top_blocks": 3})
    return config, lambda config: built(masked_parts(config, AudioMAEFrontend(config.n_frames)))


def tuning(step: int) -> tuple[Any, Any]:
    config = preset(
        "uamix", "lite", SMALL | {"predictor_dim": 16, "queue_size": 16, "n_frames": 64}
    )
    encoder, frontend = audiomae_tiny(n_frames=64, n_mels=64), AudioMAEFrontend(64, n_mels=64)
    return config, lambda config: built(tuning_parts(encoder, config, frontend, step=step))


# Of each kind of settings: under which circumstances they are built. A field has to show in one of them.
KINDS = {
    "Pretraining": [pretraining(), pretraining(method="contrastive")],
    "MaskedPretraining": [masked()],
    "LatentPretraining": [latent()],
    "Tuning": [tuning(1), tuning(2)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_changes_what_is_built(kind):
    cases = [(config, make, make(config)) for config, make in KINDS[kind]]
    handed = HANDED | ({"n_frames"} if kind == "Tuning" else set())
    ignored = [
        field.name
        for field in dataclasses.fields(cases[0][0])
        if field.name not in handed
        and all(make(another(config, field.name)) == before for config, make, before in cases)
    ]
    assert ignored == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_changes_what_is_built(kind):
    for config, make in KINDS[kind]:
        assert make(config) == make(config)


def test_settings_of_another_name_arrive_with_their_value():
    frontend = AudioMAEFrontend(96, -4.0, 3.0)
    config = preset("audiomae", "lite", {"beta_2": 0.9, "count_padding": True, "n_frames": 96})
    parts = masked_parts(config, frontend)
    assert parts.config.betas == (0.9, 0.9)
    assert parts.views.count_padding is True
    assert (parts.views.norm_scale, parts.views.pad_value) == (
        frontend.log_unit,
        frontend.pad_value,
    )
    config = preset(
        "atst", "lite", SMALL | {"method": "contrastive", "temperature": 0.07, "memory_size": 77}
    )
    parts = pretraining_parts(config, ATSTFrontend("paper"))
    assert parts.method.temperature == 0.07
    assert [memory.memory_size for memory in parts.views.mixup] == [77, 77]
    for shared in (True, False):
        views = pretraining_parts(
            dataclasses.replace(config, shared_memory=shared), ATSTFrontend()
        ).views
        assert (views.mixup[0] is views.mixup[1]) is shared


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_optimiser_gets_what_the_run_says(kind):
    config = make_config(betas=(0.7, 0.9), eps=1e-3, weight_decay=0.3, optimizer=kind)
    run = start_run(make_fabric("cpu", "32-true"), make_method(), make_views(), config, Compute())
    for group in run.optimizer.param_groups:
        assert group["lr"] == config.learning_rate
        assert group["weight_decay"] == (0.3 if group["decayed"] else 0.0)
        if kind == "sgd":
            assert group["momentum"] == 0.7
        else:
            assert (group["betas"], group["eps"]) == ((0.7, 0.9), 1e-3)
