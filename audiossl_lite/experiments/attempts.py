"""Settings that were tried: each attempt one run, scored on classes that training heard.

`python -m audiossl_lite.experiments.attempts --runs runs/workshop` trains what its record lacks, in the folder of the
study, whose sounds and AudioMAE it shares. Whoever tries another setting adds a line to `ATTEMPTS`. What is reported
elsewhere, scores of what training never heard, is not looked at here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.common.commands import CommandParser, listed
from audiossl_lite.data.corpus import Sound, tasks
from audiossl_lite.data.joined import Corpus, waveforms_of
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.conditioning import conditioned
from audiossl_lite.evaluation.grids import Column, draw_column
from audiossl_lite.experiments import records
from audiossl_lite.experiments.networks import Network, network_of
from audiossl_lite.experiments.real_sounds.recipes import encoder_path, make_recipe, settings_of
from audiossl_lite.experiments.real_sounds.scores import START, TaskScores, embed_all, embed_network
from audiossl_lite.experiments.real_sounds.sounds import described, study_corpus
from audiossl_lite.experiments.settings.study import RUNS
from audiossl_lite.experiments.studies import tell_record
from audiossl_lite.experiments.workshop import SHARED_CORES, locked, run_of, slug
from audiossl_lite.pretrained import load_encoder
from audiossl_lite.training import CollapseError, Compute, NotFiniteError, train

RECORD = "attempts_workshop"
MOST_CLIPS, N_EPISODES, SEED = 280, 600, 0
AS_STUDIED = ", as in the study"
MAE, BOTH = "AudioMAE", "T-CutMix, both directions"
# AudioMAE as it was first studied, and shorter.
FIRST = {"steps": 3000, "warmup_steps": 300, "learning_rate": 2e-3}
SHORT = FIRST | {"steps": 800, "warmup_steps": 80}
SLOW, HALF = {"learning_rate": 7e-4}, {"mask_ratio": 0.5}
# By name: a row of the study, and what it changes. Without changes the study's own run is scored, where it is there.
ATTEMPTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{name}{AS_STUDIED}": (name, {}) for name in RUNS},
    "ATST, 12,000 steps": ("ATST", {"steps": 12_000, "warmup_steps": 1200}),
    f"{MAE}, 800 steps": (MAE, SHORT),
    f"{MAE}, 800 steps, half hidden": (MAE, SHORT | HALF),
    f"{MAE}, 800 steps, two thirds hidden": (MAE, SHORT | {"mask_ratio": 0.65}),
    f"{MAE}, 800 steps, three times the rate": (MAE, SHORT | {"learning_rate": 6e-3}),
    f"{MAE}, 800 steps, a third of the rate": (MAE, SHORT | SLOW),
    f"{MAE}, 800 steps, a tenth of the rate": (MAE, SHORT | {"learning_rate": 2e-4}),
    f"{MAE}, 800 steps, a third of the rate, half hidden": (MAE, SHORT | SLOW | HALF),
    f"{MAE}, 800 steps, crops of 1 s": (MAE, SHORT | {"n_frames": 96}),
    f"{MAE}, 800 steps, targets not normalised": (MAE, SHORT | {"norm_patches": False}),
    f"{MAE}, 3,000 steps": (MAE, FIRST),
    f"{MAE}, 3,000 steps, a third of the rate": (MAE, FIRST | SLOW),
    f"{MAE}, 3,000 steps, a third of the rate, half hidden": (MAE, FIRST | SLOW | HALF),
    f"{BOTH}, a third of the rate": (BOTH, {"learning_rate": 3e-4}),
    f"{BOTH}, three times the rate": (BOTH, {"learning_rate": 3e-3}),
    f"{BOTH}, layer decay 0.65": (BOTH, {"layer_decay": 0.65}),
    f"{BOTH}, queue of 512": (BOTH, {"queue_size": 512}),
    f"{BOTH}, temperature 0.07": (BOTH, {"temperature": 0.07}),
    f"{BOTH}, 1,200 steps": (BOTH, {"steps": 1200}),
    f"{BOTH}, two crops": (BOTH, {"segments": "two"}),
    f"{BOTH}, two crops, 1,200 steps": (BOTH, {"segments": "two", "steps": 1200}),
    f"{BOTH}, no gain, no crop": (BOTH, {"augmentation": "none", "gain_db": 0.0}),
}


def validation(sounds: list[Sound]) -> TaskScores:
    """Episodes of every task on at most `MOST_CLIPS` of the clips whose classes training heard, drawn once."""
    scores = TaskScores([], [])
    for pool, task in enumerate(tasks(sounds)):
        rows = (~task.never).nonzero().flatten()
        generator = torch.Generator().manual_seed(SEED)
        chosen = torch.randperm(len(rows), generator=generator)[:MOST_CLIPS].sort().values
        rows = rows[chosen]
        scores.clips.append(task.clips[rows])
        column = draw_column(task.name, pool, task.labels[rows], task.groups[rows], N_EPISODES)
        if isinstance(column, Column):
            scores.columns.append(column)
        else:
            scores.left_out[task.name] = column
    return scores


def attempt(out: Path, corpus: Corpus, name: str) -> tuple[Network, Any, float]:
    """The network of an attempt, its settings and the seconds of training: trained, resumed, or in 0 s the study's.

    FileNotFoundError when AudioMAE, which tuning starts from, is not there.
    """
    row, changes = ATTEMPTS[name]
    stage = run_of(row, SEED)
    options, device = stage.options | changes, torch.device("cpu")
    studied = encoder_path(out, stage.name)
    if not changes and studied.is_file():
        config = settings_of(options, device, toy=False)
        return network_of(name, load_encoder(studied)), config, 0.0
    recipe = make_recipe(options, corpus, out, device, toy=False)
    config = recipe.config
    folder = out / "attempts" / slug(name)
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.before:
        recipe.before(config, folder)
    parts = recipe.parts(config)
    result = train(
        parts.method, parts.views, recipe.source, parts.config, device="cpu",
        output_dir=folder / "run", description=name, compute=Compute(prefetch=0),
    )  # fmt: skip
    return (
        Network(name, parts.encoder, recipe.frontend, recipe.chunk_frames),
        config,
        result.seconds,
    )


def row_of(name: str, scores: TaskScores, features: Tensor, start: Any, config: Any) -> dict:
    """A line of the table from features `(m, D)` of the clips that are scored, raw and standardised by all of them."""
    raw, treated = scores.of(features), scores.of(conditioned(features, "standardised"))
    average, standardised = (
        float(np.mean([values.mean() for values in part.values()])) for part in (raw, treated)
    )
    return records.record_row(name, raw, start) | {
        "average": round(average, 1),
        "steps": getattr(config, "steps", 0),
        "batch_size": getattr(config, "batch_size", 0),
        "learning_rate": getattr(config, "learning_rate", None),
        "standardised": round(standardised, 1),
        "rank": None,
        "first_direction": None,
        "changes": ATTEMPTS[name][1] if name in ATTEMPTS else {},
    }


def record_attempts(out: Path, names: Sequence[str], path: Path) -> dict[str, Any]:
    """Train and score these attempts, add each to the record in `path` as it ends, and return the record.

    What the record has is not done again; a run that fails is named on stderr and has no row. KeyError for an unknown
    name, ValueError where `out` holds no sounds of a study, or `path` is of other sounds.
    """
    if unknown := [name for name in names if name not in ATTEMPTS]:
        raise KeyError(f"no attempt is called {unknown[0]!r}; there are {'; '.join(ATTEMPTS)}")
    corpus = study_corpus(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = validation(list(corpus.sounds))
    waveforms = waveforms_of(corpus, torch.device("cpu"), scores.used)
    plain = {name: embed_all(waveforms, statistics) for name, statistics in BASELINES.items()}
    start = scores.of(plain[START])
    for name in names:
        entry = records.load(path)
        if entry and entry["data_fingerprint"] != corpus.key:
            raise ValueError(f"{path} is of other sounds than {out}; move it away")
        rows = entry["values"] if entry else [
            row_of(n, scores, x, start, None) for n, x in plain.items()
        ]  # fmt: skip
        if name in {row["name"] for row in rows}:
            continue
        print(name, flush=True)
        try:
            network, config, seconds = attempt(out, corpus, name)
        except (CollapseError, NotFiniteError) as error:
            print(f"{name} failed: {error}", file=sys.stderr, flush=True)
            continue
        features = embed_network(
            network.encoder.eval(), network.frontend, waveforms, network.chunk_frames
        )
        row = row_of(name, scores, features, start, config)
        with locked(path.parent, wait=True):  # another process may have added one meanwhile
            entry = records.load(path)
            records.record(
                path,
                experiment=RECORD,
                scale="workshop",
                data=described(corpus),
                data_fingerprint=corpus.key,
                device="CPU, 1 thread",
                seeds=[SEED],
                seconds=seconds,
                config={
                    "n_episodes": N_EPISODES,
                    "clips_a_task": MOST_CLIPS,
                    "ways": scores.ways(),
                },
                values=[*(entry["values"] if entry else rows), row],
                note=entry["note"] if entry else f"One seed each, on classes heard. {SHARED_CORES}",
                earlier=entry,
            )
    return records.load(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and score what was asked for and say where the record is; status 2 for a wrong request."""
    parser = CommandParser(
        prog="python -m audiossl_lite.experiments.attempts",
        description="One run for each setting that is tried, scored on classes that training heard.",
    )
    parser.add_argument("--runs", default="runs/workshop", help="what the command workshop left")
    parser.add_argument(
        "--record", default="", help="a record to go on with; default: below --runs"
    )
    parser.add_argument("--only", default="", help="names of attempts, with semicolons between")
    parser.add_argument("--list", action="store_true", help="name the attempts and stop")
    asked = parser.parse_args(arguments)
    if asked.list:
        print("\n".join(ATTEMPTS))
        return 0
    out = Path(asked.runs).expanduser().resolve()
    path = Path(asked.record or out / "records" / f"{RECORD}.json")
    names = listed(asked.only) or list(ATTEMPTS)
    return tell_record("attempts", path, lambda: record_attempts(out, names, path))


if __name__ == "__main__":
    sys.exit(main())
