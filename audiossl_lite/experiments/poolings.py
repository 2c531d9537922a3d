"""What a probe is given of a clip, CLS, mean, all layers or all tokens, and whether the order of encoders hangs on it.

`python -m audiossl_lite.experiments.poolings --runs DIR` reads sounds and encoders that `python -m audiossl_lite
workshop --out DIR` left, and scores them, beside the shipped ones, on what no encoder heard in training.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import combinations, islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiossl_lite.common.commands import CommandParser
from audiossl_lite.data.corpus import Task, tasks
from audiossl_lite.data.joined import Corpus, waveforms_of
from audiossl_lite.encoders.atst import ATSTEncoder, chunk_average, in_chunks
from audiossl_lite.encoders.audiomae import valid_patches
from audiossl_lite.evaluation.baselines import log_mel_statistics
from audiossl_lite.evaluation.embed import centre_crop, embed_clips
from audiossl_lite.evaluation.folds import fold_parts, make_folds
from audiossl_lite.evaluation.labelled import Labelled
from audiossl_lite.evaluation.settings import FineTuning
from audiossl_lite.evaluation.statistics import (
    Scores,
    as_text,
    difference,
    mean_interval,
    verdict,
)
from audiossl_lite.evaluation.token_probes import (
    GatedLayers,
    PrototypePool,
    drawn_tokens,
    frozen_tokens,
    pool_probe,
)
from audiossl_lite.experiments import records
from audiossl_lite.experiments.networks import Network, network_of, shipped_network
from audiossl_lite.experiments.real_sounds.recipes import encoder_path
from audiossl_lite.experiments.real_sounds.sounds import described, study_corpus
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.studies import tell_record
from audiossl_lite.experiments.workshop import run_of
from audiossl_lite.pretrained import load_encoder

RECORD = "poolings_workshop"
TRAINED = ("ATST", "AudioMAE", "No Mixing")  # rows of the study of real sounds
LOG_MEL = "log-mel statistics"
SHIPPED = ("shipped ATST", "shipped uaMix-MAE")
TASKS = ("events", "words")
SEED, N_FOLDS, N_TESTED = 0, 5, 5  # folds, and how many of them are tested on
MAX_S, MOST_CLIPS = 2.0, 250  # of a clip its centre, of a task clips drawn by the seed
PER_CLASS = 2  # prototypes
CLS, MEAN, LAYERS, GATED, PROTOTYPES = POOLS = (
    "CLS", "mean", "all layers, side by side", "all layers, gated", "prototypes",
)  # fmt: skip


def probe_settings() -> FineTuning:
    """One rate and length of training for all pools: batch norm without parameters makes their scales the same."""
    run = {"epochs": 10, "warmup_epochs": 1, "batch_size": 32, "learning_rate": 2.0}
    return preset("finetune_atst", "workshop", run)


def networks(runs: str | Path) -> Iterator[Network]:
    """The encoders of a finished study that are there, then the shipped ones."""
    for name in TRAINED:
        path = encoder_path(Path(runs), run_of(name, SEED).name)
        if path.is_file():
            yield network_of(name, load_encoder(path))
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
    waveforms, lengths = joined.batch(torch.arange(len(rows)))
    return waveforms, lengths, labels.unique(return_inverse=True)[1], groups


def features_of(
    network: Network, waveforms: Tensor, lengths: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Layers `(n, L, D)` by pool, tokens `(n, N, D)` for the prototypes and how many of them are valid `(n,)`."""
    encoder, frontend, chunk = network.encoder, network.frontend, network.chunk_frames
    layers, tokens, counts = frozen_tokens(
        encoder, frontend, waveforms, lengths, chunk_frames=chunk
    )

    def first_token(spec: Tensor, left: Tensor) -> Tensor:
        visible = valid_patches(left, spec.shape[1], encoder.n_mels)
        return encoder.sequence(spec, visible=F.pad(visible, (1, 0), value=True))[:, 0]

    if isinstance(encoder, ATSTEncoder):
        how = in_chunks(encoder, chunk)
    else:
        how = partial(chunk_average, first_token, chunk_frames=chunk)
    cls = embed_clips(encoder, frontend, waveforms, lengths, features=how)
    by_pool = {CLS: cls, MEAN: layers[:, -1], LAYERS: layers.flatten(1)}
    return {name: x[:, None] for name, x in by_pool.items()} | {GATED: layers}, tokens, counts


def accuracy(pool: str, data: Labelled, folds: Tensor) -> np.ndarray:
    """Accuracy in per cent on each of the tested folds, `(folds,)`; the epoch is chosen on groups held out."""
    found = []
    for _, train, validation, test in islice(fold_parts(data, folds), N_TESTED):
        if pool == PROTOTYPES:
            probe = PrototypePool(drawn_tokens(train, PER_CLASS, seed=SEED))
        else:
            probe = GatedLayers(*data.inputs.shape[1:])
        result = pool_probe(
            probe, train, test, probe_settings(), validation=validation, seed=SEED, device="cpu"
        )
        found.append(100 * result.score)
    return np.array(found)


def pooling_scores(corpus: Corpus, encoders: Sequence[Network], names: Sequence[str]) -> Scores:
    """Accuracy `(folds,)` by encoder and pool, and by task; every probe is tested on the same folds."""
    scores: Scores = {}
    for task in tasks(list(corpus.sounds)):
        if task.name not in names:
            continue
        waveforms, lengths, targets, groups = held_clips(corpus, task)
        waveforms, lengths = centre_crop(waveforms, lengths, MAX_S)
        folds = make_folds(targets, N_FOLDS, groups=groups, seed=SEED)
        labelled = partial(
            Labelled,
            targets=targets,
            class_names=tuple(f"class {k}" for k in range(int(targets.max()) + 1)),
            groups=groups,
        )
        column = f"{task.name}, never heard"
        statistics = log_mel_statistics(waveforms, lengths)[:, None]
        scores.setdefault(LOG_MEL, {})[column] = accuracy(MEAN, labelled(statistics), folds)
        for network in encoders:
            by_pool, tokens, counts = features_of(network, waveforms, lengths)
            parts = {name: labelled(x) for name, x in by_pool.items()}
            parts[PROTOTYPES] = labelled(tokens, lengths=counts)
            for pool, data in parts.items():
                row = scores.setdefault(f"{network.name}: {pool}", {})
                row[column] = accuracy(pool, data, folds)
                print(f"{network.name}: {pool}, {column}: {row[column].mean():.1f} %", flush=True)
    return scores


def flips_of(scores: Scores) -> list[dict[str, str]]:
    """Pairs of encoders whose order on a task hangs on the pool: one row each, with the widest gap either way.

    `scores`: by "encoder: pool" and task, `(folds,)`. `sure` is "yes" where both intervals leave zero out.
    """
    names = list(dict.fromkeys(name.rpartition(": ")[0] for name in scores if ": " in name))
    rows = []
    for (a, b), column in product(combinations(names, 2), next(iter(scores.values()))):
        gaps = {pool: difference(scores, f"{a}: {pool}", f"{b}: {pool}", column) for pool in POOLS}
        highest, lowest = (choose(gaps, key=lambda p: gaps[p].mean()) for choose in (max, min))
        if not gaps[lowest].mean() < 0 < gaps[highest].mean():
            continue
        ends = [mean_interval(gaps[pool]) for pool in (highest, lowest)]
        told = [
            f"{pool}: {as_text(*end, signed=True)}" for pool, end in zip((highest, lowest), ends)
        ]
        sure = all(verdict(*end) != "unclear" for end in ends)
        rows.append(
            {"a": a, "b": b, "task": column, "a minus b, highest": told[0]}
            | {"a minus b, lowest": told[1], "sure": "yes" if sure else "no"}
        )
    return rows


def record_poolings(runs: str | Path, path: str | Path) -> dict[str, Any]:
    """Score every encoder with every pool and write the record; gains are over the encoder's own mean.

    Raises ValueError where `runs` holds no sounds of a study, or none of the tasks.
    """
    began = time.perf_counter()
    corpus = study_corpus(runs)
    scores = pooling_scores(corpus, list(networks(runs)), TASKS)
    if not scores:
        raise ValueError(f"the sounds of {runs} have none of the tasks {', '.join(TASKS)}")

    def start(name: str) -> dict[str, np.ndarray]:
        return scores[name if name == LOG_MEL else f"{name.rpartition(': ')[0]}: {MEAN}"]

    return records.record(
        path,
        experiment=RECORD,
        scale="workshop",
        data=described(corpus),
        data_fingerprint=corpus.key,
        device=records.device_name("cpu"),
        seeds=[SEED],
        seconds=time.perf_counter() - began,
        config={"probe": asdict(probe_settings()), "max_s": MAX_S, "per_class": PER_CLASS},
        values=[records.record_row(name, row, start(name)) for name, row in scores.items()],
        note=f"Intervals are over {N_TESTED} of {N_FOLDS} folds, groups whole, of at most {MOST_CLIPS} clips a task "
        f"that no encoder heard, of each the central {MAX_S:g} s; one encoder each.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Score, record and say where the record is; status 2 for a wrong request."""
    parser = CommandParser(
        prog="python -m audiossl_lite.experiments.poolings",
        description="Probes of CLS, mean, all layers and all tokens on what no encoder heard.",
    )
    parser.add_argument("--runs", default="runs/workshop", help="what the command workshop left")
    parser.add_argument("--out", default="runs/poolings", help="the folder of the record")
    asked = parser.parse_args(arguments)
    path = Path(asked.out) / "records" / f"{RECORD}.json"
    return tell_record("poolings", path, lambda: record_poolings(asked.runs, path))


if __name__ == "__main__":
    sys.exit(main())
