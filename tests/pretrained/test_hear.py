"""The HEAR protocol by its written rules, for every kind of encoder; and a model under it in our tables."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from audiossl_lite import load_any
from audiossl_lite.pretrained import WeightsError
from audiossl_lite.pretrained.adapters import hear


@pytest.mark.parametrize("name", ["", "log-mel", "mfcc", "tests.pretrained.toys:make_toy"])
def test_shapes_sizes_and_times_are_those_of_the_protocol(name):
    model = hear.load_model(name)
    assert isinstance(model, torch.nn.Module) and not model.training
    assert model.sample_rate in (16_000, 22_050, 32_000, 44_100, 48_000)
    audio = 0.1 * torch.randn(2, 6_500, generator=torch.Generator().manual_seed(0))
    scene = hear.get_scene_embeddings(audio, model)
    assert scene.dtype == torch.float32
    assert scene.shape == (2, model.scene_embedding_size)
    vectors, times = hear.get_timestamp_embeddings(audio, model)
    assert vectors.shape == (2, times.shape[1], model.timestamp_embedding_size)
    assert vectors.dtype == torch.float32 and torch.isfinite(vectors).all()
    steps = times.diff(dim=1)
    assert (times[:, 0] == 0).all() and steps.unique().tolist() == [50.0]
    assert (times[:, -1] <= 1000 * 6_500 / 16_000).all() and times.shape[1] == 9


def test_a_timestamp_sees_the_second_around_it():
    model = hear.load_model("log-mel")
    audio = 0.1 * torch.randn(1, 48_000, generator=torch.Generator().manual_seed(0))
    vectors, times = hear.get_timestamp_embeddings(audio, model)
    at = times[0].tolist().index(1_500.0)
    around = hear.get_scene_embeddings(audio[:, 16_000:32_000], model)
    torch.testing.assert_close(vectors[:, at], around)


@pytest.fixture
def theirs(monkeypatch):
    """A module under the protocol, at another rate: loudness in three bands of time."""
    module = ModuleType("their_hear")
    module.load_model = lambda path="": SimpleNamespace(sample_rate=32_000, path=path)
    module.get_scene_embeddings = lambda audio, model: (
        torch.stack([part.abs().mean(1) for part in audio.tensor_split(3, dim=1)], dim=1)
        * (audio.shape[1] / model.sample_rate)
    )
    monkeypatch.setitem(sys.modules, "their_hear", module)
    return module


def test_a_hear_model_is_loaded_at_its_rate_without_padding(theirs):
    model = load_any("hear:their_hear")
    wave = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([16_000, 8_000, 16_000])
    together = model.embed(wave, lengths)
    assert together.shape == (3, 3) and model.name == "their_hear"
    torch.testing.assert_close(together[1:2], model.embed(wave[1:2, :8_000]))
    torch.testing.assert_close(together[::2], model.embed(wave[::2]))
    theirs.load_model = lambda path: pytest.fail("not with this path") if path != "w.pt" else 1
    with pytest.raises(AttributeError, match="sample_rate"):
        load_any("hear:their_hear:w.pt").embed(wave)


def test_our_own_adapter_comes_back_unchanged():
    wave = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    back = load_any("hear:audiossl_lite.pretrained.adapters.hear:log-mel")
    torch.testing.assert_close(back.embed(wave), load_any("log-mel").embed(wave))


def test_what_is_no_hear_module_is_refused():
    with pytest.raises(WeightsError, match="cannot be imported"):
        load_any("hear:nothing_of_this_name")
    with pytest.raises(WeightsError, match="no load_model: it is no HEAR module"):
        load_any("hear:tests.pretrained.toys")
