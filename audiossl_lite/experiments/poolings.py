"""What a probe is given of a clip, CLS, mean, all layers or all tokens, and whether the order of encoders hangs on it.

`python -m audiossl_lite.experiments.poolings --runs DIR` reads sounds and encoders that `python -m audiossl_lite
workshop --out DIR` left, and scores them, beside the shipped ones, on what no encoder heard in training.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.data.corpus import Task, tasks
from audiossl_lite.data.joined import Corpus, read_corpus, waveforms_of
from audiossl_lite.evaluation.embed import embed_clips
from audiossl_lite.evaluation.folds import fold_parts, make_folds
from audiossl_lite.evaluation.labelled import Labelled
from audiossl_lite.evaluation.settings import FineTuning
from audiossl_lite.evaluation.statistics import Scores
from audiossl_lite.evaluation.token_probes import (
    GatedLayers,
    PrototypePool,
    drawn_tokens,
    frozen_tokens,
    pool_probe,
)
from audiossl_lite.experiments import records
from audiossl_lite.experiments.gpu.recipes import encoder_path
from audiossl_lite.experiments.gpu.sounds import described
from audiossl_lite.experiments.networks import Network, shipped_network
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.workshop import run_of
from audiossl_lite.parameters import CommandParser
from audiossl_lite.pretrained import load_encoder

RECORD = "poolings_workshop"
TRAINED = ("ATST", "AudioMAE", "No Mixing")  # rows of the study of real sounds
SHIPPED = ("shipped ATST", "shipped uaMix-MAE")
TASKS = ("events", "note families", "words", "urban scenes")
SEED, N_FOLDS, N_TESTED = 0, 5, 3  # folds, and how many of them are tested on
MAX_S, MOST_CLIPS = 4.0, 400  # of a clip its centre, of a task clips drawn by the seed
PER_CLASS = 2  # prototypes
CLS, MEAN, LAYERS, GATED, PROTOTYPES = POOLS = (
    "CLS", "mean", "all layers, side by side", "all layers, gated", "prototypes",
)  # fmt: skip


def probe_settings() -> FineTuning:
    """One rate and length of training for all pools: batch norm without parameters makes their scales the same."""
    run = {"epochs": 20, "warmup_epochs": 1, "batch_size": 32, "learning_rate": 2.0}
    return preset("finetune_atst", "workshop", run)


def networks(runs: str | Path) -> Iterator[Network]:
    """The encoders of a finished study that are there, then the shipped ones."""
    for name in TRAINED:
        path = encoder_path(Path(runs), run_of(name, SEED).name)
        if path.is_file():
            ready = load_encoder(path)
            yield Network(name, ready.encoder, ready.frontend, ready.about["chunk_frames"])
    yield from map(shipped_network, SHIPPED)


def held_clips(corpus: Corpus, task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Waveforms `(n, S)`, lengths, labels and groups of clips that training never heard, at most `MOST_CLIPS`."""
    rows = task.never.nonzero().flatten()
    draw = torch.Generator().manual_seed(SEED)
    rows = rows[torch.randperm(len(rows), generator=draw)[:MOST_CLIPS].sort().values]
    labels, groups = task.labels[rows], task.groups[rows]
    pairs = torch.stack([labels, groups], 1).unique(dim=0)[:, 0]
    classes, n_groups = pairs.unique(return_counts=True)
    usable = torch.isin(labels, classes[n_groups > 1])
    rows, labels, groups = rows[usable], labels[usable], groups[usable]
    joined = waveforms_of(corpus, torch.device("cpu"), task.clips[rows])
    waveforms, lengths = joined[torch.arange(len(rows))]
    return waveforms, lengths, labels.unique(return_inverse=True)[1], groups


def pooled(
    network: Network, waveforms: Tensor, lengths: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Features `(n, L, D)` by pool, tokens `(n, N, D)` for the prototypes and how many of them are valid `(n,)`."""
    encoder, frontend = network.encoder, network.frontend
    layers, tokens, counts = frozen_tokens(
        encoder, frontend, waveforms, lengths, max_s=MAX_S, chunk_frames=network.chunk_frames
    )

    def first_token(spec: Tensor, n: Tensor) -> Tensor:
        return cls_token(encoder, spec, n)

    features = network.embed if network.chunk_frames else None
    del features
    cls = embed_clips(encoder, frontend, waveforms, lengths, features=first_token)
    return {
        CLS: cls[:, None],
        MEAN: layers[:, -1:],
        LAYERS: layers.flatten(1)[:, None],
        GATED: layers,
    }, tokens, counts
