"""The network of fine-tuning: heads as published, layer-wise rates, drop path."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from audiossl_lite.encoders import (
    ATSTEncoder,
    AudioMAEEncoder,
    atst_small,
    atst_tiny,
    byola_tiny,
)
from audiossl_lite.evaluation import Classifier, drop_path, layer_scales
from audiossl_lite.evaluation.finetune import FineTuningMethod, finetune_train_config
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.pretrained.audiomae import FineTunedAudioMAE
from audiossl_lite.training import make_optimizer, set_schedule, warmup_cosine
from tests.evaluation.toys import noise, seeded

ATST = preset("finetune_atst", "paper")
MAE = preset("finetune_audiomae", "paper")


def small_atst():
    return seeded(lambda: ATSTEncoder(16, 3, 2))


def small_mae():
    return seeded(lambda: AudioMAEEncoder(16, 3, 2, n_frames=64, n_mels=32))


def test_atst_s_features_equal_the_reference(reference, made_up_weights):
    fixture = reference("atst_small")
    encoder = atst_small()
    encoder.load_state_dict(made_up_weights(fixture["keys"]))
    x = noise(2, 1, 64, 1001, seed=1)[:, 0].transpose(1, 2).contiguous()
    model = Classifier(encoder, 5, head="atst").eval()
    with torch.no_grad():
        out = model.features(x, torch.tensor([1001, 700]))
    assert out.shape == (2, 2 * 384)
    expected = fixture["f1001_short2"]["feat_ft1"]
    torch.testing.assert_close(out[:, ::7], expected, atol=1e-4, rtol=0)
    assert model.head.weight.shape == (5, 768) and not list(model.norm.parameters())


@torch.no_grad()
def test_audiomae_s_network_equals_the_published_form_of_it():
    encoder = small_mae()
    model = Classifier(encoder, 5, head="audiomae").eval()
    published = FineTunedAudioMAE(16, 3, 2, 5, n_frames=64)
    published.n_mels, published.pos_embed = 32, encoder.pos_embed
    published.load_state_dict(
        dict(model.encoder.state_dict())
        | {f"fc_norm.{k}": v for k, v in model.norm.state_dict().items()}
        | {f"head.{k}": v for k, v in model.head.state_dict().items()}
    )
    spec = noise(3, 64, 32)
    torch.testing.assert_close(model(spec), published.head(published(spec)), atol=1e-6, rtol=0)
    # padding counts as published only if asked for
    lengths = torch.tensor([64, 40, 20])
    counted = Classifier(encoder, 5, head="audiomae", count_padding=True).eval()
    torch.testing.assert_close(counted.features(spec, lengths), counted.features(spec))
    assert not torch.allclose(model.features(spec, lengths), model.features(spec), atol=1e-4)
    torch.testing.assert_close(
        model.features(spec, lengths)[2:], model.features(spec[2:, :32]), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_hidden_patches_are_not_seen():
    model = Classifier(small_mae(), 3, head="audiomae").eval()
    spec = noise(2, 64, 32)
    kept = torch.tensor([[0, 2, 3, 5]]).repeat(2, 1)  # of 4 x 2 patches
    changed = spec.clone()
    changed[:, :16, 16:] = 9.0  # patch 1
    changed[:, 32:48, :16] = -9.0  # patch 4
    out = model(spec, None, kept)
    torch.testing.assert_close(model(changed, None, kept), out, atol=1e-6, rtol=0)
    lengths = torch.tensor([64, 20])
    with_lengths = model.features(spec, lengths, kept)  # clip 1: patches 0 to 3 are valid
    expected = model.features(spec[1:], None, torch.tensor([[0, 2, 3]]))
    torch.testing.assert_close(with_lengths[1:], expected, atol=1e-5, rtol=0)


def test_the_given_encoder_is_copied_and_all_of_the_copy_learns():
    encoder = small_mae().requires_grad_(False)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    model = Classifier(encoder, 3, head="audiomae", drop_path=0.1)
    assert isinstance(encoder.norm, nn.LayerNorm) and encoder.blocks[2].drop_path.probability == 0
    still = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert still == ["encoder.pos_embed"], "AudioMAE's positions are fixed"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        (
            small_mae,
            {"head": "atst"},
            r"'atst' does not go with AudioMAEEncoder; it takes \['audiomae', 'em",
        ),
        (small_atst, {"head": "audiomae"}, "does not go with ATSTEncoder"),
        (byola_tiny, {"head": "mean"}, r"it takes \['embedding'\]"),
        (byola_tiny, {"drop_path": 0.1}, "BYOLAEncoder has no residual blocks"),
        (atst_tiny, {"drop_path": 1.0}, r"\[0, 1\), got 1"),
    ],
)
def test_what_does_not_go_with_an_encoder_is_refused(encoder, options, message):
    with pytest.raises(ValueError, match=message):
        Classifier(encoder(), 3, **options)
    with pytest.raises(ValueError, match="two classes or more, got 1"):
        Classifier(encoder(), 1)


def test_atst_s_rates_are_those_of_the_facts():
    scales = layer_scales(Classifier(ATSTEncoder(24, 12, 2), 5, head="atst"), 0.75)
    for i in range(12):
        assert scales[f"encoder.blocks.{i}.attn.qkv.weight"] == pytest.approx(0.75 ** (12 - i))
    for name in ("patch_embed.patch_embed.weight", "pos_embed", "cls_token", "mask_embed"):
        assert scales[f"encoder.{name}"] == pytest.approx(0.75**12), name
    assert scales["encoder.norm.weight"] == pytest.approx(0.75)
    assert scales["head.weight"] == scales["head.bias"] == 1.0


def test_audiomae_s_rates_are_those_of_the_facts():
    model = Classifier(AudioMAEEncoder(24, 12, 2), 5, head="audiomae")
    scales = layer_scales(model, 0.75, stem_apart=True)
    for i in range(12):  # decay ** (13 - id), id = i + 1
        assert scales[f"encoder.blocks.{i}.mlp.fc1.bias"] == pytest.approx(0.75 ** (13 - i - 1))
    for name in ("patch_embed.proj.weight", "cls_token"):
        assert scales[f"encoder.{name}"] == pytest.approx(0.75**13), name
    assert scales["norm.weight"] == scales["head.weight"] == 1.0
    assert not any(name.startswith("encoder.norm") for name in scales)


def test_the_rates_of_byol_a_s_cnn_rise_stage_by_stage():
    scales = layer_scales(Classifier(byola_tiny(), 3), 0.5)
    first = [scales[f"encoder.features.{i}.weight"] for i in (0, 1, 4, 5, 8, 9)]
    assert first == [0.5**4, 0.5**4, 0.5**3, 0.5**3, 0.5**2, 0.5**2]
    assert scales["encoder.fc.0.weight"] == scales["encoder.fc.3.bias"] == 0.5
    assert set(layer_scales(Classifier(byola_tiny(), 3), 1.0).values()) == {1.0}
    with pytest.raises(ValueError, match=r"\(0, 1\], got 0"):
        layer_scales(Classifier(byola_tiny(), 3), 0.0)


@pytest.mark.parametrize("config", [ATST, MAE], ids=["sgd", "adamw"])
def test_every_parameter_is_in_one_group_and_only_weights_decay(config):
    model = Classifier(small_mae(), 3, head="audiomae")
    config = dataclasses.replace(config, weight_decay=0.3, layer_decay=0.5, stem_apart=True)
    loop = finetune_train_config(config, 100, 0)
    method = FineTuningMethod(model, config)
    optimizer = make_optimizer(method, learning_rate=1.0, kind=loop.optimizer)
    set_schedule(optimizer, 2_000, loop)
    assert type(optimizer).__name__ == ("SGD" if config.optimizer == "sgd" else "AdamW")
    rates = {group["lr"] / group["lr_scale"] for group in optimizer.param_groups}
    peak, final = config.learning_rate * config.batch_size / 256, config.final_learning_rate
    expected = warmup_cosine(2_000, loop.steps, loop.warmup_steps, peak, final)
    assert all(rate == pytest.approx(expected) for rate in rates)
    decays = {g["weight_decay"] for g in optimizer.param_groups if g["decayed"]}
    assert decays == {0.3}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    learn = [p for p in model.parameters() if p.requires_grad]
    assert len(held) == len({id(p) for p in held}) == len(learn)
    plain = {id(p) for g in optimizer.param_groups if not g["weight_decay"] for p in g["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            flat = parameter.dim() == 1 or name.endswith("cls_token")
            assert (id(parameter) in plain) == flat, name
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert scales == {1.0, 0.5, 0.25, 0.125, 0.0625}
    with pytest.raises(ValueError, match="'sgd' or 'adamw', got 'lars'"):
        make_optimizer(method, learning_rate=1.0, kind="lars")


@pytest.mark.parametrize("maker", [small_atst, small_mae])
def test_drop_path_zero_is_the_identity_and_the_block_restores_what_was(maker):
    encoder = maker()
    frames, bands = (64, 32) if maker is small_mae else (64, 64)
    spec = noise(4, frames, bands)
    was = [block.drop_path.probability for block in encoder.blocks]
    weights = {k: v.clone() for k, v in encoder.state_dict().items()}
    expected = encoder.eval()(spec)
    with drop_path(encoder.train(), 0.0):
        assert torch.equal(encoder(spec), expected)
    with drop_path(encoder, 0.9):
        rates = [block.drop_path.probability for block in encoder.blocks]
        assert rates == pytest.approx([0.0, 0.45, 0.9])
        assert not torch.equal(encoder.train()(spec), expected)
        assert torch.equal(encoder.eval()(spec), expected), "nothing drops in eval mode"
    assert [block.drop_path.probability for block in encoder.blocks] == was
    assert all(torch.equal(v, weights[k]) for k, v in encoder.state_dict().items())
    with pytest.raises(ZeroDivisionError), drop_path(encoder, 0.9):
        raise ZeroDivisionError
    assert [block.drop_path.probability for block in encoder.blocks] == was
