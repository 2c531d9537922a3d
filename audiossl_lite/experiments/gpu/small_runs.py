"""Every method with views and clips of a stated size, and a few steps of it: in this process, or in others.

Two processes on one card, and a process that is killed: `start`.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import register_optimizer_step_pre_hook

from audiossl_lite.common.devices import rank
from audiossl_lite.experiments.jobs import make_parts, synthetic_source
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.training import Compute, TrainConfig, save_checkpoint, train
from audiossl_lite.training.loop import step_generator

PROCESSES, STEPS, BATCH, SEED, N_CLIPS = 2, 3, 8, 5, 24

# Method: its job, and what it changes in the settings at every size.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "BYOL-A": ("byola", {"normalise_views": True}),
    "ATST": ("atst_small", {"reduction": "mean", "joint_views": True}),
    "contrastive": ("atst_small", {"method": "contrastive"}),
    "AudioMAE": ("audiomae", {}),
    "uaMix-MAE, step 1": ("uamix_head", {}),
    "uaMix-MAE, step 2": ("uamix", {"symmetric": True}),
    "uaMix-MAE, one direction": ("uamix", {}),
}
# By experiment: the scale of its settings, and what is smaller. Laptop size; and the papers' networks on few, short
# clips, which a card's CPU must compute as well.
SIZES: dict[bool, dict[str, tuple[str, dict[str, Any]]]] = {
    True: {
        "byola": ("lite", {"clip_s": 1.0, "segment_s": 0.64, "hidden_dim": 64, "memory_size": 16}),
        "atst": ("lite", {"clip_s": 1.0, "segment_s": 0.64, "hidden_dim": 64, "memory_size": 16}),
        "audiomae": ("lite", {"n_frames": 96, "decoder_depth": 1}),
        "uamix": ("lite", {"n_frames": 96, "queue_size": 64, "ema_projector": True}),
    },
    False: {
        "byola": ("paper", {"clip_s": 2.0, "memory_size": 64}),
        "atst": ("paper", {"clip_s": 4.0, "segment_s": 2.0, "memory_size": 64}),
        "audiomae": ("paper", {"n_frames": 256, "decoder_depth": 2}),
        "uamix": ("paper", {"n_frames": 256}),
    },
}


def whole_float32() -> None:
    """Products and convolutions of float32 numbers keep all their bits: no TF32."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def repeatable() -> Iterator[None]:
    """Algorithms that give the same bits each time, attention as its formula; where torch has none it warns.

    On a GPU the environment holds `CUBLAS_WORKSPACE_CONFIG=:4096:8` before its first product.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(before)


@dataclass
class SmallRun:
    """A method, its views, the clips `(n, S)` or `(n, T, F)` that they take, and valid `lengths (n,)`."""

    method: nn.Module
    views: nn.Module
    data: Tensor
    lengths: Tensor
    config: TrainConfig


def small_run(name: str, toy: bool = True) -> SmallRun:
    """One of `METHODS`, at laptop size or (`toy=False`) with the paper's network on few clips; all from fixed seeds.

    Nothing drops out: what is dropped comes from the random state of a device, and no other device repeats it.
    """
    job_name, changes = METHODS[name]
    job = find_job(job_name)
    scale, smaller = SIZES[toy][job.experiment]
    settings = preset(job.experiment, scale, {**smaller, **changes})
    source, frontend = synthetic_source(job, settings, N_CLIPS)
    parts = make_parts(job, settings, frontend)
    for part in parts.method.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    generator = torch.Generator().manual_seed(7)
    data = source.data
    lengths = torch.randint(data.shape[1] // 2, data.shape[1] + 1, (N_CLIPS,), generator=generator)
    if data.dim() == 3:  # clips as unlike as sounds: noise alone embeds as if all were one
        data = data + torch.randn(N_CLIPS, 1, data.shape[2], generator=generator)
    else:
        pitch = 200.0 + 3000.0 * torch.rand(N_CLIPS, 1, generator=generator)
        data = data + 0.3 * torch.sin(2 * torch.pi * pitch * torch.arange(data.shape[1]) / 16_000)
    config = replace(
        parts.config, steps=STEPS, batch_size=BATCH, warmup_steps=0, learning_rate=1e-3,
        log_every=1, save_every=2, probe_every=0, seed=SEED, precision="32-true",
        # Adam's first steps have the size of the rate even where the gradient is rounding alone; this eps is above it.
        eps=1e-3,
    )  # fmt: skip
    if hasattr(config, "on_collapse"):
        config = replace(config, on_collapse="continue")
    return SmallRun(parts.method, parts.views, data, lengths, config)


class JointViews(nn.Module):
    """The views of all processes, one after the other, each with its own random numbers and mixup memory.

    What normalises views sees those of all processes. A square of numbers is taken for virtual labels: each process
    has its own block of the joint ones.
    """

    def __init__(self, views: nn.Module) -> None:
        super().__init__()
        self.each = nn.ModuleList(copy.deepcopy(views) for _ in range(PROCESSES))
        self.normalise = getattr(views, "normalise_views", None)
        for own in self.each if self.normalise else ():
            own.normalise_views = None
        self.step = 0

    def forward(self, clips: Tensor, generator, lengths: Tensor, ids: Tensor):
        parts = []
        for number, views in enumerate(self.each):
            rows = slice(number * len(clips) // PROCESSES, (number + 1) * len(clips) // PROCESSES)
            own = step_generator(SEED, self.step, number)
            parts.append(views(clips[rows], own, lengths[rows], ids=ids[rows]))
        self.step += 1
        joint = []
        for tensors in zip(*parts, strict=True):
            first = tensors[0]
            labels = first.is_floating_point() and first.shape == (len(first),) * 2
            joint.append(torch.block_diag(*tensors) if labels else torch.cat(tensors))
        return self.normalise(*joint) if self.normalise else tuple(joint)


def train_some(
    name: str,
    *,
    joint: bool = False,
    device: str = "cpu",
    compute: Compute | None = None,
    die_at: int = 0,
    output_dir: str | Path | None = None,
    stop_after: int | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Losses of all steps, gradients of the first, weights and buffers at the start and at the end, on the CPU.

    `joint`: the batch of two processes in one. `die_at`: the process is killed in this step. `changes`: of the
    settings of the run; for the rest see `train`.
    """
    run = small_run(name)
    before = {key: value.clone() for key, value in run.method.state_dict().items()}
    gradients: list[Tensor] = []
    calls = 0

    def note(optimizer, *_) -> None:
        nonlocal calls
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if not gradients:
            groups = optimizer.param_groups
            gradients.extend(
                p.grad.detach().cpu().clone()
                for g in groups
                for p in g["params"]
                if p.grad is not None
            )

    hook = register_optimizer_step_pre_hook(note)
    try:
        result = train(
            run.method, JointViews(run.views) if joint else run.views, run.data,
            replace(run.config, **changes), lengths=run.lengths, device=device, compute=compute,
            output_dir=output_dir, description=name, stop_after=stop_after,
        )  # fmt: skip
    finally:
        hook.remove()
    return {
        "losses": [row["loss"] for row in result.history],
        "gradients": gradients,
        "before": before,
        "state": {key: value.cpu().clone() for key, value in run.method.state_dict().items()},
    }


def start(
    folder: Path, device: str, names: list[str], *, processes: int = 1, **options: Any
) -> list[BaseProcess]:
    """`train_some` for these methods in processes of their own; each leaves `NUMBER-RANK.pt` and its log in `folder`.

    With two processes each has half of the batch. On one card they share it and talk by gloo.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A copy of this process has everything imported; one that has used a GPU or has several threads, those of an
    # earlier backward pass among them, cannot be copied.
    threads = Path("/proc/self/task")
    copied = device == "cpu" and threads.is_dir() and len(os.listdir(threads)) == 1
    context = multiprocessing.get_context("fork" if copied else "spawn")
    started = []
    for number in range(processes):
        env = {"AUDIOSSL_PROGRESS": "off"}
        if processes > 1:
            env |= {
                "TORCHELASTIC_RUN_ID": "right", "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes), "RANK": str(number), "LOCAL_RANK": str(number),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
            if sys.platform == "linux":  # a host's name need not resolve
                env["GLOO_SOCKET_IFNAME"] = "lo"
        log = folder / f"log-{number}.txt"
        log.touch()
        arguments = (folder, device, names, torch.get_num_threads(), env, log, options)
        started.append(context.Process(target=_train, args=arguments))
        started[-1].start()
    return started


def _train(
    folder: Path, device: str, names: list[str], threads: int, env: dict[str, str], log: Path,
    options: dict[str, Any],
) -> None:  # fmt: skip
    os.environ.update(env)
    file = os.open(log, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(threads)
    whole_float32()
    for number, name in enumerate(names):
        with repeatable():
            out = train_some(name, device=device, output_dir=folder / f"run{number}", **options)
        save_checkpoint(folder / f"{number}-{rank()}.pt", out)
