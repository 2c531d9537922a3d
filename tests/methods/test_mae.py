"""The masked autoencoder: published losses, decoders, what the encoder may see, and the views it is fed."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.encoders import audiomae_base, audiomae_tiny
from audiossl_lite.encoders.audiomae import patchify
from audiossl_lite.encoders.decoders import GlobalDecoder, WindowDecoder
from audiossl_lite.encoders.windows import (
    WindowBlock,
    blocked_pairs,
    from_windows,
    log_offsets,
    to_windows,
)
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.methods.mae import MAE
from audiossl_lite.views.masks import (
    MaskedViews,
    draw_masking,
    structured_masking,
    unstructured_masking,
)
from tests.pretrained.toys import published_state

SIZE = {"n_frames": 128, "n_mels": 64}  # 8 x 4 patches


def seeded(*shape: int, seed: int = 0, normal: bool = True) -> torch.Tensor:
    draw = torch.randn if normal else torch.rand
    return draw(shape, generator=torch.Generator().manual_seed(seed))


def small(decoder: str = "global", **options) -> MAE:
    torch.manual_seed(0)
    encoder = audiomae_tiny(**SIZE)
    maker = {"global": GlobalDecoder, "window": WindowDecoder}[decoder]
    return MAE(encoder, maker(192, 32, 2, 4, **SIZE), **options).eval()


@pytest.fixture(scope="module")
def published(made_up_weights):
    mae = MAE(audiomae_base(), WindowDecoder(768))
    for part in (mae.encoder, mae.decoder):
        state = made_up_weights((key, value.shape) for key, value in part.state_dict().items())
        state = {k: v + 1 if k.endswith("attn.tau") else v for k, v in state.items()}
        part.load_state_dict(state)
    return mae.eval()


def test_the_published_model_has_430_entries_and_its_parameters(published):
    state = published_state(published)
    assert len(state) == 430
    assert sum(value.numel() for value in state.values()) == 136_992_768
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes["mask_token"] == (1, 1, 512)
    assert shapes["decoder_pos_embed"] == (1, 513, 512)
    assert shapes["decoder_blocks.15.attn.tau"] == (16,)
    assert shapes["decoder_blocks.0.attn.meta_mlp.fc1.weight"] == (384, 2)
    assert shapes["decoder_blocks.0.attn.meta_mlp.fc2.weight"] == (16, 384)
    assert shapes["decoder_pred.weight"] == (256, 512)
    shifts = [block.shift_time for block in published.decoder.decoder_blocks]
    assert shifts == [0, 2] * 8


@torch.no_grad()
@pytest.mark.parametrize(
    ("structured", "n_kept", "normed", "raw"),
    [(False, 102, 1.1888767, 1.1917497), (True, 100, 1.1919757, 1.1968780)],
)
def test_the_losses_are_the_official_ones(published, structured, n_kept, normed, raw):
    spec = seeded(2, 1, 1024, 128)[:, 0]
    if structured:
        times, bands = seeded(2, 64, seed=2, normal=False), seeded(2, 8, seed=3, normal=False)
        masking = structured_masking(times, bands, 0.6, 0.5)
    else:
        masking = unstructured_masking(seeded(2, 512, seed=1, normal=False), 0.8)
    assert masking.kept.shape == (2, n_kept)
    for norm_patches, value in ((True, normed), (False, raw)):
        published.norm_patches = norm_patches
        loss = published(spec, masking.kept, masking.mask, masking.restore)["loss"]
        assert loss.item() == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("decoder", ["global", "window"])
@pytest.mark.parametrize("structured", [False, True])
def test_hidden_patches_do_not_reach_the_prediction(decoder, structured, generator):
    mae = small(decoder)
    masking = draw_masking(2, (8, 4), generator, structured=structured)
    spec = seeded(2, 128, 64)
    hidden = masking.mask.view(2, 8, 4).repeat_interleave(16, 1).repeat_interleave(16, 2).bool()
    other = torch.where(hidden, seeded(2, 128, 64, seed=9), spec)
    with torch.no_grad():
        first, second = (mae.predict(x, masking.kept, masking.restore) for x in (spec, other))
        third = mae.predict(torch.where(hidden, spec, spec + 1), masking.kept, masking.restore)
    assert first.shape == (2, 32, 256)
    assert torch.equal(first, second)
    assert not torch.allclose(first, third, atol=1e-3)


@pytest.mark.parametrize("decoder", ["global", "window"])
def test_the_order_of_the_kept_tokens_does_not_matter(decoder, generator):
    mae, spec = small(decoder), seeded(1, 128, 64)
    masking = draw_masking(1, (8, 4), generator, ratio=0.5)
    order = torch.arange(16).flip(0)
    restore = masking.restore.clone()
    visible = masking.mask == 0
    restore[visible] = 15 - restore[visible]
    with torch.no_grad():
        plain = mae.predict(spec, masking.kept, masking.restore)
        flipped = mae.predict(spec, masking.kept[:, order], restore)
    torch.testing.assert_close(plain, flipped, atol=1e-4, rtol=1e-4)


def test_every_weight_learns_and_the_positions_do_not(generator):
    for decoder in ("global", "window"):
        mae = small(decoder).train()
        masking = draw_masking(2, (8, 4), generator)
        mae(seeded(2, 128, 64), masking.kept, masking.mask, masking.restore)["loss"].backward()
        for name, parameter in mae.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
            else:
                assert name.endswith("pos_embed")


def test_the_loss_counts_hidden_patches_that_are_counted(generator):
    mae, spec = small(), seeded(2, 128, 64)
    masking = draw_masking(2, (8, 4), generator)
    counted = torch.ones(2, 32)
    counted[:, 16:] = 0
    parts = (masking.kept, masking.mask, masking.restore)
    with torch.no_grad():
        predicted = mae.predict(spec, masking.kept, masking.restore)
        loss = mae(spec, *parts, counted)["loss"]
    patches, errors = patchify(spec), []
    for b in range(2):
        for i in range(16):
            if masking.mask[b, i]:
                target = patches[b, i]
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
                errors.append((predicted[b, i] - target).square().mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean())


@pytest.mark.parametrize("norm_patches", [True, False])
def test_reconstruct_keeps_what_was_visible(norm_patches, generator):
    mae, spec = small(norm_patches=norm_patches), seeded(2, 128, 64)
    masking = draw_masking(2, (8, 4), generator)
    shown, true = patchify(mae.reconstruct(spec, masking)), patchify(spec)
    hidden = masking.mask.bool()
    assert torch.equal(shown[~hidden], true[~hidden])
    with torch.no_grad():
        predicted = mae.predict(spec, masking.kept, masking.restore)[hidden]
    if norm_patches:
        mean, std = true[hidden].mean(-1, keepdim=True), true[hidden].std(-1, keepdim=True)
        predicted = predicted * std + mean
    torch.testing.assert_close(shown[hidden], predicted, atol=1e-4, rtol=1e-4)


def test_windows_can_be_undone_and_hold_neighbours():
    grid = torch.arange(2 * 8 * 4).view(2, 8, 4, 1).float()
    windows = to_windows(grid)
    assert windows.shape == (4, 16, 1)
    assert torch.equal(windows[1, :, 0], grid[0, 4:].flatten())
    assert torch.equal(from_windows(windows, 8, 4), grid)


def test_offsets_are_logarithmic_and_odd():
    offsets = log_offsets().view(16, 16, 2)
    assert torch.equal(offsets, -offsets.transpose(0, 1))
    assert offsets[0, 15].tolist() == pytest.approx([-1.3862944, -1.3862944])  # three steps: ln 4


def naive_window_attention(block: WindowBlock, x: torch.Tensor) -> torch.Tensor:
    """Patch by patch: which others it sees, cosines over tau plus bias, softmax, projection."""
    attn, columns = block.attn, block.columns
    n = x.shape[0]
    rows, heads, width = n // columns, attn.heads, x.shape[1] // attn.heads
    q, k, v = (part.view(n, heads, width) for part in attn.qkv(x).chunk(3, dim=1))
    out = torch.zeros(n, heads, width)
    for i in range(n):
        t, f = divmod(i, columns)
        window = (((t - block.shift_time) % rows) // 4, f // 4)
        seen = []
        for j in range(n):
            u, g = divmod(j, columns)
            same = (((u - block.shift_time) % rows) // 4, g // 4) == window
            if same and (t < block.shift_time) == (u < block.shift_time):
                seen.append((j, t - u, f - g))
        for h in range(heads):
            logits = []
            for j, dt, df in seen:
                offset = torch.tensor([dt, df]).float()
                bias = attn.meta_mlp(offset.sign() * (1 + offset.abs()).log())[h]
                cosine = torch.cosine_similarity(q[i, h], k[j, h], dim=0)
                logits.append(cosine / max(float(attn.tau[h]), 0.01) + bias)
            weights = torch.stack(logits).softmax(0)
            out[i, h] = sum(w * v[j, h] for w, (j, _, _) in zip(weights, seen, strict=True))
    return attn.proj(out.reshape(n, -1))


@torch.no_grad()
@pytest.mark.parametrize("shift", [0, 2])
def test_attention_in_windows_is_its_naive_definition(shift):
    torch.manual_seed(0)
    block = WindowBlock(8, 2, columns=4, shift_time=shift).eval()
    block.attn.tau.copy_(torch.tensor([0.3, 0.001]))
    x = seeded(1, 32, 8)
    expected = naive_window_attention(block, x[0])
    torch.testing.assert_close(block.attend(x)[0], expected, atol=1e-4, rtol=1e-3)


def test_the_shift_blocks_only_the_last_window():
    blocked = blocked_pairs(8, 4, 2)
    assert not blocked[0].any()
    assert (blocked[1] == -100).sum() == 2 * 8 * 8


def test_a_grid_that_does_not_divide_is_refused():
    block = WindowBlock(8, 2, columns=4)
    with pytest.raises(ValueError, match="6 x 4 patches"):
        block(torch.zeros(1, 24, 8))


def test_views_are_seeded_cropped_and_padded():
    spec, lengths = seeded(4, 160, 64), torch.tensor([160, 140, 100, 20])
    views = MaskedViews(128, pad_value=7.0)
    crop, kept, mask, restore, counted = views(spec, torch.Generator().manual_seed(1), lengths)
    assert crop.shape == (4, 128, 64) and kept.shape == (4, int(32 * (1 - 0.8)))
    assert mask.shape == restore.shape == counted.shape == (4, 32)
    again = views(spec, torch.Generator().manual_seed(1), lengths)
    assert all(torch.equal(a, b) for a, b in zip((crop, kept, mask), again, strict=False))
    assert torch.equal(crop[2, :100], spec[2, :100]) and (crop[2, 100:] == 7).all()
    assert (crop[3, 20:] == 7).all()
    assert counted.sum(1).tolist() == [32, 32, 28, 8]
    for row in (0, 1):
        starts = [s for s in range(33) if torch.equal(crop[row], spec[row, s : s + 128])]
        assert len(starts) == 1 and starts[0] + 128 <= lengths[row]
    everything = MaskedViews(128, count_padding=True)(spec, torch.Generator(), lengths)[4]
    assert everything.all()


def test_a_gain_in_the_spectrogram_is_a_gain_of_the_waveform():
    frontend = AudioMAEFrontend(128, n_mels=64)
    waveform = seeded(1, 400 + 127 * 160) * 0.1
    spec = frontend(waveform)
    views = MaskedViews(128, gain_db=6.0, norm_scale=2 * frontend.std, pad_value=frontend.pad_value)
    crop = views(spec, torch.Generator().manual_seed(3))[0]
    gain_db = float((crop - spec).mean()) * 2 * frontend.std / 0.230258509
    assert 0.1 < abs(gain_db) <= 6.0
    louder = frontend(waveform * 10 ** (gain_db / 20))
    torch.testing.assert_close(crop, louder, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("n_frames", [0, 100])
def test_a_crop_is_a_number_of_patches(n_frames):
    with pytest.raises(ValueError, match="multiple of 16"):
        MaskedViews(n_frames)
