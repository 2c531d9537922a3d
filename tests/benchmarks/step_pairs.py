"""A training step and the embedding of many clips, beside the plain way to write them.

The plain step is what one writes from the paper: softmax attention with its weights in memory, an AdamW without fused
kernels, and a loop over the teacher's weights. Same network, same views, same order of operations: the same losses.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from audiossl_lite.encoders.transformer import Attention
from audiossl_lite.evaluation import embed_clips
from audiossl_lite.experiments.build import make_encoder
from audiossl_lite.experiments.calibration import Stepper
from audiossl_lite.experiments.jobs import make_parts, synthetic_source
from audiossl_lite.experiments.settings.jobs import find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.frontends import ATSTFrontend
from audiossl_lite.training.optim import parameter_groups, set_schedule
from tests.benchmarks.pairs import Pair


@dataclass(frozen=True)
class StepPair(Pair):
    """Both sides take one training step and return its loss; three steps in a row must agree."""

    repeats: int = 3

    def difference(self) -> float:
        """The largest difference of the losses of three steps; from the second on weights and teacher matter."""
        return max(float((self.fast() - self.obvious()).abs()) for _ in range(3))


def softmax_attention(self: Attention, x: Tensor, visible: Tensor | None = None) -> Tensor:
    """`Attention.forward` written out: the `(N, N)` weights of every head are computed and kept."""
    if visible is not None:
        raise ValueError("the plain step trains on whole clips")
    b, n, d = x.shape
    qkv = self.qkv(x).view(b, n, 3, self.heads, d // self.heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)).softmax(-1)
    return self.proj((weights @ v).transpose(1, 2).reshape(b, n, d))


class PlainStep:
    """The step of BYOL written plainly, for a method of its own; `step()` returns the loss."""

    def __init__(self, method: nn.Module, config, view: Callable[[int], tuple]) -> None:
        self.method, self.config, self.view, self.done = method, config, view, 0
        for part in method.modules():
            if isinstance(part, Attention):
                part.forward = softmax_attention.__get__(part)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(method), lr=config.learning_rate, weight_decay=config.weight_decay,
            betas=config.betas, eps=config.eps, foreach=False, fused=False,
        )  # fmt: skip

    def step(self) -> Tensor:
        batch, method = self.view(self.done), self.method
        set_schedule(self.optimizer, self.done, self.config)
        self.done += 1
        method.train()
        loss = method(*batch, monitors=False)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            momentum = self.config.momentum
            pairs = zip(method.teacher.parameters(), method.student.parameters(), strict=True)
            for theirs, ours in pairs:
                theirs.copy_(momentum * theirs + (1.0 - momentum) * ours)
        return loss.detach()


def step_pair(scale: str = "paper", n_clips: int = 4, *, fast: dict | None = None) -> StepPair:
    """A step of ATST-Small by the library beside the plain one, views included on both sides.

    `fast`: settings of the library's side, such as its precision; the plain side stays in float32.
    """
    job = find_job("atst_small")
    config = preset(job.experiment, scale)
    source, frontend = synthetic_source(job, config, n_clips)
    parts = make_parts(job, config, frontend)
    plain = copy.deepcopy(parts.method)
    # A warm-up starts at a rate of zero: three steps of it would not move the weights. Random clips look alike to a new
    # network, and batch norm magnifies their differences, rounding included: short steps keep both sides together. So
    # does `eps`: Adam divides a gradient by its own size, also where it is rounding alone.
    shared = {"batch_size": n_clips, "warmup_steps": 0, "eps": 1e-3, "learning_rate": 2e-6}
    shared["final_momentum"] = parts.config.momentum
    parts.config = replace(parts.config, **shared, **(fast or {}))
    ours = Stepper(parts, source, device="cpu", batch=n_clips)
    views = copy.deepcopy(parts.views)
    theirs_view = Stepper(replace(parts, views=views), source, device="cpu", batch=n_clips).view
    theirs = PlainStep(plain, parts.config, theirs_view)
    steps = iter(range(10**9))

    def library() -> Tensor:
        step = next(steps)
        return ours.learn(step, ours.view(step))

    words = "bf16, against fp32" if fast else "fp32"
    name = f"ATST {'Small' if scale == 'paper' else scale}, training step, batch {n_clips}, {words}"
    return StepPair(name, library, theirs.step, 0.15 if fast else 5e-4)


def embedding_pair(scale: str = "workshop", n_clips: int = 64, clip_s: float = 2.0) -> Pair:
    """`embed_clips` in batches beside one clip at a time."""
    encoder = make_encoder(preset("atst", scale))
    frontend = ATSTFrontend("paper")
    generator = torch.Generator().manual_seed(0)
    waveforms = 0.1 * torch.randn(n_clips, round(16_000 * clip_s), generator=generator)

    def one_at_a_time() -> Tensor:
        return torch.cat([embed_clips(encoder, frontend, clip[None]) for clip in waveforms])

    return Pair(
        f"embedding {n_clips} clips of {clip_s:g} s",
        lambda: embed_clips(encoder, frontend, waveforms),
        one_at_a_time,
        1e-4,
    )


def bf16_step_pair() -> StepPair:
    """The step at the precision of the jobs; what it wins on a CPU depends on that CPU's bf16 instructions."""
    return step_pair(fast={"precision": "bf16-mixed"})


STEP_PAIRS: tuple[Callable[[], Pair], ...] = (step_pair, bf16_step_pair, embedding_pair)
