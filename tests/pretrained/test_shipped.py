"""Encoder files: what goes in comes out, a damaged or foreign file is named, shipped ones are whole and described."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from audiossl_lite import encoders
from audiossl_lite.encoders import atst_tiny, audiomae_tiny, byola_tiny
from audiossl_lite.encoders.decoders import GlobalDecoder
from audiossl_lite.frontends import ATSTFrontend, AudioMAEFrontend, BYOLAFrontend
from audiossl_lite.methods import MAE
from audiossl_lite.pretrained import load_masked_autoencoder
from audiossl_lite.pretrained.shipped import (
    describe_encoder,
    golden_sound,
    load_encoder,
    load_shipped,
    save_encoder,
    shipped_encoders,
)
from audiossl_lite.pretrained.weights import SEAL, WeightsError
from audiossl_lite.views.masks import draw_masking

CASES = {
    "byola_tiny": (byola_tiny, {}, BYOLAFrontend(-4.0, 3.0)),
    "atst_tiny": (atst_tiny, {"drop_path": 0.0}, ATSTFrontend("paper", min_db=-70.0, max_db=40.0)),
    "audiomae_tiny": (
        audiomae_tiny,
        {"n_frames": 96, "n_mels": 64},
        AudioMAEFrontend(96, -5.0, 4.0, n_mels=64),
    ),
}


@pytest.fixture(params=list(CASES))
def saved(request, tmp_path):
    make, options, frontend = CASES[request.param]
    torch.manual_seed(0)
    encoder = make(**options).eval()
    path = tmp_path / "models" / "one.safetensors"
    save_encoder(
        path, encoder, frontend, maker=request.param, options=options, about={"data": "noise"}
    )
    return path, encoder, frontend


def test_a_file_gives_back_network_and_frontend(saved):
    path, encoder, frontend = saved
    loaded = load_encoder(path)
    wave = 0.1 * torch.randn(2, 15_000)
    torch.testing.assert_close(loaded.embed(wave), encoder(frontend(wave)), rtol=0, atol=0)
    assert not loaded.encoder.training
    assert not any(p.requires_grad for p in loaded.encoder.parameters())
    assert describe_encoder(path)["about"] == {"data": "noise"}


@pytest.mark.parametrize(("bits", "error", "share"), [(16, 1e-3, 0.6), (8, 3e-2, 0.4)])
def test_fewer_bits_make_a_smaller_file_of_nearly_the_same_network(
    saved, tmp_path, bits, error, share
):
    path, encoder, frontend = saved
    made = describe_encoder(path)["encoder"]
    small = tmp_path / "small.safetensors"
    options = {"maker": made["maker"], "options": made["options"], "bits": bits}
    save_encoder(small, encoder, frontend, **options)
    wave = 0.1 * torch.randn(2, 15_000)
    whole, rounded = load_encoder(path).embed(wave), load_encoder(small).embed(wave)
    assert 0 < (rounded - whole).norm() / whole.norm() < error
    assert small.stat().st_size < share * path.stat().st_size
    golden = torch.tensor(describe_encoder(small)["golden"])
    torch.testing.assert_close(load_encoder(small).embed(*golden_sound())[0], golden)
    with pytest.raises(ValueError, match="bits must be 8, 16 or 32, got 4"):
        save_encoder(small, encoder, frontend, **options | {"bits": 4})


def test_it_holds_data_alone(saved):
    """safetensors: a length, a JSON header, numbers. No pickle anywhere."""
    content = saved[0].read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    assert set(header["__metadata__"]) == {"encoder", "frontend", "about", "golden", "sha256"}
    assert all(
        set(entry) == {"dtype", "shape", "data_offsets"}
        for name, entry in header.items()
        if name != "__metadata__"
    )


def test_it_says_what_a_fixed_sound_gives(saved):
    path, encoder, _ = saved
    loaded = load_encoder(path)
    out = loaded.embed(*golden_sound())
    assert out.shape == (1, encoder.embed_dim)
    torch.testing.assert_close(out, torch.tensor([loaded.about["golden"]]), atol=1e-5, rtol=1e-5)


def test_a_maker_that_makes_another_network_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not fit BYOLAEncoder"):
        save_encoder(tmp_path / "x.safetensors", byola_tiny(), BYOLAFrontend(), maker="byola_cnn")
    with pytest.raises(KeyError, match="unknown encoder 'byola_huge'"):
        save_encoder(tmp_path / "x.safetensors", byola_tiny(), BYOLAFrontend(), maker="byola_huge")
    with pytest.raises(KeyError, match="unknown frontend Identity"):
        save_encoder(
            tmp_path / "x.safetensors", byola_tiny(), torch.nn.Identity(), maker="byola_tiny"
        )
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_files_are_named(saved, tmp_path):
    path = saved[0]
    with pytest.raises(FileNotFoundError, match=r"no encoder at .*missing\.safetensors"):
        load_encoder(tmp_path / "missing.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"cut\.safetensors is no encoder file"):
        load_encoder(cut)
    plain = tmp_path / "plain.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, plain)
    with pytest.raises(WeightsError, match=r"plain\.safetensors is no encoder file"):
        load_encoder(plain)


@pytest.mark.parametrize("norm_patches", [True, False])
def test_a_masked_autoencoder_comes_back_whole_and_its_encoder_embeds_as_without(
    tmp_path, norm_patches
):
    options = {"n_frames": 96, "n_mels": 64}
    torch.manual_seed(0)
    decoder = GlobalDecoder(192, 64, 2, 4, **options)
    mae = MAE(audiomae_tiny(**options), decoder, norm_patches=norm_patches).eval()
    path, alone = tmp_path / "mae.safetensors", tmp_path / "encoder.safetensors"
    frontend = AudioMAEFrontend(96, -5.0, 4.0, n_mels=64)
    for file, whole in ((path, mae), (alone, None)):
        save_encoder(file, mae.encoder, frontend, maker="audiomae_tiny", options=options, mae=whole)
    loaded = load_masked_autoencoder(path)
    spec = torch.randn(2, 96, 64)
    masking = draw_masking(2, (6, 4), torch.Generator().manual_seed(0), ratio=0.5)
    assert torch.equal(loaded.reconstruct(spec, masking), mae.reconstruct(spec, masking))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    wave = 0.1 * torch.randn(2, 15_000)
    assert torch.equal(load_encoder(path).embed(wave), load_encoder(alone).embed(wave))
    with pytest.raises(WeightsError, match=r"encoder\.safetensors holds an encoder alone"):
        load_masked_autoencoder(alone)
    with pytest.raises(WeightsError, match="cnn_sounds.safetensors holds an encoder alone"):
        load_masked_autoencoder("cnn_sounds")


def test_a_decoder_of_absurd_sizes_is_refused_before_it_is_made(tmp_path):
    options = {"n_frames": 96, "n_mels": 64}
    path, bad = tmp_path / "mae.safetensors", tmp_path / "bad.safetensors"
    mae = MAE(audiomae_tiny(**options), GlobalDecoder(192, 64, 2, 4, **options))
    save_encoder(
        path, mae.encoder, AudioMAEFrontend(96, -5.0, 4.0, n_mels=64),
        maker="audiomae_tiny", options=options, mae=mae,
    )  # fmt: skip
    state = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    for sizes, said in (
        ({"depth": 10**9}, "depth must be"),
        ({"dim": "wide"}, "dim must be"),
        ([], "alone"),
    ):
        made = json.loads(metadata["encoder"])
        made["decoder"] = made["decoder"] | sizes if sizes else {}
        changed = {k: v for k, v in metadata.items() if k != SEAL} | {"encoder": json.dumps(made)}
        safetensors.torch.save_file(state, bad, changed)
        with pytest.warns(UserWarning), pytest.raises(WeightsError, match=said):
            load_masked_autoencoder(bad)


def test_an_unknown_name_is_an_error_that_names_the_known():
    with pytest.raises(KeyError, match="unknown encoder 'byol_events'"):
        load_shipped("byol_events")


@pytest.mark.parametrize("name", list(shipped_encoders()))
def test_every_shipped_encoder_is_small_described_and_runs(name):
    path = shipped_encoders()[name]
    assert path.stat().st_size < 8e6
    described = describe_encoder(path)
    assert described["encoder"]["maker"] in encoders.__all__
    about = described["about"]
    assert {"method", "data", "licence", "steps", "seed", "record"} <= about.keys()
    card = path.with_suffix(".md").read_text()
    first = f"gave {described['golden'][0]:.4g}, "
    for word in (about["licence"], about["record"], "never heard", first):
        assert word in card
    loaded = load_shipped(name)
    embedded = loaded.embed(0.1 * torch.randn(2, 32_000))
    assert embedded.shape == (2, loaded.encoder.embed_dim)
    assert torch.isfinite(embedded).all() and embedded.std(0).mean() > 0


def test_a_small_encoder_ships():
    assert shipped_encoders(), "the project ships at least one trained encoder"
