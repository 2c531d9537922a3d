"""Published weights: every layout, no pickled code, and errors that name file and keys.

No published file is used: the files are built here in the published layouts, with made-up weights.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from collections import OrderedDict

import pytest
import torch

from audiossl_lite.encoders import ATSTEncoder, atst_base, byola_cnn
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend
from audiossl_lite.pretrained import (
    WeightsError,
    load_atst,
    load_byol_a,
    published,
)
from audiossl_lite.pretrained.weights import read_weights


def noise(b: int, seconds: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(b, int(seconds * 16_000), generator=generator)


@pytest.fixture
def small(monkeypatch):
    """The state of a network as wide as ATST-Small and of one block, which `load_atst` then makes."""
    monkeypatch.setattr(published, "atst_small", lambda: ATSTEncoder(384, 1, 6))
    return ATSTEncoder(384, 1, 6).state_dict()


def foreign_class(monkeypatch, base: type = object) -> type:
    """A class of a package that is gone when the file is read."""
    module = types.ModuleType("their_package")
    module.Options = type("Options", (base,), {"__module__": "their_package"})
    monkeypatch.setitem(sys.modules, "their_package", module)
    return module.Options


def lightning(state: dict, **more) -> dict:
    student = {f"model.student.encoder.{key}": value + 1 for key, value in state.items()}
    teacher = {f"model.teacher.encoder.{key}": value for key, value in state.items()}
    heads = {
        f"model.{name}.projector.0.weight": torch.zeros(8, 4) for name in ("student", "teacher")
    }
    return {
        "pytorch-lightning_version": "1.6.0",
        "epoch": 300,
        "state_dict": OrderedDict(student | teacher | heads),
        "optimizer_states": [{"state": {0: {"step": 1}}}],
    } | more


def dino(state: dict, **options) -> dict:
    teacher = {f"module.backbone.{key}": value for key, value in state.items()}
    teacher["module.head.mlp.0.weight"] = torch.zeros(8, 4)
    return {"teacher": teacher, "args": argparse.Namespace(**options), "epoch": 7}


def assert_is(loaded, state: dict) -> None:
    ours = loaded.encoder.state_dict()
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[key], state[key]) for key in state)
    assert not loaded.encoder.training


@pytest.mark.parametrize("base", [object, dict])
def test_the_lightning_layout_gives_the_teacher(tmp_path, monkeypatch, small, base):
    options = foreign_class(monkeypatch, base)()
    if base is dict:
        options["train_len"] = 6.0
    else:
        options.train_len = 6.0
    torch.save(lightning(small, hyper_parameters=options), tmp_path / "small.ckpt")
    monkeypatch.delitem(sys.modules, "their_package")
    assert_is(load_atst(tmp_path / "small.ckpt"), small)
    assert "their_package" not in sys.modules


def test_lightning_with_plain_or_no_settings_dino_and_a_bare_state_give_the_teacher(
    tmp_path, small
):
    for content in (
        lightning(small),
        lightning(small, hyper_parameters={"train_len": 9.0, "lr": 1e-3}),
        dino(small, arch="ast", anchor_len=[6.0, 6.0]),
        small,
    ):
        torch.save(content, tmp_path / "small.pt")
        assert_is(load_atst(str(tmp_path / "small.pt")), small)


def test_the_width_chooses_small_or_base(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "atst_base", lambda: ATSTEncoder(768, 1, 12))
    torch.save(ATSTEncoder(768, 1, 12).state_dict(), tmp_path / "base.pt")
    assert load_atst(tmp_path / "base.pt").encoder.embed_dim == 768


def test_a_file_that_claims_more_than_it_holds_is_refused_before_memory_is_taken(tmp_path):
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in atst_base().state_dict().items()}
    base = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    torch.save(base, tmp_path / "base.pt")
    with pytest.raises(WeightsError, match=r"norm1\.bias has shape \(768,\) and only 4 bytes"):
        load_atst(tmp_path / "base.pt")


@pytest.mark.parametrize("train_len", [6.0, 3.0])
def test_embed_averages_the_cls_token_over_chunks_of_the_training_length(
    tmp_path, small, train_len
):
    torch.save(lightning(small, hyper_parameters={"train_len": train_len}), tmp_path / "a.ckpt")
    loaded = load_atst(tmp_path / "a.ckpt")
    encoder = ATSTEncoder(384, 1, 6).eval()
    encoder.load_state_dict(small)
    wave = noise(2, 10)
    spec = ATSTFrontend("official")(wave)  # 1001 frames
    chunk = int(train_len * 100) + 1
    with torch.no_grad():
        parts = [spec[:, start : start + chunk] for start in range(0, 1001, chunk)]
        counted = [p for i, p in enumerate(parts) if i == 0 or p.shape[1] > chunk // 2]
        expected = torch.stack([encoder(part) for part in counted]).mean(0)
    out = loaded.embed(wave)
    assert out.shape == (2, 384) and not out.requires_grad
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def test_embed_takes_the_middle_12_seconds_of_longer_clips(tmp_path, small):
    torch.save(small, tmp_path / "bare.pt")
    loaded, wave = load_atst(tmp_path / "bare.pt"), noise(1, 13.5)
    start = (len(wave[0]) - 12 * 16_000) // 2
    middle = wave[:, start : start + 12 * 16_000]
    torch.testing.assert_close(loaded.embed(wave), loaded.embed(middle))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dim", [512, 1024])
def test_byol_a_plain_dictionary(tmp_path, dim, legacy):
    source = byola_cnn(dim).train()
    with torch.no_grad():
        source(torch.randn(2, 32, 64))
    state = dict(source.state_dict())
    assert "features.1.num_batches_tracked" in state
    torch.save(state, tmp_path / "d.pth", _use_new_zipfile_serialization=not legacy)
    loaded = load_byol_a(tmp_path / "d.pth")
    assert_is(loaded, state)
    wave = noise(2, 1.0)
    with torch.no_grad():
        expected = source.eval()(BYOLAFrontend(-5.4919195, 5.0389895)(wave))
    torch.testing.assert_close(loaded.embed(wave), expected, atol=1e-4, rtol=1e-4)


def test_byol_a_takes_the_statistics_of_the_data_at_hand(tmp_path):
    torch.save(byola_cnn(512).state_dict(), tmp_path / "d512.pth")
    loaded = load_byol_a(tmp_path / "d512.pth", mean=-3.0, std=6.0)
    assert (loaded.frontend.mean, loaded.frontend.std) == (-3.0, 6.0)
    half = load_byol_a(tmp_path / "d512.pth", mean=0.0)
    assert (half.frontend.mean, half.frontend.std) == (0.0, 5.0389895)


# --- pickled code ----------------------------------------------------------------------------


class Bomb:
    """Unpickling this calls a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


BOMBS = {
    "os.system": lambda marker: Bomb(os.system, f"touch {marker}"),
    "eval": lambda marker: Bomb(eval, f"open({str(marker)!r}, 'w')"),
    "open": lambda marker: Bomb(open, str(marker), "w"),
    "os.mkdir": lambda marker: Bomb(os.mkdir, str(marker)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_pickled_code_never_runs(tmp_path, kind):
    for place in ("hyper_parameters", "state_dict", "epoch"):
        read_a_bomb(tmp_path, kind, place)


def read_a_bomb(tmp_path, kind: str, place: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    content = lightning({"cls_token": torch.zeros(1, 1, 384)})
    bomb = BOMBS[kind](marker)
    if place == "state_dict":
        content["state_dict"]["model.teacher.encoder.cls_token"] = bomb
    else:
        content[place] = bomb
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"evil\.ckpt"):
        load_atst(path)
    if kind.startswith("os."):
        with pytest.raises(WeightsError, match=r"evil\.ckpt cannot be read"):
            read_weights(path)
    elif place != "state_dict":  # another name becomes an inert object, never the thing it names
        assert type(read_weights(path)[place]) not in (type(eval), int, str)
    assert not marker.exists(), "code in the file has run"


def test_pickled_code_in_the_old_format_never_runs(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    state = dict(byola_cnn(512).state_dict()) | {"fc.0.bias": BOMBS["os.system"](marker)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        load_byol_a(path)
    assert not marker.exists()


def test_the_allowed_names_of_torch_are_as_before(tmp_path, monkeypatch):
    before = list(torch.serialization.get_safe_globals())
    torch.save({"a": foreign_class(monkeypatch)()}, tmp_path / "a.pt")
    read_weights(tmp_path / "a.pt")
    assert torch.serialization.get_safe_globals() == before


# --- wrong files -----------------------------------------------------------------------------


def test_many_problems_are_counted(tmp_path, small):
    state = {key: value for key, value in small.items() if not key.startswith("blocks.0")}
    torch.save(state, tmp_path / "odd.pt")
    missing = len(small) - len(state)
    with pytest.raises(WeightsError, match=rf"\({missing} in all\)"):
        load_atst(tmp_path / "odd.pt")


def test_another_width_is_refused(tmp_path):
    torch.save({"cls_token": torch.zeros(1, 1, 512)}, tmp_path / "wide.pt")
    with pytest.raises(WeightsError, match=r"wide\.pt.*512 wide.*384.*768"):
        load_atst(tmp_path / "wide.pt")
    torch.save({"pytorch-lightning_version": "2", "state_dict": {}}, tmp_path / "none.ckpt")
    with pytest.raises(WeightsError, match="no teacher encoder"):
        load_atst(tmp_path / "none.ckpt")
