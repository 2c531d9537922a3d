"""data2vec 2.0 with EAT's two losses: its targets and loss step by step, where the gradient goes, one teacher pass."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.encoders import AudioMAEEncoder
from audiossl_lite.encoders.decoders import ConvDecoder
from audiossl_lite.experiments.build_mae import make_data2vec
from audiossl_lite.experiments.settings.presets import SCALES, preset
from audiossl_lite.methods import Data2Vec
from audiossl_lite.methods.data2vec import averaged_targets
from audiossl_lite.views.masks import MaskedViews

WIDTH, DEPTH, SIZE = 16, 3, {"n_frames": 96, "n_mels": 64}  # 6 x 4 patches


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(**options) -> Data2Vec:
    torch.manual_seed(0)
    encoder = AudioMAEEncoder(WIDTH, DEPTH, 2, **SIZE)
    decoder = ConvDecoder(WIDTH, 12, 2, groups=2, n_mels=64)
    method = Data2Vec(encoder, decoder, **{"top_blocks": 2} | options)
    with torch.no_grad():  # a teacher that is not its student
        for number, weight in enumerate(method.teacher.parameters()):
            weight.add_(0.05 * seeded(*weight.shape, seed=number))
    return method


def seen(n_clips: int = 3, n_masks: int = 2) -> tuple[torch.Tensor, ...]:
    views = MaskedViews(96, ratio=0.7, block=2, n_masks=n_masks)
    return views(seeded(n_clips, 96, 64), torch.Generator().manual_seed(1))


def naive_targets(outputs: list[torch.Tensor], counted=None) -> torch.Tensor:
    """Clip by clip, block by block and channel by channel; then token by token."""
    b, n, width = outputs[0].shape
    counted = torch.ones(b, n) if counted is None else counted
    mean = torch.zeros(b, n, width)
    for y in outputs:
        for i in range(b):
            for d in range(width):
                channel = y[i, :, d]
                own = channel[counted[i] == 1]
                std = (own.var(correction=0) + 1e-5).sqrt()
                mean[i, :, d] += (channel - own.mean()) / std / len(outputs)
    for i in range(b):
        for j in range(n):
            token = mean[i, j]
            mean[i, j] = (token - token.mean()) / (token.var(correction=0) + 1e-5).sqrt()
    return mean


def naive_teacher(method: Data2Vec, spec: torch.Tensor, counted=None) -> torch.Tensor:
    """Targets from what hooks see of the teacher's plain forward pass."""
    outputs = []
    hooks = [
        block.mlp.register_forward_hook(lambda _, __, out: outputs.append(out[:, 1:]))
        for block in method.teacher.blocks
    ]
    method.teacher.sequence(spec)
    for hook in hooks:
        hook.remove()
    return naive_targets(outputs[-method.top_blocks :], counted)


def naive_loss(method: Data2Vec, spec, kept, mask, restore, counted) -> torch.Tensor:
    """One clip, one masking and one hidden patch after the other."""
    n_masks, errors, utterances = len(kept) // len(spec), [], []
    for b in range(len(spec)):
        target = naive_teacher(method, spec[b : b + 1], counted[b : b + 1])[0]
        for row in range(b * n_masks, (b + 1) * n_masks):
            latent = method.student.sequence(spec[b : b + 1], kept[row : row + 1])
            predicted = method.decoder(latent, restore[row : row + 1])[0]
            errors += [
                (predicted[i] - target[i]).square().mean()
                for i in range(len(target))
                if mask[row, i] and counted[b, i]
            ]
            clip = target[counted[b] == 1].mean(0)
            utterances.append((latent[0, 0] - clip).square().mean())
    return torch.stack(errors).mean() + method.utterance_weight * torch.stack(utterances).mean()


def test_targets_are_normalised_twice():
    outputs = [seeded(2, 7, 5, seed=s) * (s + 1) + s for s in range(3)]
    targets = averaged_targets(outputs)
    torch.testing.assert_close(targets, naive_targets(outputs), atol=1e-5, rtol=1e-4)
    louder = [100 * outputs[0] + 3, *outputs[1:]]  # every block counts alike
    torch.testing.assert_close(averaged_targets(louder), targets, atol=1e-3, rtol=1e-3)
    assert averaged_targets([outputs[0].bfloat16()]).dtype == torch.float32
    counted = torch.ones(2, 7)
    counted[1, 4:] = 0
    expected = naive_targets(outputs, counted)
    torch.testing.assert_close(averaged_targets(outputs, counted), expected, atol=1e-5, rtol=1e-4)
    outputs[2][1, 5] += 9.0  # padding
    assert (averaged_targets(outputs, counted) - expected).abs()[counted == 1].max() < 1e-5


@pytest.mark.parametrize("top_blocks", [1, DEPTH])
def test_targets_are_those_of_the_teacher_s_top_blocks(top_blocks):
    method, spec = small(top_blocks=top_blocks), seeded(2, 96, 64)
    with torch.no_grad():
        expected = naive_teacher(method, spec)
    torch.testing.assert_close(method.targets(spec), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_is_its_definition(weight):
    method, (*batch, _) = small(utterance_weight=weight), seen()
    counted = torch.ones(3, 24)
    counted[1, 12:] = 0
    with torch.no_grad():
        out = method(*batch, counted, monitors=True)
        expected = naive_loss(method, *batch, counted)
        torch.testing.assert_close(out["loss"], expected, atol=1e-5, rtol=1e-4)
        parts = out["frame_loss"] + weight * out["utterance_loss"]
        torch.testing.assert_close(out["loss"], parts)
        everything = method(*batch)["loss"]
        torch.testing.assert_close(everything, naive_loss(method, *batch, torch.ones(3, 24)))


def test_clones_share_one_pass_of_the_teacher_and_cost_what_separate_calls_cost():
    method, batch = small(), seen(n_clips=3, n_masks=4)
    passes = []
    method.teacher.blocks[0].norm1.register_forward_hook(lambda _, x, __: passes.append(len(x[0])))
    together = method(*batch)["loss"]
    assert passes == [3]  # clips, not maskings
    spec, *masks, counted = batch
    each = [
        method(spec, *(part[clone::4] for part in masks), counted)["loss"] for clone in range(4)
    ]
    torch.testing.assert_close(together, torch.stack(each).mean())


def test_the_gradient_reaches_the_student_alone():
    method = small()
    method(*seen())["loss"].backward()
    for name, weight in method.named_parameters():
        if name.startswith("teacher.") or name.endswith("pos_embed"):
            assert weight.grad is None and not weight.requires_grad, name
        else:
            assert weight.grad.abs().sum() > 0, name


def test_hidden_patches_reach_the_teacher_and_not_the_prediction():
    method, (spec, kept, mask, restore, _) = small(), seen(n_clips=1, n_masks=1)
    hidden = mask.view(1, 6, 4).repeat_interleave(16, 1).repeat_interleave(16, 2).bool()
    other = torch.where(hidden, seeded(1, 96, 64, seed=9), spec)

    def predict(x):
        return method.decoder(method.student.sequence(x, kept), restore)

    with torch.no_grad():
        assert torch.equal(predict(spec), predict(other))
        assert not torch.allclose(method.targets(spec), method.targets(other), atol=1e-2)


def test_the_teacher_follows_its_student():
    method = small()
    before = [weight.clone() for weight in method.teacher.parameters()]
    method.update_teacher(0.75)
    for old, new, student in zip(before, method.teacher.parameters(), method.student.parameters()):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * student)
    assert list(method.encoders) == ["student", "teacher"]


def test_monitors_see_targets_that_are_the_same_for_every_clip():
    method, (spec, *masks) = small(), seen()
    torch.testing.assert_close(
        method(spec, *masks, monitors=True)["between_clips"],
        method.targets(spec).var(0, correction=0).mean(),
    )
    same = spec[:1].expand_as(spec)
    out = method(same, *masks, monitors=True)
    assert out["between_clips"] < 1e-6 and set(out) >= {"rank", "loss"}


def naive_decoder(decoder: ConvDecoder, latent, kept, n_times: int) -> torch.Tensor:
    """One clip: tokens put onto the grid one by one, then layer by layer."""
    width = latent.shape[1]
    grid = decoder.mask_token[0, 0].expand(n_times * decoder.columns, width).clone()
    for place, token in zip(kept.tolist(), latent[1:], strict=True):
        grid[place] = token
    x = grid.T.reshape(1, width, n_times, decoder.columns)
    for number, layer in enumerate(decoder.layers):
        out = layer(x)
        mean, var = out.mean(1, keepdim=True), out.var(1, keepdim=True, correction=0)
        out = torch.nn.functional.gelu((out - mean) / (var + 1e-5).sqrt())
        x = out + x if number else out
    return decoder.predict(x[0].flatten(1).T)


def test_the_decoder_is_convolutions_over_the_grid():
    decoder = small().decoder
    _, kept, _, restore, _ = seen(n_clips=2, n_masks=1)
    latent = seeded(2, 1 + kept.shape[1], WIDTH)
    with torch.no_grad():
        predicted = decoder(latent, restore)
        for row in range(2):
            expected = naive_decoder(decoder, latent[row], kept[row], 6)
            torch.testing.assert_close(predicted[row], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("top_blocks", [0, DEPTH + 1])
def test_more_blocks_than_there_are_cannot_be_averaged(top_blocks):
    with pytest.raises(ValueError, match=f"top_blocks is 1 to {DEPTH}, got {top_blocks}"):
        small(top_blocks=top_blocks)


def test_the_model_is_what_the_preset_says():
    for scale in SCALES:
        config = preset("eat", scale)
        with torch.device("meta"):
            method = make_data2vec(config)
        layers = method.decoder.layers
        built = {
            "top_blocks": method.top_blocks, "utterance_weight": method.utterance_weight,
            "n_frames": method.student.n_frames, "n_mels": method.student.n_mels,
            "decoder_dim": layers[0].out_channels, "decoder_depth": len(layers),
            "decoder_groups": layers[0].groups, "decoder_kernel": layers[0].kernel_size[0],
        }  # fmt: skip
        assert built == {name: getattr(config, name) for name in built}, scale
        assert method.top_blocks == len(method.student.blocks), "EAT averages all"


# EAT's official configuration for AS-2M: 16 maskings, squares of 5 x 5 patches.
PUBLISHED = {
    "n_masks": 16, "mask_ratio": 0.8, "block": 5, "block_extra": 0.07, "top_blocks": 12, "utterance_weight": 1.0,
    "momentum": 0.9998, "final_momentum": 0.99999, "batch_size": 4 * 12, "steps": 400_000, "warmup_steps": 53_333,
    "learning_rate": 5e-4, "weight_decay": 0.05, "clip_norm": 4.0, "beta_2": 0.95,
    "decoder_dim": 768, "decoder_depth": 6, "decoder_groups": 16, "decoder_kernel": 3,
}  # fmt: skip


def test_the_paper_s_preset_is_the_published_configuration():
    config = preset("eat", "paper")
    assert {name: getattr(config, name) for name in PUBLISHED} == PUBLISHED
