"""AudioMAE's published files, in every layout: written here with made-up weights, at a small depth."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from audiossl_lite.encoders import AudioMAEEncoder
from audiossl_lite.encoders.audiomae import published_positions
from audiossl_lite.encoders.decoders import GlobalDecoder, WindowDecoder
from audiossl_lite.methods import MAE
from audiossl_lite.pretrained import WeightsError, load_audiomae, load_masked_autoencoder
from audiossl_lite.pretrained.audiomae import FineTunedAudioMAE
from audiossl_lite.views.masks import unstructured_masking
from tests.pretrained.toys import published_state


@pytest.fixture(scope="module")
def mae() -> MAE:
    torch.manual_seed(0)
    encoder = AudioMAEEncoder(192, 2, 3)
    encoder.pos_embed.data = published_positions(64, 8, 192)
    return MAE(encoder, WindowDecoder(192, 32, 3, 4)).eval()


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(2, 32_000, generator=torch.Generator().manual_seed(0))


def test_the_pretrained_file_gives_the_encoder_with_its_own_positions(tmp_path, mae, waveform):
    path = tmp_path / "pretrained.pth"
    torch.save({"model": published_state(mae), "epoch": 32}, path)
    loaded = load_audiomae(path)
    assert not loaded.encoder.training
    assert torch.equal(loaded.encoder.pos_embed, published_positions(64, 8, 192))
    spec = loaded.frontend(waveform)
    assert spec.shape == (2, 1024, 128)
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed(waveform), mae.encoder(spec))
        torch.testing.assert_close(loaded.embed(waveform), mae.encoder.tokens(spec).mean(1))


def test_a_shorter_window_keeps_the_positions_of_the_first_patches(tmp_path, mae, waveform):
    path = tmp_path / "pretrained.pth"
    torch.save({"model": published_state(mae)}, path)
    loaded = load_audiomae(path, n_frames=208)
    assert loaded.frontend(waveform).shape == (2, 208, 128)
    with torch.no_grad():
        expected = mae.encoder(loaded.frontend(waveform))
    torch.testing.assert_close(loaded.embed(waveform), expected)
    for wrong in (0, 200, 1040):
        with pytest.raises(ValueError, match="multiple of 16 up to 1024"):
            load_audiomae(path, n_frames=wrong)


@pytest.mark.parametrize("layout", ["torch", "safetensors", "data parallel"])
def test_bare_states_are_read(tmp_path, mae, waveform, layout):
    path = tmp_path / ("model.safetensors" if layout == "safetensors" else "model.pth")
    state = {key: value.clone() for key, value in mae.encoder.state_dict().items()}
    if layout == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        prefix = "module." if layout == "data parallel" else ""
        torch.save({prefix + key: value for key, value in state.items()}, path)
    with torch.no_grad():
        expected = mae.encoder(load_audiomae(path).frontend(waveform))
    torch.testing.assert_close(load_audiomae(path).embed(waveform), expected)


@pytest.mark.parametrize("n_classes", [7, 0])
def test_the_fine_tuned_file_brings_its_norm_and_head(tmp_path, waveform, n_classes):
    torch.manual_seed(1)
    tuned = FineTunedAudioMAE(192, 2, 3, n_classes, n_frames=1024).eval()
    tuned.fc_norm.weight.data.normal_()
    torch.save({"model": tuned.state_dict()}, tmp_path / "finetuned.pth")
    loaded = load_audiomae(tmp_path / "finetuned.pth")
    spec = loaded.frontend(waveform)
    with torch.no_grad():
        x = tuned.patch_embed(spec) + tuned.pos_embed[:, 1:]
        x = torch.cat([tuned.cls_token.expand(2, -1, -1), x], dim=1)
        for block in tuned.blocks:
            x = block(x)
        expected = tuned.fc_norm(x[:, 1:].mean(1))
        torch.testing.assert_close(loaded.embed(waveform), expected, atol=1e-5, rtol=1e-4)
        if n_classes:
            torch.testing.assert_close(loaded.encoder.head(expected), tuned.head(expected))


@pytest.mark.parametrize("kind", ["window", "global"])
def test_the_whole_autoencoder_can_be_loaded(tmp_path, mae, kind):
    torch.manual_seed(2)
    decoder = mae.decoder if kind == "window" else GlobalDecoder(192, 32, 2, 16)
    whole = MAE(mae.encoder, decoder).eval()
    torch.save({"model": published_state(whole)}, tmp_path / "pretrained.pth")
    loaded = load_masked_autoencoder(tmp_path / "pretrained.pth")
    assert type(loaded.decoder) is type(decoder)
    generator = torch.Generator().manual_seed(0)
    spec = torch.randn(1, 256, 128, generator=generator)
    masking = unstructured_masking(torch.rand(1, 128, generator=generator), 0.8)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.predict(spec, masking.kept, masking.restore),
            whole.predict(spec, masking.kept, masking.restore),
        )


def broken(state: dict, **changes) -> dict:
    return {key: value for key, value in (state | changes).items() if value is not None}


def test_files_that_do_not_fit_are_errors_that_name_the_keys(tmp_path, mae):
    for changes, message in (
        ({"blocks.1.attn.qkv.weight": None}, "missing blocks.1.attn.qkv.weight"),
        ({"norm.weight": torch.ones(3)}, r"norm.weight has shape \(3,\)"),
        ({"surprise": torch.ones(3)}, "unexpected surprise"),
        ({"cls_token": None}, "no cls_token"),
        ({"pos_embed": None}, "pos_embed of 0 tokens"),
        ({"pos_embed": torch.zeros(1, 14, 192)}, "pos_embed of 13 tokens"),
        ({"cls_token": torch.zeros(1, 1, 100)}, "100 wide"),
    ):
        torch.save({"model": broken(published_state(mae), **changes)}, tmp_path / "odd.pth")
        with pytest.raises(WeightsError, match=message) as error:
            load_audiomae(tmp_path / "odd.pth")
        assert "odd.pth" in str(error.value), message


def test_an_encoder_alone_has_no_decoder(tmp_path, mae):
    torch.save(mae.encoder.state_dict(), tmp_path / "encoder.pth")
    with pytest.raises(WeightsError, match="has no decoder"):
        load_masked_autoencoder(tmp_path / "encoder.pth")
