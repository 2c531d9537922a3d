"""Progressive retraining put together: cached filter banks, step 1, step 2."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.data.datasets import load_clips
from audiossl_lite.experiments.build import (
    Parts,
    Prepared,
    Trained,
    TrainTest,
    chosen,
    train_and_test,
    train_config,
    train_parts,
)
from audiossl_lite.experiments.settings.audiomae import MaskedPretraining
from audiossl_lite.experiments.settings.encoders import EncoderRuns
from audiossl_lite.experiments.settings.uamix import Tuning
from audiossl_lite.methods.uamix import NNCLRTuning
from audiossl_lite.training.sources import data_digest
from audiossl_lite.views.mixtures import CroppedViews, TuningViews

NOTE = "classes heard in training are scored on its own clips; no known recording or word on both sides of an episode"


def make_tuning(encoder: nn.Module, config: Tuning, *, step: int, seed: int = 0) -> NNCLRTuning:
    """The method of step 1 or 2 around a copy of `encoder`; the given encoder stays as it is.

    The method remembers a digest of the weights it starts from, so that a folder that holds a run from another
    encoder is not mistaken for this one.

    Where: uaMix-MAE Sec. 3; chapter 09
    """
    if step not in (1, 2):
        raise ValueError(f"progressive retraining has steps 1 and 2, got {step}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = NNCLRTuning(
            copy.deepcopy(encoder),
            trainable="head" if step == 1 else "upper",
            ema_projector=config.ema_projector and step == 2,
            generator=torch.Generator().manual_seed(seed),
            **chosen(config, "hidden_dim", "predictor_dim", "projection_dim", "queue_size", "k"),
            **chosen(config, "temperature", "symmetric", "layer_decay", "head_decay_scale"),
        )
    method.starts_from = data_digest(nn.utils.parameters_to_vector(encoder.parameters()))
    return method


def tuning_parts(
    encoder: nn.Module,
    config: Tuning,
    frontend: nn.Module,
    *,
    step: int,
    seed: int = 0,
    head: dict[str, Tensor] | None = None,
) -> Parts:
    """Method, views and run of step 1 or 2; `head`: the state of step 1 that step 2 takes over."""
    method = make_tuning(encoder, config, step=step, seed=seed)
    if head is not None:
        method.load_head_state(head)
        method.head_from = data_digest(torch.cat([x.flatten().double() for x in head.values()]))
    first = {
        "steps": config.head_steps,
        "batch_size": config.head_batch_size,
        "learning_rate": config.head_learning_rate,
        "probe_every": 0,
    }
    run = train_config(
        config,
        seed + step - 1,
        final_learning_rate=0.0,
        final_weight_decay=config.weight_decay,
        final_momentum=config.momentum,
        betas=(0.9, 0.95),
        **first if step == 1 else {},
    )
    run = replace(run, warmup_steps=int(run.steps * config.warmup_share))
    views = TuningViews(
        "none" if step == 1 else config.mixing,
        log_unit=frontend.log_unit,
        **chosen(config, "rule", "alpha", "per_sample", "gain_db", "augmentation"),
    )
    crops = CroppedViews(config.n_frames, frontend.pad_value, views, config.segments)
    return Parts(method, crops, run)


def train_head(
    encoder: nn.Module, prepared: Prepared, config: Tuning, *, seed: int = 0, **options: Any
) -> Trained:
    """Step 1: the encoder is frozen, projector and predictor learn on unmixed clips `(n, T, F)`.

    `options` as in `train_parts`.

    Where: uaMix-MAE Sec. 3; chapter 09
    """
    parts = tuning_parts(encoder, config, prepared.frontend, step=1, seed=seed)
    return train_parts(parts, prepared, config, description="step 1: head", **options)


def tune(
    head: Trained, prepared: Prepared, config: Tuning, *, seed: int = 0, **options: Any
) -> Trained:
    """Step 2: the upper half of the encoder is tuned with the head of step 1, on mixtures (`config.mixing`).

    Every call starts from the same encoder and head, so variants differ by their settings alone. `options` as in
    `train_parts`.

    Where: uaMix-MAE Sec. 3, Eq. 4; chapter 09
    """
    state = head.method.head_state()
    parts = tuning_parts(head.encoder, config, prepared.frontend, step=2, seed=seed, head=state)
    return train_parts(parts, prepared, config, description=f"step 2: {config.mixing}", **options)


def tuning_pools(
    data_root: str, config: MaskedPretraining | EncoderRuns, *, seed: int = 0, voices: bool = True
) -> list[TrainTest]:
    """Events, and spoken words where `voices` asks for them, to train on and to score on.

    Real audio: all clips serve both; of the voices, `config.clips_per_class` clips of each speaker. Embedded
    sounds: two disjoint sets. Where the data has no pool of voices, embedded ones stand in and `.source` says so.
    """
    names = ("event", "voice") if voices else ("event",)
    if data_root in ("", "synthetic"):
        made = [train_and_test(data_root, config, seed=seed, pool=pool) for pool in names]
        return [replace(p, note="classes heard in training are scored on new clips") for p in made]
    pools = []
    for pool in names:
        limit = config.clips_per_class if pool == "voice" else None
        clips = load_clips(data_root, pool=pool, clips_per_class=limit, seed=seed)
        pools.append(TrainTest(clips, clips, NOTE))
    return pools
