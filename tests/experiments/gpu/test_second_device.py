"""What a stage computes on a GPU meets no tensor of the host: shown on a second device that computes on the CPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from audiossl_lite.data.joined import read_corpus, waveforms_of
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.experiments.gpu import checks
from audiossl_lite.experiments.real_sounds import sounds
from audiossl_lite.experiments.real_sounds.recipes import encoder_path, make_recipe
from audiossl_lite.experiments.real_sounds.scores import embed_all, embed_network, load_scores
from audiossl_lite.pretrained.shipped import save_encoder
from audiossl_lite.training import Run, step_views
from audiossl_lite.training.loop import batch_indices
from tests.experiments.gpu.second_device import GPU, OnGPU, put_module, second_device
from tests.experiments.gpu.tasks import toy_task

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def modules_move(monkeypatch):
    """`module.to` as a GPU needs it; torch writes into parameters instead of replacing them."""
    plain = nn.Module.to

    def to(module, *args, **kwargs):
        wanted = args[0] if args and isinstance(args[0], (str, torch.device)) else None
        if wanted is not None and torch.device(wanted).type == "cuda":
            return put_module(module)
        return plain(module, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "to", to)


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A run whose sounds are decoded, with an untrained encoder where tuning looks for one."""
    out = tmp_path_factory.mktemp("run")
    sounds.run(toy_task("sounds", out))
    recipe = make_recipe({"method": "audiomae", "seed": 0}, corpus_of(out), out, CPU, toy=True)
    encoder = next(iter(recipe.starts(recipe.config).values()))
    save_encoder(
        encoder_path(out, "learnt_audiomae"), encoder, recipe.frontend,
        maker=recipe.maker, options=recipe.options, chunk_frames=recipe.chunk_frames,
    )  # fmt: skip
    return out


def corpus_of(out: Path):
    return read_corpus(out / "sounds")


def test_tensors_of_two_devices_are_refused(monkeypatch):
    with second_device(monkeypatch):
        here, there = torch.arange(3.0), torch.arange(3.0).to(GPU)
        assert there.device == GPU and (there + 1).device == GPU and there.cpu().device == CPU
        assert (there * 2).tolist() == [0.0, 2.0, 4.0] and int(there.max()) == 2
        assert there[torch.tensor([0, 2])].tolist() == [0.0, 2.0]  # waits, and is right
        there[1:] = 7.0
        assert there.tolist() == [0.0, 7.0, 7.0]
        for wrong in (lambda: here + there, lambda: torch.cat([here, there]), lambda: here[there.long()],
                      lambda: torch.where(there > 0, there, here)):  # fmt: skip
            with pytest.raises(RuntimeError, match="two devices"):
                wrong()


METHODS = ("atst", "byola", "cnn", "audiomae", "eat", "uamix")


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_sends_trains_and_scores_on_its_device(out, method, monkeypatch):
    """Sounds, frontend, views, the forward pass of two steps, and embeddings: those of the CPU."""
    options = {"method": method, "seed": 0, "precision": "32-true"}
    corpus, used = corpus_of(out), load_scores(out / "sounds" / "scores.pt").used[:12]

    def results(device: torch.device) -> list[torch.Tensor]:
        recipe = make_recipe(options, corpus, out, device, toy=True)
        config, source = recipe.config, recipe.source
        assert source.data.device == device and source.digest()
        parts = recipe.parts(config)
        network = parts.method.to(device).train()
        for part in network.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        settings = parts.config
        fabric = SimpleNamespace(global_rank=0)
        run = Run(fabric, network, network, parts.views.to(device), None, settings)
        losses = []
        for step in range(2):
            ids = batch_indices(len(source), settings.batch_size, step, 0)
            clips, lengths = source.batch(ids, device)
            assert clips.device == device and lengths.device == CPU
            batch = step_views(run, step, clips, lengths, ids.to(device))
            with torch.no_grad():
                losses += [value.cpu() for value in network(*batch, monitors=True).values()]
        encoder = next(iter(recipe.starts(config).values())).to(device)
        clips = waveforms_of(corpus, device, used)
        features = embed_network(encoder, recipe.frontend, clips, recipe.chunk_frames)
        assert features.device == CPU
        return [features, torch.stack([x.float() for x in losses])]

    expected = results(CPU)
    with second_device(monkeypatch):
        ours = results(GPU)
    torch.testing.assert_close(ours[0], expected[0], atol=1e-3, rtol=1e-3)
    # Gradients and batch norms aside, a step has the same loss; 16-bit spectrograms may round differently.
    torch.testing.assert_close(ours[1], expected[1], atol=2e-2, rtol=2e-2)


def test_baselines_are_computed_where_the_clips_are(out, monkeypatch):
    corpus, used = corpus_of(out), load_scores(out / "sounds" / "scores.pt").used[:12]
    for statistics in BASELINES.values():
        expected = embed_all(waveforms_of(corpus, CPU, used), statistics)
        with second_device(monkeypatch):
            ours = embed_all(waveforms_of(corpus, GPU, used), statistics)
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


CHECKS = {
    **{f"{name}: encoder": lambda n=name: checks.encoder(n, GPU, True) for name in checks.ENCODERS},
    **{f"{name}: frontend": lambda n=name: checks.frontend(n, GPU) for name in checks.FRONTENDS},
    "neighbours": lambda: checks.neighbours(GPU),
    "views": lambda: checks.views(GPU, True),
    "reference outputs": lambda: checks.reference_outputs(GPU, True),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_of_right_compares_a_device_with_the_cpu(name, monkeypatch):
    with second_device(monkeypatch):
        rows = list(CHECKS[name]())
    assert rows and all(row["passed"] for row in rows), rows


def test_a_module_can_be_put_there(monkeypatch):
    with second_device(monkeypatch):
        layer = nn.Linear(2, 3).to(GPU)
        assert isinstance(layer.weight, OnGPU)
        assert layer(torch.ones(1, 2).to(GPU)).device == GPU
