"""Every method trained on a corpus of real sounds over seeds: `python -m audiossl_lite workshop --data SOUNDS`.

Settings are those of scale `gpu` with a smaller network and fewer clips a step. Each run is scored on what training
never heard, at its start, along the way and at its end. A process takes one core; another one started with the same
folder takes other runs. The same command goes on after an interruption. The record is written anew after each run,
over the seeds that are finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiossl_lite.common.parameters import CommandParser
from audiossl_lite.common.ranges import ranged
from audiossl_lite.data.corpus import list_sounds
from audiossl_lite.data.joined import listing_key
from audiossl_lite.evaluation.statistics import Scores, mean_interval
from audiossl_lite.experiments import records
from audiossl_lite.experiments.gpu import learnt, sounds
from audiossl_lite.experiments.gpu.recipes import TITLES
from audiossl_lite.experiments.gpu.scores import START, load_scores
from audiossl_lite.experiments.gpu.task import Stage, Task, record_of
from audiossl_lite.experiments.networks import UNTRAINED
from audiossl_lite.experiments.settings.uamix import VARIANTS
from audiossl_lite.experiments.studies import named
from audiossl_lite.training import CollapseError, NotFiniteError, load_checkpoint

RECORD = "sounds_workshop"
POINTS = (1 / 16, 1 / 4, 1.0)  # of the steps: where a run is scored
SHARED = {
    "batch_size": 64,
    "log_every": 50,
    "save_every": 100,
    "precision": "auto",
}
BYOL = SHARED | {"hidden_dim": 1024, "learning_rate": 1e-3}
ATST = BYOL | {
    "method": "atst",
    "encoder": "atst_tiny",
    "steps": 3000,
    "warmup_steps": 300,
    "points": POINTS,
}
CNN = BYOL | {"encoder": "byola_small", "steps": 1500, "warmup_steps": 150, "points": POINTS}
TUNED = SHARED | {
    "method": "uamix",
    "head_batch_size": 64,
    "head_steps": 100,
    "steps": 600,
    "symmetric": False,
    "points": (1.0,),
}
# By the name of its row: the options of a stage "learnt" (`gpu.learnt.run`). In order of worth.
RUNS: dict[str, dict[str, Any]] = {
    "ATST": ATST,
    "AudioMAE": SHARED
    | {
        "method": "audiomae",
        "encoder": "audiomae_tiny",
        "n_mels": 64,
        "decoder_dim": 128,
        "decoder_depth": 2,
        "steps": 3000,
        "warmup_steps": 300,
        "points": POINTS,
    },
    # As long on the clock as ATST: one of its steps, four maskings a clip, takes 3.1 of ATST's.
    "EAT": SHARED
    | {
        "method": "eat",
        "encoder": "audiomae_tiny",
        "n_mels": 64,
        "top_blocks": 6,
        "decoder_dim": 192,
        "steps": 960,
        "warmup_steps": 96,
        "points": POINTS,
    },
    **{name: TUNED | changes for name, changes in VARIANTS.items()},
    "CNN, InfoNCE": CNN | {"method": "cnn"},
    "BYOL-A": CNN | {"method": "byola"},
    "ATST, one segment of 1 s": ATST | {"segments": "one"},
    "ATST, two segments of 0.5 s": ATST | {"segment_s": 0.5},
}
MOST_SEEDS = 10
SHARED_CORES = (
    "Seconds are those on the clock of one thread; other programs may have used the core meanwhile."
)


def run_of(name: str, seed: int) -> Stage:
    """The run of a row with a seed; KeyError names the rows there are."""
    if name not in RUNS:
        raise KeyError(f"no run is called {name!r}; there are {', '.join(RUNS)}")
    options = RUNS[name] | {"seed": seed}
    needs = ()
    if options["method"] == "uamix":
        start = run_of("AudioMAE", seed).name
        options["start"], needs = start, (start,)
    slug = "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    return Stage(f"{slug}_{seed}", f"{name}, seed {seed}", "", needs=needs, options=options)


def train_all(
    out: str | Path, data: str | Path | None, names: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """Train what is not yet trained, every row of a seed before the next seed, and return the record.

    `data`: a folder that `data.corpus.list_sounds` reads, or None (embedded sounds). Runs that another process is at
    are left to it and waited for. A run that collapses or diverges is named in the record's note, and its row lacks
    the seed. Raises KeyError for an unknown name, ValueError when `out` holds runs on other sounds, and what
    `list_sounds` raises.

    Where: ATST Table 2; uaMix-MAE Tables 2 and 3; chapter 14
    """
    waiting = [run_of(name, seed) for seed in seeds for name in names]
    key = listing_key(list_sounds(data)) if data else "embedded"
    out = Path(out).expanduser().resolve()
    task = _task(Stage("sounds", "", ""), out, Path(data).expanduser() if data else None)
    with locked(task.folder, wait=True):  # only one process decodes
        if not record_of(out, "sounds"):
            sounds.run(task)
    heard = record_of(out, "sounds")["data_fingerprint"]
    if not heard.startswith(key):
        raise ValueError(
            f"{out} holds runs on other sounds than {data or 'the built-in ones'}; choose another --out"
        )
    while waiting := [stage for stage in waiting if not _ended(out, stage)]:
        if not any(_take(stage, out) for stage in waiting):
            time.sleep(5)
    return collect(out)


def _take(stage: Stage, out: Path) -> bool:
    """Train a run to its end; False when it cannot start yet or another process is at it."""
    if not all(record_of(out, need) for need in stage.needs):
        return False
    task = _task(stage, out)
    try:
        with locked(task.folder):
            if not _ended(out, stage):
                print(stage.title, flush=True)
                try:
                    learnt.run(task)
                except (CollapseError, NotFiniteError) as error:
                    _failure(out, stage.name).write_text(f"{error}\n")
                collect(out)
    except BlockingIOError:
        return False
    return True


def _task(stage: Stage, out: Path, data: Path | None = None) -> Task:
    return Task(
        stage, torch.device("cpu"), float("inf"), time.monotonic(), out, data,
        scale_of_runs="workshop",
    )  # fmt: skip


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder; the system gives it back when the process ends. BlockingIOError when it is held elsewhere."""
    with open(folder / ".lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _failure(out: Path, name: str) -> Path:
    return out / "stages" / name / "failure.txt"


def _ended(out: Path, stage: Stage) -> bool:
    """Whether a run is complete, has failed, or needs one that has."""
    failed = any(_failure(out, name).is_file() for name in (stage.name, *stage.needs))
    return failed or record_of(out, stage.name) is not None


def collect(out: Path) -> dict[str, Any]:
    """Write the record of all runs in `out` that are finished, over their seeds, and return it.

    Rows: baselines, then every method after its start, with the `seeds` of its scores; a method's curve is the mean of
    its seeds', with the average of all tasks and its interval over seeds.
    """
    scores = load_scores(out / "sounds" / "scores.pt")
    columns = list(scores.ways())
    parts: dict[str, dict[int, Any]] = defaultdict(dict)
    entries: dict[str, dict[int, Any]] = defaultdict(dict)
    failures = {}
    for name in RUNS:
        for seed in range(MOST_SEEDS):
            stage = run_of(name, seed)
            if _failure(out, stage.name).is_file():
                failures[stage.title] = _failure(out, stage.name).read_text().strip()
            if not (entry := record_of(out, stage.name)):
                continue
            entries[name][seed] = entry
            folder = out / "stages" / stage.name
            if name in TITLES.values():
                start = load_checkpoint(folder / "scores_0.pt")
                parts[f"{name}{UNTRAINED}"][seed] = next(iter(start.values()))
            end = load_checkpoint(folder / f"scores_{entry['training']['steps']}.pt")
            parts[name][seed] = next(iter(end.values()))
    rows = scores.baselines | {
        name: {c: np.concatenate([part[c].numpy() for part in by_seed.values()]) for c in columns}
        for name, by_seed in parts.items()
    }
    values = [records.record_row(name, row, rows[START]) for name, row in rows.items()]
    for row in values:
        if row["name"] in parts:
            row["seeds"] = list(parts[row["name"]])
        if curves := [_curve(entry) for entry in entries.get(row["name"], {}).values()]:
            row["curve"] = [
                point | _over_seeds(points, columns)
                for point, points in zip(records.mean_curve(curves, columns), zip(*curves))
            ]
    runs = [entry for by_seed in entries.values() for entry in by_seed.values()]
    last = record_of(out, "sounds")
    with locked(out / "records", wait=True):
        return records.record(
            out / "records" / f"{RECORD}.json",
            experiment=RECORD,
            scale="workshop",
            data=last["data"],
            data_fingerprint=last["data_fingerprint"],
            device="CPU, 1 thread",
            seeds=sorted({seed for by_seed in entries.values() for seed in by_seed}),
            seconds=sum(entry["training"]["seconds"] for entry in runs),
            config={n: next(iter(by_seed.values()))["config"] for n, by_seed in entries.items()}
            | {"ways": scores.ways()},
            values=values,
            note=" ".join([SHARED_CORES, *named("failed", failures)]),
            more={"commit": ", ".join(sorted({run["commit"] for run in runs}))} if runs else None,
        )


def _curve(entry: dict[str, Any]) -> list[dict[str, float]]:
    """The points along a run, from its record."""
    return next(row["curve"] for row in entry["values"] if row.get("curve"))


def _over_seeds(points: Sequence[dict[str, float]], columns: Sequence[str]) -> dict[str, Any]:
    """What a point of a mean curve has beside its columns; the interval is None with one seed."""
    mean, half_width = mean_interval(np.array([[p[c] for c in columns] for p in points]).mean(1))
    return {
        "seconds": float(np.mean([p["seconds"] for p in points])),
        "average": mean,
        "average_ci95": records.or_none(half_width),
    }


def on_common_seeds(entry: dict[str, Any], *names: str) -> Scores:
    """Scores `(seeds,)` of these rows of the record, on the seeds that all of them have, with the column "average".

    A baseline, which has no seeds, keeps its one value. KeyError for a row that is not there.
    """
    scores, rows = records.recorded_scores(entry), {row["name"]: row for row in entry["values"]}
    seeds = {name: rows[name].get("seeds") for name in names}
    common = set.intersection(*(set(s) for s in seeds.values() if s)) if any(seeds.values()) else ()
    chosen = {}
    for name in names:
        at = [i for i, seed in enumerate(seeds[name] or [None]) if seed is None or seed in common]
        chosen[name] = {column: values[at] for column, values in scores[name].items()}
        chosen[name]["average"] = np.mean(list(chosen[name].values()), axis=0)
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what was asked for and say where the record is; status 2 for a wrong request."""
    parser = CommandParser(
        prog="python -m audiossl_lite workshop",
        description="Train every method on real sounds, over seeds, on one core; start it twice to use two. "
        "The same command goes on after an interruption.",
    )
    parser.add_argument("--data", default="", help="a folder of sounds; without it, built-in ones")
    parser.add_argument("--out", default="runs/workshop", help="runs, encoders, the record")
    parser.add_argument("--only", default="", help="names of runs, with semicolons between")
    parser.add_argument("--seeds", type=ranged("n_seeds", int), default=3, help="default: 3")
    parser.add_argument("--list", action="store_true", help="name the runs and stop")
    asked = parser.parse_args(arguments)
    if asked.list:
        print("\n".join(RUNS))
        return 0
    torch.set_num_threads(1)
    names = [name.strip() for name in asked.only.split(";") if name.strip()] or list(RUNS)
    try:
        if asked.seeds > MOST_SEEDS:
            raise ValueError(f"--seeds is at most {MOST_SEEDS}, got {asked.seeds}")
        entry = train_all(asked.out, asked.data or None, names, range(asked.seeds))
    except (KeyError, ValueError, OSError) as error:
        said = error.args[0] if isinstance(error, KeyError) else error
        print(f"workshop: {said}", file=sys.stderr)
        return 2
    for name, row in records.recorded_scores(entry).items():
        average = np.mean([values.mean() for values in row.values()])
        print(f"{name:<32}{average:6.1f} %, average of {len(row)} tasks")
    print(f"recorded in {Path(asked.out) / 'records' / f'{RECORD}.json'}")
    return 0
