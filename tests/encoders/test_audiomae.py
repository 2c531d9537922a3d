"""AudioMAE's encoder: exact against the official one, the names of timm, and what padding does."""

from __future__ import annotations

import math

import pytest
import timm
import torch

from audiossl_lite.encoders import audiomae_base, audiomae_small, audiomae_tiny
from audiossl_lite.encoders.audiomae import (
    patchify,
    published_positions,
    sincos_positions,
    unpatchify,
    valid_patches,
)
from audiossl_lite.pretrained.audiomae import FineTunedAudioMAE


def official_input() -> torch.Tensor:
    return torch.randn(2, 1, 1024, 128, generator=torch.Generator().manual_seed(0))[:, 0]


@pytest.fixture(scope="module")
def expected(reference):
    return reference("audiomae_vitb")


@pytest.fixture(scope="module")
def base(expected, made_up_weights):
    encoder = audiomae_base()
    encoder.load_state_dict(made_up_weights(expected["encoder_keys"]))
    return encoder.eval()


def test_keys_and_shapes_are_the_published_ones(base, expected):
    ours = {key: tuple(value.shape) for key, value in base.state_dict().items()}
    assert ours == {key: tuple(shape) for key, shape in expected["encoder_keys"]}
    assert len(ours) == 150
    assert sum(p.numel() for p in base.parameters() if p.requires_grad) == 85_254_144
    assert not base.pos_embed.requires_grad


@torch.no_grad()
def test_outputs_are_the_official_ones(base, expected):
    sequence = base.sequence(official_input())
    assert sequence.shape == (2, 513, 768)
    torch.testing.assert_close(sequence[:, 0], expected["cls"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sequence[:1, -2:], expected["last2_tokens"], atol=1e-4, rtol=0)
    mean = sequence[:, 1:].mean(1)
    torch.testing.assert_close(mean, expected["mean_patch_after_norm"], atol=1e-4, rtol=0)
    torch.testing.assert_close(base(official_input()), mean)
    first = expected["first8_tokens"]
    close = [torch.allclose(sequence[:, k : k + first.shape[1]], first, atol=1e-4) for k in (0, 1)]
    assert any(close), "the first tokens, CLS counted or not"


@torch.no_grad()
def test_the_fine_tuned_form_is_the_official_one(expected, made_up_weights):
    encoder = FineTunedAudioMAE(768, 12, 12, 527, n_frames=1024)
    ours = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    assert ours == {key: tuple(shape) for key, shape in expected["finetune_keys"]}
    encoder.load_state_dict(made_up_weights(expected["finetune_keys"]))
    encoder.eval()
    one = official_input()[:1]
    torch.testing.assert_close(encoder(one), expected["ft_global_pool_fcnorm"], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        encoder.head(encoder(one)), expected["ft_logits"][:1], atol=1e-4, rtol=0
    )


@torch.no_grad()
def test_the_same_weights_give_the_same_outputs_in_timm(base):
    other = timm.create_model(
        "vit_base_patch16_224", img_size=(1024, 128), in_chans=1, num_classes=0, global_pool="token"
    )
    other.load_state_dict(base.state_dict(), strict=True)
    tokens = other.eval().forward_features(official_input()[:1, None])
    torch.testing.assert_close(base.sequence(official_input()[:1]), tokens, atol=1e-4, rtol=0)


def test_patchify_orders_tokens_frequency_first_and_can_be_undone():
    spec = torch.arange(2 * 48 * 32, dtype=torch.float32).view(2, 48, 32)
    patches = patchify(spec)
    assert patches.shape == (2, 6, 256)
    for time in range(3):
        for band in range(2):
            cell = spec[:, 16 * time : 16 * time + 16, 16 * band : 16 * band + 16]
            assert torch.equal(patches[:, 2 * time + band], cell.reshape(2, 256))
    assert torch.equal(unpatchify(patches, 32), spec)
    with pytest.raises(ValueError, match=r"40 and 32"):
        patchify(spec[:, :40])


def test_the_patch_layer_sees_a_patch_as_patchify_lays_it_out():
    encoder = audiomae_tiny(n_frames=48, n_mels=32)
    spec = torch.randn(1, 48, 32, generator=torch.Generator().manual_seed(0))
    weight, bias = encoder.patch_embed.proj.weight.flatten(1), encoder.patch_embed.proj.bias
    torch.testing.assert_close(encoder.patch_embed(spec), patchify(spec) @ weight.T + bias)


def test_positions_code_time_and_frequency_naively():
    table = sincos_positions(5, 3, 16)[0]
    assert table.shape == (16, 16) and not table[0].any()
    for t in range(5):
        for f in range(3):
            row = []
            for place in (t, f):
                angles = [place / 10_000 ** (k / 4) for k in range(4)]
                row += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(table[1 + 3 * t + f], torch.tensor(row))
    with pytest.raises(ValueError, match="divide by 4"):
        sincos_positions(2, 2, 10)


def test_the_published_positions_are_the_scrambled_ones(expected):
    ours = published_positions(64, 8, 768)[0]
    for token, row in expected["official_sincos_pos_rows"].items():
        torch.testing.assert_close(ours[1 + token], row, atol=1e-6, rtol=0)
    assert ours.sum().item() == pytest.approx(expected["official_pos_sum"], rel=1e-5)
    assert len(torch.unique(ours, dim=0)) == 513, "every token still has its own code"
    assert (ours - sincos_positions(64, 8, 768)[0]).abs().max() > 1.5
    proper = sincos_positions(64, 8, 768)[0]
    time, band = 13, 5
    swapped = 8 * (time % 8) + band, time // 8
    halves = torch.cat([proper[1 + 8 * swapped[0]][:384], proper[1 + swapped[1]][384:]])
    assert torch.equal(ours[1 + 8 * time + band], halves)


@torch.no_grad()
def test_shorter_clips_use_the_first_rows_and_kept_tokens_are_the_same_ones():
    encoder = audiomae_tiny(n_frames=96, n_mels=32).eval()
    spec = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0))
    short = audiomae_tiny(n_frames=64, n_mels=32).eval()
    state = encoder.state_dict() | {"pos_embed": encoder.pos_embed[:, :9]}
    short.load_state_dict(state)
    torch.testing.assert_close(encoder(spec), short(spec))
    everything = torch.arange(8).flip(0).expand(2, -1)
    flipped = encoder.sequence(spec, kept=everything)
    torch.testing.assert_close(flipped[:, 1:].flip(1), encoder.tokens(spec), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_with_lengths_a_padded_clip_embeds_as_it_does_alone():
    encoder = audiomae_tiny(n_frames=96, n_mels=32).eval()
    spec = torch.randn(3, 96, 32, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([96, 48, 20])
    together = encoder(spec, lengths)
    torch.testing.assert_close(together[0], encoder(spec[:1])[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[1], encoder(spec[1:2, :48])[0], atol=1e-5, rtol=1e-4)
    alone = encoder(spec[2:, :32], lengths[2:])  # 20 frames reach into the second patch
    torch.testing.assert_close(together[2], alone[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(encoder(spec)[1], together[1], atol=1e-3)


def test_valid_patches_counts_patches_that_hold_a_valid_frame():
    valid = valid_patches(torch.tensor([0, 1, 16, 17, 64]), 64, 32)
    assert valid.sum(1).tolist() == [2, 2, 2, 4, 8]
    assert valid[3].tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("shape", [(1, 40, 32), (1, 112, 32), (1, 48, 64), (1, 0, 32)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(ValueError, match="the encoder takes"):
        audiomae_tiny(n_frames=96, n_mels=32)(torch.zeros(shape))


def test_the_sizes_are_the_ones_of_their_names():
    with torch.device("meta"):
        sizes = [(e.embed_dim, len(e.blocks)) for e in (audiomae_tiny(), audiomae_small())]
    assert sizes == [(192, 6), (384, 12)]
