"""Every method trained on a corpus of real sounds over seeds: `python -m audiossl_lite workshop --data SOUNDS`.

Each run is scored on what training never heard, at its start, along the way and at its end. A process takes one core;
another one started with the same folder takes other runs. The same command goes on after an interruption. The record is
written anew after each run, over the seeds that are finished; rows that it had and whose runs are no longer in the
folder stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiossl_lite.common.commands import CommandParser, listed, refused
from audiossl_lite.common.ranges import ranged
from audiossl_lite.data.corpus import list_sounds
from audiossl_lite.data.joined import listing_key
from audiossl_lite.evaluation.statistics import Scores, mean_interval
from audiossl_lite.experiments import records
from audiossl_lite.experiments.networks import UNTRAINED
from audiossl_lite.experiments.real_sounds import learnt, sounds
from audiossl_lite.experiments.real_sounds.scores import START, TaskScores, load_scores
from audiossl_lite.experiments.real_sounds.task import Stage, Task, record_of, refuse_other_sounds
from audiossl_lite.experiments.settings.study import RUNS
from audiossl_lite.experiments.settings.uamix import VARIANTS
from audiossl_lite.experiments.studies import named
from audiossl_lite.training import CollapseError, NotFiniteError, load_checkpoint

RECORD = "sounds_workshop"
WEAKER = (
    "sounds_3000_workshop"  # AudioMAE of 3,000 steps, and what was tuned from it: in the book alone
)
Runs = dict[str, dict[str, Any]]  # options of a run by the name of its row
MOST_SEEDS = 10
SHARED_CORES = (
    "Seconds are those on the clock of one thread; other programs may have used the core meanwhile."
)


def run_of(name: str, seed: int, runs: Runs | None = None) -> Stage:
    """The run of a row of `runs` (by default the study's) with a seed; KeyError names the rows there are."""
    runs = RUNS if runs is None else runs
    if name not in runs:
        raise KeyError(f"no run is called {name!r}; there are {', '.join(runs)}")
    options = runs[name] | {"seed": seed}
    needs = ()
    if options["method"] == "uamix":
        start = run_of("AudioMAE", seed).name
        options["start"], needs = start, (start,)
    return Stage(f"{slug(name)}_{seed}", f"{name}, seed {seed}", "", needs=needs, options=options)


def slug(name: str) -> str:
    """The name of a row as that of a folder."""
    return "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def train_all(
    out: str | Path,
    data: str | Path | None,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    runs: Runs | None = None,
    write: Callable[[Path], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Train what is not yet trained, every row of a seed before the next seed, and return the record.

    `data`: a folder that `data.corpus.list_sounds` reads, or None (embedded sounds). Runs that another process is at
    are left to it and waited for, an encoder that is missing is trained before what starts from it. A run that
    collapses or diverges is named in the record's note, and its row lacks the seed. `runs`, `write`: another study's
    rows, and what writes its record; by default `RUNS` and `collect`. Raises KeyError for an unknown name, ValueError
    when `out` holds runs on other sounds, and what `list_sounds` raises.

    Where: ATST Table 2; uaMix-MAE Tables 2 and 3; chapter 14
    """
    write = write or collect
    waiting = _in_order(names, seeds, runs)
    key = listing_key(list_sounds(data)) if data else "embedded"
    out = Path(out).expanduser().resolve()
    task = _task(Stage("sounds", "", ""), out, Path(data).expanduser() if data else None)
    with locked(task.folder, wait=True):  # only one process decodes
        if not record_of(out, "sounds"):
            sounds.run(task)
    refuse_other_sounds(out, key, data)
    write(out)  # a record that cannot be gone on with is met before hours of training
    while waiting := [stage for stage in waiting if not _ended(out, stage)]:
        if not any(_take(stage, out, write) for stage in waiting):
            time.sleep(5)
    return write(out)


def _in_order(names: Sequence[str], seeds: Sequence[int], runs: Runs | None) -> list[Stage]:
    """The runs to be trained, each once: seed by seed, before what is tuned the encoder that it starts from."""
    stages = {}
    for seed in seeds:
        for stage in (run_of(name, seed, runs) for name in names):
            if stage.needs:
                start = run_of("AudioMAE", seed)
                stages.setdefault(start.name, start)
            stages.setdefault(stage.name, stage)
    return list(stages.values())


def _take(stage: Stage, out: Path, write: Callable[[Path], dict[str, Any]]) -> bool:
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
                write(out)
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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise BlockingIOError(
                f"{folder}: another process is at work here; wait for it, or choose another folder"
            ) from error
        yield


def failures_of(out: Path, stages: Iterable[Stage]) -> dict[str, str]:
    """By title: what the runs that did not come to an end died of."""
    files = {stage.title: _failure(out, stage.name) for stage in stages}
    return {title: file.read_text().strip() for title, file in files.items() if file.is_file()}


def _failure(out: Path, name: str) -> Path:
    return out / "stages" / name / "failure.txt"


def _ended(out: Path, stage: Stage) -> bool:
    """Whether a run is complete, has failed, or needs one that has."""
    failed = any(_failure(out, name).is_file() for name in (stage.name, *stage.needs))
    return failed or record_of(out, stage.name) is not None


def collect(out: Path) -> dict[str, Any]:
    """Write the record of all runs in `out` that are finished, over their seeds, and return it.

    Rows: baselines, then every method after its start, with the `seeds` of its scores; a method's curve is the mean of
    its seeds', with the average of all tasks and its interval over seeds. A row of the record that was there, of more
    seeds than the folder has, stays as it was: a record outlives its runs. What was tuned stays with the encoder that
    it was tuned from, so that differences are of the same runs. ValueError when the record is of other sounds.
    """
    scores, last = load_scores(out / "sounds" / "scores.pt"), record_of(out, "sounds")
    runs = {
        name: {s: e for s in range(MOST_SEEDS) if (e := record_of(out, run_of(name, s).name))}
        for name in RUNS
    }
    values = {row["name"]: row for row in _rows(out, runs, scores)}
    config = {
        name: next(iter(by_seed.values()))["config"] for name, by_seed in runs.items() if by_seed
    }
    commits = {entry["commit"] for by_seed in runs.values() for entry in by_seed.values()}
    failures = failures_of(out, (run_of(name, s) for name in RUNS for s in range(MOST_SEEDS)))
    left_out: dict[str, str] = {}
    path = out / "records" / f"{RECORD}.json"
    with locked(out / "records", wait=True):
        if earlier := records.load(path):
            if earlier["data_fingerprint"] != last["data_fingerprint"]:
                raise ValueError(f"{path} is of other sounds than {out}; move it away")
            fuller = {
                _family(row["name"])
                for row in earlier["values"]
                if len(row.get("seeds", ())) > len(values.get(row["name"], {}).get("seeds", ()))
            }
            kept = {r["name"]: r for r in earlier["values"] if _family(r["name"]) in fuller}
            left_out = {
                name: "the record's rows are of another start, with more seeds"
                for name in values
                if name in RUNS and _family(name) in fuller and name not in kept
            }
            values = {n: row for n, row in values.items() if _family(n) not in fuller} | kept
            commits.update(earlier["commit"].split(", ") if fuller else ())
            config = config | {n: c for n, c in earlier["config"].items() if _family(n) in fuller}
        trained = [row for row in values.values() if row.get("curve")]
        return records.record(
            path,
            experiment=RECORD,
            scale="workshop",
            data=last["data"],
            data_fingerprint=last["data_fingerprint"],
            device="CPU, 1 thread",
            seeds=sorted({seed for row in trained for seed in row["seeds"]}),
            seconds=sum(row["curve"][-1]["seconds"] * len(row["seeds"]) for row in trained),
            config={name: config[name] for name in RUNS if name in config}
            | {"ways": scores.ways()},
            values=sorted(values.values(), key=_place),
            note=" ".join([SHARED_CORES, *named("failed", failures), *named("left out", left_out)]),
            more={"commit": ", ".join(sorted(commits))} if commits else None,
        )


def _rows(
    out: Path, runs: dict[str, dict[int, Any]], scores: TaskScores
) -> Iterator[dict[str, Any]]:
    """A row of the record for every baseline, every finished run over its seeds, and every start."""
    columns = list(scores.ways())
    start = scores.baselines[START]
    for name, row in scores.baselines.items():
        yield records.record_row(name, row, start)
    for name, by_seed in runs.items():
        ends = {s: entry["training"]["steps"] for s, entry in by_seed.items()}
        rows = {name: ends}
        if name not in VARIANTS:  # what is tuned starts from a row that is there
            rows[f"{name}{UNTRAINED}"] = dict.fromkeys(ends, 0)
        for title, steps in rows.items() if by_seed else ():
            parts = [scores_of(out, run_of(name, s), n)[0] for s, n in steps.items()]
            joined = {c: np.concatenate([part[c].numpy() for part in parts]) for c in columns}
            row = records.record_row(title, joined, start) | {"seeds": list(by_seed)}
            if title == name:
                curves = [_curve(entry) for entry in by_seed.values()]
                row["curve"] = [
                    point | _over_seeds(points, columns)
                    for point, points in zip(records.mean_curve(curves, columns), zip(*curves))
                ]
            yield row


def scores_of(out: Path, stage: Stage, step: int) -> list[dict[str, torch.Tensor]]:
    """Accuracy `(1, episodes)` by column of what a run was scored on at a step: the encoder, then its student."""
    return list(load_checkpoint(out / "stages" / stage.name / f"scores_{step}.pt").values())


def _family(name: str) -> str:
    """The run whose rows are of use only together: a start, its end, and what was tuned from it."""
    run = name.removesuffix(UNTRAINED)
    return "AudioMAE" if run in VARIANTS else run


def _place(row: dict[str, Any]) -> tuple[int, bool]:
    """Where a row stands in the record: baselines, then the runs in their order, each after its start."""
    run = row["name"].removesuffix(UNTRAINED)
    return (list(RUNS).index(run) if run in RUNS else -1), run == row["name"]


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
    scores, seeds = records.recorded_scores(entry), _seeds(entry)
    common, chosen = common_seeds(entry, *names), {}
    for name in names:
        at = [seeds[name].index(seed) for seed in common] if seeds[name] else [0]
        chosen[name] = {column: values[at] for column, values in scores[name].items()}
        chosen[name]["average"] = np.mean(list(chosen[name].values()), axis=0)
    return chosen


def common_seeds(entry: dict[str, Any], *names: str) -> list[int]:
    """The seeds that all of these rows have, ascending; rows without seeds, the baselines, do not count."""
    trained = [set(seeds) for name in names if (seeds := _seeds(entry)[name])]
    return sorted(set.intersection(*trained)) if trained else []


def _seeds(entry: dict[str, Any]) -> dict[str, list[int] | None]:
    return {row["name"]: row.get("seeds") for row in entry["values"]}


def gain_by_seed(entry: dict[str, Any], a: str, b: str) -> np.ndarray:
    """Row a minus row b on the average of all tasks, a number a seed that both have; none where a row is missing."""
    if not {a, b} <= set(_seeds(entry)):
        return np.array([])
    pair = on_common_seeds(entry, a, b)
    return pair[a]["average"] - pair[b]["average"]


def parser_of(command: str, what: str, only: str) -> CommandParser:
    """The options of a study over seeds in the folder of `workshop`; `only`: what the option of that name takes."""
    parser = CommandParser(
        prog=f"python -m audiossl_lite{command}",
        description=f"{what} on one core; start it twice to use two. The same command goes on after an interruption.",
    )
    parser.add_argument("--data", default="", help="a folder of sounds; without it, built-in ones")
    parser.add_argument("--out", default="runs/workshop", help="runs, encoders, the record")
    parser.add_argument("--only", default="", help=f"{only}, with semicolons between")
    parser.add_argument("--seeds", type=ranged("n_seeds", int), default=3, help="default: 3")
    parser.add_argument("--list", action="store_true", help="name the runs and stop")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what was asked for and say where the record is; status 2 for a wrong request."""
    what = "Train every method on real sounds, over seeds,"
    asked = parser_of(" workshop", what, "names of runs").parse_args(arguments)
    if asked.list:
        print("\n".join(RUNS))
        return 0
    torch.set_num_threads(1)
    names = listed(asked.only) or list(RUNS)
    try:
        if asked.seeds > MOST_SEEDS:
            raise ValueError(f"--seeds is at most {MOST_SEEDS}, got {asked.seeds}")
        entry = train_all(asked.out, asked.data or None, names, range(asked.seeds))
    except (KeyError, ValueError, OSError) as error:
        return refused("workshop", error)
    for name, row in records.recorded_scores(entry).items():
        average = np.mean([values.mean() for values in row.values()])
        print(f"{name:<32}{average:6.1f} %, average of {len(row)} tasks")
    print(f"recorded in {Path(asked.out) / 'records' / f'{RECORD}.json'}")
    return 0
