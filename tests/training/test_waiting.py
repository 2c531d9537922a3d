"""A step of training asks a GPU for nothing: shown on a pretended one, which knows shapes and no values.

The backward pass is left out (autograd wants a driver); nothing of this library runs in it.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import send
from audiossl_lite.data.resident import Joined
from audiossl_lite.encoders import ATSTEncoder, AudioMAEEncoder, BYOLAEncoder
from audiossl_lite.encoders.decoders import GlobalDecoder, WindowDecoder
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend
from audiossl_lite.methods import BYOL, MAE, Contrastive
from audiossl_lite.methods import distributed as parallel
from audiossl_lite.methods.uamix import NNCLRTuning
from audiossl_lite.training import Run, TrainConfig, make_optimizer, step_views, training_step
from audiossl_lite.training.sources import InMemory
from audiossl_lite.training.step import batches
from audiossl_lite.training.watch import step_values
from audiossl_lite.views.masks import MaskedViews
from audiossl_lite.views.mixtures import CroppedViews, TuningViews
from audiossl_lite.views.segments import ViewMaker
from tests.training.pretend_gpu import GPU, Waited, pretended_gpu, put, put_module

CONFIG = TrainConfig(steps=4, batch_size=8, learning_rate=1e-3)


def joined(mode, clips, lengths) -> Joined:
    """The same clips one after the other in the memory of the GPU."""
    starts = torch.arange(len(clips)) * clips.shape[1]
    return Joined(put(mode, clips.flatten(0, 1)), starts, lengths, size=clips.shape[1])


def take_steps(mode, method, views, clips, lengths, n_steps: int = 2, source=None) -> None:
    """Steps of `training_step` that are not logged, from the source to the teacher."""
    if source is None:
        source = InMemory(clips, lengths)
        source._on_device[GPU] = put(mode, clips)  # sent once, before the first step
    put_module(mode, method), put_module(mode, views)

    def backward(loss) -> None:
        assert loss.device == GPU and loss.dtype == torch.float32 and loss.requires_grad
        for p in method.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None

    optimizer = make_optimizer(method, learning_rate=1e-3)
    fabric = SimpleNamespace(global_rank=0, backward=backward)
    run = Run(fabric, method, method, views, optimizer, CONFIG)

    def chosen(step: int):
        return torch.arange(8) + step

    for step, batch in enumerate(batches(source, GPU, range(n_steps), chosen, 0)):
        training_step(run, step, step_views(run, step, *batch))


def clips(n_frames: int, n_mels: int) -> tuple:
    generator = torch.Generator().manual_seed(7)
    data = torch.randn(12, n_frames, n_mels, generator=generator)
    return data, torch.randint(n_frames // 2, n_frames + 1, (12,), generator=generator)


def mae_encoder() -> AudioMAEEncoder:
    return AudioMAEEncoder(16, 2, 2, n_frames=64, n_mels=64)


def tuning(mixing: str, trainable: str, *, views: dict | None = None, **options) -> tuple:
    method = NNCLRTuning(
        mae_encoder(), trainable=trainable, hidden_dim=8, predictor_dim=8, projection_dim=4,
        queue_size=32, **options,
    )  # fmt: skip
    return method, TuningViews(mixing, **(views or {})), clips(64, 64)


def byol(encoder: nn.Module, **options) -> tuple:
    views = ViewMaker(32, crop_from="spectrogram", memory_size=10)
    return BYOL(encoder, hidden_dim=8, projection_dim=4, **options), views, clips(48, 64)


def from_waveforms(frontend: nn.Module, **options) -> tuple:
    method, _, _ = byol(ATSTEncoder(16, 1, 2))
    generator = torch.Generator().manual_seed(7)
    waves = 0.1 * torch.randn(12, 4000, generator=generator)
    lengths = torch.randint(2000, 4001, (12,), generator=generator)
    return method, ViewMaker(3200, frontend=frontend, **options), (waves, lengths)


def contrastive() -> tuple:
    _, views, data = byol(ATSTEncoder(16, 1, 2))
    return Contrastive(ATSTEncoder(16, 1, 2), hidden_dim=8, projection_dim=4), views, data


def masked(decoder: nn.Module, **options) -> tuple:
    return MAE(mae_encoder(), decoder), MaskedViews(64, **options), clips(80, 64)


SIZES = {"n_frames": 64, "n_mels": 64}
STEPS = {
    "BYOL-A": lambda: byol(BYOLAEncoder(16, channels=4)),
    "ATST": lambda: byol(ATSTEncoder(16, 1, 2), joint_views=True),
    "ATST, one view at a time": lambda: byol(ATSTEncoder(16, 1, 2)),
    "ATST from waveforms": lambda: from_waveforms(ATSTFrontend()),
    "BYOL-A's views from waveforms": lambda: from_waveforms(
        BYOLAFrontend(), segments="one", shared_memory=True, normalise_views=True
    ),
    "contrastive": contrastive,
    "AudioMAE": lambda: masked(GlobalDecoder(16, 8, 1, 2, **SIZES), gain_db=6.0),
    "AudioMAE, windows": lambda: masked(WindowDecoder(16, 8, 2, 2, **SIZES), structured=True),
    "uaMix-MAE, step 1": lambda: tuning("none", "head", views={"augmentation": "spec_augment"}),
    "uaMix-MAE, InfoNCE": lambda: tuning("none", "upper", k=0),
    "uaMix-MAE, mixup": lambda: tuning("mixup", "upper", ema_projector=True),
    "uaMix-MAE, TF-CutMix": lambda: tuning("tf_cutmix", "upper", symmetric=True, k=3),
    "uaMix-MAE, T-CutMix": lambda: tuning("t_cutmix", "upper"),
    "uaMix-MAE, linear": lambda: tuning(
        "t_cutmix", "upper", views={"rule": "linear", "per_sample": True}
    ),
}


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_every_method_waits_for_nothing(name, padded, monkeypatch):
    method, views, (data, lengths) = STEPS[name]()
    n_steps = 2 if padded else 1  # the second draws from what the first remembered, whole or padded
    with pretended_gpu(monkeypatch) as mode:
        take_steps(mode, method, views, data, lengths if padded else None, n_steps)
        assert mode.sent >= 2 * n_steps  # clip numbers and draws


@pytest.mark.parametrize("name", ["ATST", "AudioMAE", "uaMix-MAE, T-CutMix"])
def test_a_step_on_clips_that_lie_on_the_gpu_waits_for_nothing(name, monkeypatch):
    method, views, (data, lengths) = STEPS[name]()
    if name.startswith("uaMix"):
        views = CroppedViews(48, 0.0, views)
    with pretended_gpu(monkeypatch) as mode:
        take_steps(mode, method, views, data, lengths, source=joined(mode, data, lengths))
        assert mode.sent >= 4


PLANTED = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "if any": lambda x: 1 if (x > 0).any() else 0,
    "boolean index": lambda x: x[x > 0],
    "boolean assignment": lambda x: x.clone().index_put_((x > 0,), torch.zeros(())),
    "nonzero": lambda x: (x > 0).nonzero(),
    "cpu": lambda x: x.cpu(),
    "tolist": lambda x: x.tolist(),
    "equal": lambda x: torch.equal(x, x),
    "blocking copy": lambda x: torch.rand(3).to(x.device),
    "not pinned": lambda x: torch.rand(3).to(x.device, non_blocking=True),
    "index on the host": lambda x: x[torch.tensor([0, 1])],
    "copied into": lambda x: torch.empty(3, device=x.device).copy_(torch.rand(3)),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_waits_is_noticed(planted, monkeypatch):
    """One line that waits, put into the forward pass of a method."""
    method, views, (data, lengths) = byol(ATSTEncoder(16, 1, 2))
    method.predictor.register_forward_hook(
        lambda module, args, out: [PLANTED[planted](out), out][1]
    )
    with pretended_gpu(monkeypatch) as mode, pytest.raises(Waited):
        take_steps(mode, method, views, data, lengths, n_steps=1)


def test_sending_from_pinned_memory_is_not_noticed(monkeypatch):
    with pretended_gpu(monkeypatch) as mode:
        assert send(torch.rand(3), GPU).device == GPU
        assert mode.sent == 1
        with pytest.raises(RuntimeError, match="single memory location"):
            torch.rand(1).expand(3).pin_memory()  # as torch does
        assert send(torch.rand(1).expand(3), GPU).shape == (3,)


def test_joint_batch_norm_waits_for_nothing(monkeypatch):
    """torch's SyncBatchNorm does: it drops processes without clips by a boolean index."""
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    monkeypatch.setattr(parallel.dist_functional, "all_reduce", lambda x: x)
    norm = parallel.JointBatchNorm(nn.BatchNorm1d(4)).train()
    with pretended_gpu(monkeypatch) as mode:
        put_module(mode, norm)
        assert norm(send(torch.rand(6, 4), GPU)).shape == (6, 4)


def test_what_a_logged_step_shows_comes_in_one_transfer(monkeypatch):
    """The only wait of the loop, and only on logged steps."""
    method, views, _ = byol(ATSTEncoder(16, 1, 2))
    run = Run(SimpleNamespace(world_size=1), method, method, views, None, CONFIG)
    out = {
        name: torch.tensor(value) for name, value in (("loss", 1.5), ("std", 0.25), ("rank", 3.0))
    }
    asked = []
    monkeypatch.setattr(Tensor, "item", lambda x: asked.append("item"))
    monkeypatch.setattr(Tensor, "__float__", lambda x: asked.append("float"))
    assert step_values(out, run) == {"loss": 1.5, "std": 0.25, "rank": 3.0, "spread": 0.25 * 2.0}
    assert not asked
