"""An encoder as a folder of three files: the same embeddings come back, and what is wrong in it is named."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import safetensors
import torch

from audiossl_lite import load_any
from audiossl_lite.encoders import byola_tiny
from audiossl_lite.frontends import BYOLAFrontend
from audiossl_lite.pretrained import WeightsError, from_pretrained, save_pretrained
from audiossl_lite.pretrained.hub import FILES
from audiossl_lite.pretrained.shipped import save_encoder


@pytest.fixture
def folder(tmp_path):
    return save_pretrained("cnn_events", tmp_path / "models" / "mine")


@pytest.fixture
def wave():
    return 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))


def test_a_folder_gives_back_the_encoder(folder, wave):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    shipped = load_any("cnn_events")
    for model in (from_pretrained(folder), load_any(folder)):
        assert model.name == "mine" and model.identity == shipped.identity
        assert model.about == shipped.about
        torch.testing.assert_close(model.embed(wave), shipped.embed(wave), rtol=0, atol=0)


def test_others_read_its_weights_configuration_and_card(folder):
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        assert "fc.0.weight" in file.keys()  # noqa: SIM118
    config = json.loads((folder / "config.json").read_text())
    assert config["encoder"]["maker"].startswith("byola")
    assert config["frontend"]["class"] == "BYOLAFrontend" and len(config["golden"]) == 512
    _, header, card = (folder / "README.md").read_text().split("---\n", 2)
    assert "library_name: audiossl_lite\n" in header and "license: other\n" in header
    assert card.startswith("# cnn_events") and "CC BY-NC 3.0" in card and "from_pretrained" in card


def test_a_file_without_a_card_gets_one_from_what_it_says(tmp_path, wave):
    path = tmp_path / "own.safetensors"
    about = {"data": "noise", "licence": "CC0"}
    encoder = byola_tiny().eval()
    save_encoder(path, encoder, BYOLAFrontend(-4.0, 3.0), maker="byola_tiny", about=about)
    folder = save_pretrained(path, tmp_path / "out")
    card = (folder / "README.md").read_text()
    assert "# own" in card and "- **data.** noise\n- **licence.** CC0" in card
    torch.testing.assert_close(from_pretrained(folder).embed(wave), load_any(path).embed(wave))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_is_missing_or_damaged_is_named_in_one_line(folder, name):
    content = (folder / name).read_bytes()
    half = len(content) // 2
    for damaged in (content[:half], b"", content[:half] + b"\x00" + content[half + 1 :]):
        (folder / name).write_bytes(damaged)
        with pytest.raises(WeightsError, match=name.replace(".", "[.]")) as raised:
            from_pretrained(folder)
        assert "\n" not in str(raised.value)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.replace(".", "[.]")):
        load_any(folder)


def test_a_changed_configuration_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["frontend"]["constants"]["mean"] += 1.0
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        WeightsError, match=r"config.json differs from model.safetensors in frontend"
    ):
        from_pretrained(folder)


def test_nothing_is_written_of_a_damaged_file(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"bad.safetensors"):
        save_pretrained(tmp_path / "bad.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_hub_is_asked_only_for_what_is_no_folder_and_where_it_is_installed(folder, monkeypatch):
    asked, hub = [], ModuleType("huggingface_hub")

    def snapshot_download(repo, *, revision, allow_patterns):
        asked.append((repo, revision, tuple(allow_patterns)))
        return str(folder)

    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    from_pretrained(folder)
    assert asked == []
    assert from_pretrained("somebody/mine-too", revision="v1").name == "mine-too"
    assert load_any("hf:somebody/mine-too").name == "mine-too"
    assert asked == [("somebody/mine-too", revision, FILES) for revision in ("v1", None)]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        FileNotFoundError, match="no folder at somebody/mine; .* install huggingface_hub"
    ):
        from_pretrained("somebody/mine")


def test_what_a_file_says_is_no_markup_in_its_card(tmp_path):
    path = tmp_path / "own.safetensors"
    said = "<script>1</script> [x](http://y)\n# `big` \x1b[2J"
    encoder = byola_tiny().eval()
    options = {"maker": "byola_tiny", "about": {"data": said, said: "a & b"}}
    save_encoder(path, encoder, BYOLAFrontend(), **options)
    card = (save_pretrained(path, tmp_path / "out") / "README.md").read_text()
    text = r"\<script\>1\</script\> \[x\](http://y)\\n# \`big\` \\x1b\[2J"
    assert f"\n- **data.** {text}\n- **{text}.** a \\& b\n" in card and "\x1b" not in card
