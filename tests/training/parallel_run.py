"""Every method for a few steps, in one process or in several; `torchrun ... -m tests.training.parallel_run FOLDER`.

A single process can stand for several: `JointViews` draws each part of the batch as the process of that number would.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from audiossl_lite.experiments import make_method
from audiossl_lite.experiments_mae import make_mae
from audiossl_lite.experiments_uamix import make_tuning
from audiossl_lite.methods.mae import MaskedViews
from audiossl_lite.parallel import rank
from audiossl_lite.presets import preset
from audiossl_lite.training import TrainConfig, save_checkpoint, train
from audiossl_lite.training.loop import step_generator
from audiossl_lite.tuning_views import TuningViews
from audiossl_lite.views import ViewMaker

PROCESSES, STEPS, BATCH, SEED = 2, 3, 8, 5
N_CLIPS = 24


class JointViews(nn.Module):
    """The views of all processes, one after the other, each with its own random numbers and mixup memory."""

    def __init__(self, views: nn.Module) -> None:
        super().__init__()
        self.each = nn.ModuleList(copy.deepcopy(views) for _ in range(PROCESSES))
        self.labelled = isinstance(views, TuningViews)  # labels (B, B) over each process's clips
        self.step = 0

    def forward(self, clips: Tensor, generator, lengths: Tensor, ids: Tensor):
        parts = []
        for number, views in enumerate(self.each):
            rows = slice(number * len(clips) // 2, (number + 1) * len(clips) // 2)
            own = step_generator(SEED, self.step, number)
            parts.append(views(clips[rows], own, lengths[rows], ids=ids[rows]))
        self.step += 1
        joint = []
        for tensors in zip(*parts, strict=True):
            square = self.labelled and tensors[0].shape == (len(tensors[0]),) * 2
            joint.append(torch.block_diag(*tensors) if square else torch.cat(tensors))
        return tuple(joint)


def clips(n_frames: int, n_mels: int) -> tuple[Tensor, Tensor]:
    """Spectrograms `(n, T, F)` of unequal lengths."""
    generator = torch.Generator().manual_seed(7)
    lengths = torch.randint(n_frames // 2, n_frames + 1, (N_CLIPS,), generator=generator)
    return torch.randn(N_CLIPS, n_frames, n_mels, generator=generator), lengths


def without_dropout(module: nn.Module) -> nn.Module:
    """Dropout draws from the random state of its process: no joint batch repeats it."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return module


def byol(name: str) -> tuple:
    """BYOL-A or ATST, or its contrastive twin, at lite size."""
    experiment, changes = {
        "byola": ("byola", {}),
        "atst": ("atst", {"reduction": "mean", "joint_views": True}),
        "contrastive": ("atst", {"method": "contrastive"}),
    }[name]
    config = preset(experiment, "lite", {"drop_path": 0.0, "hidden_dim": 64} | changes)
    views = ViewMaker(64, crop_from="spectrogram", memory_size=16)
    return without_dropout(make_method(config, 0)), views, clips(100, 64)


def mae() -> tuple:
    """AudioMAE at lite size; padding is not counted, so the processes judge unequal numbers of patches."""
    config = preset("audiomae", "lite", {"n_frames": 96, "decoder_depth": 1})
    return make_mae(config, 0), MaskedViews(96), clips(96, 64)


def uamix(step: int) -> tuple:
    """Step 1 or 2 of uaMix-MAE; step 2 with T-CutMix, both directions and the projector's moving average."""
    config = preset(
        "uamix", "lite", {"queue_size": 64, "symmetric": step == 2, "ema_projector": step == 2}
    )
    encoder = make_mae(preset("audiomae", "lite", {"n_frames": 96, "decoder_depth": 1}), 0).encoder
    views = TuningViews("none" if step == 1 else "t_cutmix")
    return make_tuning(encoder, config, step=step), views, clips(96, 64)


METHODS: dict[str, Callable[[], tuple]] = {
    "BYOL-A": lambda: byol("byola"),
    "ATST": lambda: byol("atst"),
    "contrastive": lambda: byol("contrastive"),
    "AudioMAE": mae,
    "uaMix-MAE, step 1": lambda: uamix(1),
    "uaMix-MAE, step 2": lambda: uamix(2),
}


def train_some(name: str, *, joint: bool = False, precision: str = "32-true", **options) -> dict:
    """Losses of all steps, gradients of the first, weights and buffers of the end."""
    method, views, (data, lengths) = METHODS[name]()
    gradients: list[Tensor] = []

    def note(optimizer, *_) -> None:
        if not gradients:
            groups = optimizer.param_groups
            gradients.extend(
                p.grad.clone() for g in groups for p in g["params"] if p.grad is not None
            )

    hook = register_optimizer_step_pre_hook(note)
    config = TrainConfig(
        steps=STEPS, batch_size=BATCH, learning_rate=1e-3, momentum=0.9, weight_decay=0.01,
        log_every=1, seed=SEED, on_collapse="continue", precision=precision,
    )  # fmt: skip
    views = JointViews(views) if joint else views
    try:
        result = train(method, views, data, config, lengths=lengths, device="cpu", **options)
    finally:
        hook.remove()
    return {
        "losses": [row["loss"] for row in result.history],
        "gradients": gradients,
        "state": {key: value.clone() for key, value in method.state_dict().items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for number, name in enumerate(METHODS):
        out = train_some(name, output_dir=folder / f"run{number}")
        save_checkpoint(folder / f"{number}-{rank()}.pt", out)
