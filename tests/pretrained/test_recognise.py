"""`load_any`: every published layout is told by its keys and shapes, and a file that fits none is named.

The files are written here in the published layouts, with made-up weights.
"""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from audiossl_lite import load_any
from audiossl_lite.encoders import AudioMAEEncoder, byola_cnn
from audiossl_lite.encoders.decoders import WindowDecoder
from audiossl_lite.evaluation import log_mel_statistics, mfcc_statistics
from audiossl_lite.methods import MAE
from audiossl_lite.pretrained import WeightsError, load_audiomae, load_shipped
from audiossl_lite.pretrained.audiomae import FineTunedAudioMAE
from audiossl_lite.pretrained.recognise import LAYOUTS, recognise
from audiossl_lite.pretrained.shipped import save_encoder
from tests.pretrained import toys
from tests.pretrained.test_published import dino, lightning

LENGTHS = torch.tensor([16_000, 9_000])


def sounds() -> torch.Tensor:
    wave = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    return wave * (torch.arange(16_000) < LENGTHS[:, None])


@pytest.fixture(scope="module")
def atst(reference, made_up_weights) -> dict[str, torch.Tensor]:
    return made_up_weights(reference("atst_small")["keys"])


@pytest.fixture(scope="module")
def mae() -> MAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MAE(AudioMAEEncoder(192, 2, 3), WindowDecoder(192, 32, 2, 4)).eval()


@pytest.fixture(scope="module")
def byola() -> dict[str, torch.Tensor]:
    return byola_cnn(512).state_dict()


def tell(content: dict) -> str:
    return recognise(content, "a file").name


def test_atst_is_told_in_each_of_its_wrappings(tmp_path, atst, reference):
    contents = (atst, dino(atst, anchor_len=[6.0, 6.0]), lightning(atst))
    assert [tell(content) for content in contents] == ["ATST"] * 3
    torch.save(contents[2], tmp_path / "small.ckpt")
    loaded = load_any(tmp_path / "small.ckpt")
    x = torch.randn(2, 1, 64, 601, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = loaded.encoder(x[:, 0].transpose(1, 2), torch.tensor([601, 401]))
    expected = reference("atst_small")["f601_padded"]["cls_out"]
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)
    assert (loaded.name, len(loaded.identity)) == ("small", 32)


def test_audiomae_is_told_pretrained_fine_tuned_and_under_timms_names(tmp_path, mae):
    tuned = FineTunedAudioMAE(192, 2, 3, 7, n_frames=1024).eval()
    whole = {"model": toys.published_state(mae), "epoch": 32}
    assert tell(whole) == tell({"model": tuned.state_dict()}) == "AudioMAE"
    torch.save(whole, tmp_path / "pretrained.pth")
    torch.save({"model": tuned.state_dict()}, tmp_path / "finetuned.pth")
    ported = {key: value.clone() for key, value in mae.encoder.state_dict().items()}
    safetensors.torch.save_file(ported, tmp_path / "timm.safetensors")
    for name in ("pretrained.pth", "finetuned.pth", "timm.safetensors"):
        path = tmp_path / name
        torch.testing.assert_close(
            load_any(path).embed(sounds()), load_audiomae(path).embed(sounds())
        )
    assert type(load_any(tmp_path / "finetuned.pth").encoder) is FineTunedAudioMAE


def test_audiomae_at_its_own_size_gives_the_official_outputs(reference, made_up_weights):
    expected = reference("audiomae_vitb")
    content = {"model": made_up_weights(expected["encoder_keys"])}
    x = torch.randn(2, 1, 1024, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = recognise(content, "base.pth").load("base.pth", content=content).encoder(x[:1, 0])
    torch.testing.assert_close(out, expected["mean_patch_after_norm"][:1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("width", [512, 1024, 2048])
def test_byol_a_is_told_in_three_widths(tmp_path, width):
    torch.save(byola_cnn(width).state_dict(), tmp_path / "byola.pth")
    assert load_any(tmp_path / "byola.pth").embed(sounds()).shape == (2, width)


def test_names_baselines_and_files_of_ours():
    wave = sounds()
    assert torch.equal(load_any("cnn_events").embed(wave), load_shipped("cnn_events").embed(wave))
    for name, statistics in (("log-mel", log_mel_statistics), ("mfcc", mfcc_statistics)):
        torch.testing.assert_close(load_any(name).embed(wave, LENGTHS), statistics(wave, LENGTHS))


def test_a_file_of_ours_is_told_by_what_it_says(tmp_path):
    shipped = load_shipped("cnn_events")
    path = tmp_path / "mine.safetensors"
    save_encoder(path, shipped.encoder, shipped.frontend, maker="byola_small", about={"data": "x"})
    mine = load_any(path)
    assert (mine.name, mine.about["data"]) == ("mine", "x")
    assert torch.equal(mine.embed(sounds()), shipped.embed(sounds()))


def test_a_padded_clip_gives_what_it_gives_alone(tmp_path, atst, mae, byola):
    for content in (atst, toys.published_state(mae), byola):
        torch.save(content, tmp_path / "x.pth")
        model = load_any(tmp_path / "x.pth")
        together = model.embed(sounds(), LENGTHS)
        alone = model.embed(sounds()[1:, :9_000])
        torch.testing.assert_close(together[1:], alone, atol=1e-3, rtol=1e-3)


def test_a_key_that_is_missing_extra_renamed_or_reshaped_is_named(atst, mae, byola):
    """Telling keys among them: what remains still says whose file it is."""
    cases = (
        (atst, "patch_embed.patch_embed.weight"),
        (atst, "blocks.3.norm1.bias"),
        (toys.published_state(mae), "patch_embed.proj.weight"),
        (toys.published_state(mae), "norm.weight"),
        (byola, "fc.0.weight"),
        (byola, "features.5.running_var"),
    )
    for state, key in cases:
        changes = {
            "missing": {k: v for k, v in state.items() if k != key},
            "renamed": {k.replace(key, f"{key}_"): v for k, v in state.items()},
            "reshaped": state | {key: state[key][..., :-1]},
            "extra": state | {"surprise": torch.ones(3)},
        }
        for change, content in changes.items():
            named = "surprise" if change == "extra" else key
            with pytest.raises(WeightsError, match=rf"odd\.pth.*{named}"):
                recognise(content, "odd.pth").load("odd.pth", content=content)


def test_other_families_are_named(tmp_path, atst):
    frame = {key: value for key, value in atst.items() if key[:4] not in ("norm", "cls_")}
    frame |= {"norm_frame.weight": torch.ones(384), "norm_frame.bias": torch.zeros(384)}
    image = {
        "cls_token": torch.zeros(1, 1, 384),
        "patch_embed.proj.weight": torch.zeros(384, 3, 16, 16),
    }
    second = {"features.0.weight": torch.zeros(64, 1, 3, 3), "fc.0.weight": torch.zeros(2048, 1024)}
    for content, message in (
        (
            {"state_dict": {f"model.teacher.encoder.{k}": v for k, v in frame.items()}},
            "of ATST-Frame",
        ),
        ({"model": {"post_extract_proj.weight": torch.ones(2)}, "cfg": {}}, "of BEATs"),
        ({"module.v.patch_embed.proj.weight": torch.ones(2)}, "of AST or SSAST"),
        (second, "of BYOL-A v2"),
        (image, r"no layout that is read.*its keys are \['cls_token', 'patch_embed.proj.weight'\]"),
        ({"epoch": 3}, r"its keys are \['epoch'\]"),
    ):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(WeightsError, match=message) as error:
            load_any(tmp_path / "other.pth")
        assert "other.pth" in str(error.value) and "\n" not in str(error.value)


def test_a_name_that_is_none_gets_the_nearest(tmp_path):
    with pytest.raises(KeyError, match="unknown encoder 'logmel'; did you mean 'log-mel'"):
        load_any("logmel")
    for missing in (tmp_path / "none", "none.ckpt"):
        with pytest.raises(
            FileNotFoundError, match="no weight file at .*by name there are .*cnn_events"
        ):
            load_any(missing)


def test_anyones_encoder_is_imported_by_name():
    whole, part = sounds(), sounds()[1:, :9_000]
    made, called = load_any("tests.pretrained.toys:make_toy"), load_any("tests.pretrained.toys:Toy")
    assert made.takes_lengths and isinstance(called.encoder, toys.Toy)
    simple = load_any("tests.pretrained.toys:plain")
    assert not simple.takes_lengths
    for model in (made, called, simple):
        torch.testing.assert_close(model.embed(whole, LENGTHS)[1:], model.embed(part))
        torch.testing.assert_close(model.embed(whole, LENGTHS)[:1], model.embed(whole[:1]))
    for name, message in (
        ("tests.pretrained.nowhere:make", "cannot be imported"),
        ("tests.pretrained.toys:make_toi", "did you mean 'make_toy'"),
        ("tests.pretrained.toys:NUMBER", "is a int, neither callable"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_any(name)


def test_the_layouts_differ_in_what_tells_them():
    told = [set(layout.telling.items()) for layout in LAYOUTS]
    assert not (told[0] & told[1] or told[0] & told[2] or told[1] & told[2])
