"""What depends on the device: float32 islands under autocast, the precision of a run, and kernels of their own."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from torch import nn

from audiossl_lite.common import devices
from audiossl_lite.common.devices import in_float32, precision_for, send, usable_device
from audiossl_lite.common.parameters import ParameterError, make_parameters
from audiossl_lite.encoders import AudioMAEEncoder, BYOLAEncoder, audiomae, byola
from audiossl_lite.experiments import cost, pretrain
from audiossl_lite.experiments.jobs import run_job
from audiossl_lite.losses import (
    byol_loss,
    cosines,
    info_nce,
    masked_reconstruction_loss,
    mixture_loss,
    nnclr_loss,
)
from audiossl_lite.methods.support_queue import SupportQueue
from audiossl_lite.training.compute import make_fabric, precision_of
from audiossl_lite.views import augmentations
from audiossl_lite.views.augmentations import resized_crop
from tests.training.tiny_run import make_config, run


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


LOSSES = {
    "byol": byol_loss,
    "info_nce": info_nce,
    "nnclr": nnclr_loss,
    "mixture": lambda a, b: mixture_loss(a, b, torch.eye(len(a))),
    "cosines": lambda a, b: cosines(a, b).mean(),
    "reconstruction": lambda a, b: masked_reconstruction_loss(
        a.view(8, 4, 8), b.view(8, 4, 8), torch.ones(8, 4)
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_float32_under_autocast_and_equal_those_of_the_rounded_inputs(name):
    a, b = normal(8, 32).bfloat16(), normal(8, 32, seed=1).bfloat16()
    with bf16():
        loss = LOSSES[name](a, b)
    assert loss.dtype == torch.float32
    assert loss == LOSSES[name](a.float(), b.float())


def test_the_nearest_entry_under_autocast_is_that_of_float32():
    """In bf16 many lookups come out with another entry, because several are equally near."""
    queue = SupportQueue(512, 32)
    queue.push(1.0 + 0.3 * normal(512, 32), torch.arange(512))  # alike, as features are
    queries, nobody = (1.0 + 0.3 * normal(100, 32, seed=1)).bfloat16(), torch.full((100,), -2)
    exact = queue.neighbours(queries.float(), nobody)
    with bf16():
        assert torch.equal(queue.neighbours(queries, nobody), exact)
        rounded = (nn.functional.normalize(queries, dim=1) @ queue.vectors.T).argmax(1)
    assert not torch.equal(queue.vectors[rounded], exact), "the plain product has ties"


def test_float32_and_float64_pass_as_they_are():
    seen = []
    in_float32(lambda x, y: seen.append((x.dtype, y.dtype)))(
        torch.ones(1, dtype=torch.float64), y=torch.ones(1, dtype=torch.float16)
    )
    assert seen == [(torch.float64, torch.float32)]


def test_sending_within_the_host_is_no_copy():
    x = torch.ones(3)
    assert send(x, "cpu") is x


def test_a_run_uses_the_gpu_that_the_process_has_chosen(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "lightning.fabric.Fabric", lambda **options: asked.append(options["devices"])
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda", "cuda:0", "cpu"):
        make_fabric(device, "32-true")
    assert asked == [[1], [0], 1]


# Which devices there are


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many cards, and a Mac's chip or not."""

    def has(cards: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


def test_a_device_that_is_here_is_taken_as_it_was_asked_for(machine):
    machine(2, True)
    for device in ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "mps", "gpu"):
        assert usable_device(device) == device
    machine(0, False)
    assert usable_device("auto") == "auto" and usable_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "gpu"])
def test_a_device_that_is_not_here_is_refused_before_data_are_read(
    machine, device, tmp_path, capsys
):
    machine(0, False)
    message = f"this machine has no device '{device}'; it has cpu "
    with pytest.raises(ValueError, match=message):
        usable_device(device)
    with pytest.raises(ValueError, match=message):
        run_job("atst_small", "lite", str(tmp_path / "nobody looks"), None, device=device)
    with pytest.raises(ValueError, match=message):
        make_fabric(device, "32-true")
    if device == "gpu":
        return  # no word of parameters
    with pytest.raises(ParameterError, match=message):
        make_parameters({"device": device})
    (tmp_path / "job.yaml").write_text(f"device: {device}\noverrides: {{job: atst_small}}\n")
    for main in (pretrain.main, cost.main):
        assert main([str(tmp_path / "job.yaml")]) == 2
        assert message in capsys.readouterr().err


def test_the_card_that_is_missing_is_told_from_those_that_are_here(machine):
    machine(2, False)
    with pytest.raises(ValueError, match="no device 'cuda:2'; it has cpu, cuda:0 to cuda:1 "):
        usable_device("cuda:2")
    for wrong in ("cuda:", "cuda:x", "cpu:0", "mps:1", "tpu", "", 3):
        with pytest.raises(ValueError, match="device must be auto, cpu, cuda, cuda:N or mps"):
            usable_device(wrong)


def test_several_processes_take_no_single_card(machine, monkeypatch):
    machine(2, False)
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="2 processes share the GPUs: device must be cuda"):
        make_fabric("cuda:1", "32-true")


# Which precision


@pytest.mark.parametrize(("units", "taken"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_follows_the_units_of_the_device(units, taken, monkeypatch):
    monkeypatch.setattr(devices, "has_bf16_units", lambda kind: units)
    assert precision_for("auto", "cpu") == taken
    assert precision_of(make_fabric("cpu", "auto")) == taken
    for asked in ("32-true", "bf16-mixed"):
        assert precision_for(asked, "cpu") == asked


def test_history_and_summary_say_which_precision_was_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "has_bf16_units", lambda kind: False)
    result = run(tmp_path, config=make_config(precision="auto"), stop_after=3)
    assert result.precision == "32-true" and "(32-true)" in result.summary()
    assert {row["precision"] for row in result.history} == {"32-true"}
    monkeypatch.setattr(devices, "has_bf16_units", lambda kind: True)
    with pytest.warns(UserWarning, match="in 32-true so far and goes on in bf16-mixed"):
        rest = run(tmp_path, config=make_config(precision="auto"), stop_after=6)
    assert rest.started_at == 3
    assert [row["precision"] for row in rest.history if row["step"] > 3] == ["bf16-mixed"]


def test_bf16_without_units_runs_and_is_warned_of(monkeypatch):
    monkeypatch.setattr("audiossl_lite.training.watch.has_bf16_units", lambda kind: False)
    with pytest.warns(UserWarning, match="ten times as long"):
        result = run(config=make_config(precision="bf16-mixed"), stop_after=1)
    assert result.precision == "bf16-mixed"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(config=make_config(), stop_after=1)


# The branches that only a device takes, taken on the CPU


@pytest.fixture
def as_on_a_device(monkeypatch):
    """Modules take the branch of a device, on tensors of the CPU."""
    for module in (augmentations, audiomae):
        monkeypatch.setattr(module, "on_host", lambda x: False)


@pytest.mark.parametrize("padded", [False, True])
def test_a_resized_crop_is_the_same_on_a_device(padded, request):
    spec, generator = normal(6, 40, 16), torch.Generator().manual_seed(0)
    lengths = torch.tensor([40, 12, 33, 40, 7, 20]) if padded else None
    sizes = torch.full((6,), 40) if lengths is None else lengths
    window = augmentations.RandomResizedCrop().draw(6, sizes, 16, generator)
    assert (window["left"] < 0).any(), "some windows reach beyond the clip"
    here = resized_crop(spec, **window, lengths=lengths)
    request.getfixturevalue("as_on_a_device")
    torch.testing.assert_close(
        resized_crop(spec, **window, lengths=lengths), here, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("lengths", [[64, 64, 64], [30, 17, 32], [64, 3, 40]])
def test_audiomae_with_lengths_is_the_same_on_a_device(lengths, request):
    """On the host, patches that no clip reaches are left out; on a device all are computed and masked."""
    torch.manual_seed(0)
    encoder = AudioMAEEncoder(16, 2, 2, n_frames=64, n_mels=32).eval()
    spec, lengths = normal(3, 64, 32), torch.tensor(lengths)
    here = encoder(spec, lengths)
    request.getfixturevalue("as_on_a_device")
    torch.testing.assert_close(encoder(spec, lengths), here, rtol=1e-4, atol=1e-5)


def test_convolutions_in_training_are_the_same_on_a_device():
    """There the channels of a cell lie side by side, in training too."""
    torch.manual_seed(0)
    encoder = BYOLAEncoder(16, channels=4, dropout=0.0).train()
    gradients = []
    for device in (False, True):
        if device:
            for layer in encoder.features:
                if isinstance(layer, torch.nn.Conv2d):
                    layer.forward = partial(byola._channels_last, layer)
        encoder.zero_grad()
        encoder(normal(4, 32, 64)).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters()])
    largest = max(float(g.abs().max()) for g in gradients[0])  # biases before batch norm have none
    for here, there in zip(*gradients, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-5 * largest)
