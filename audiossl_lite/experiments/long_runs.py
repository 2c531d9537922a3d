"""What a chapter's run is too short to show, trained longer over seeds.

`python -m audiossl_lite.experiments.long_runs`: BYOL as chapter 04 breaks it, for more steps, on embedded sounds. The
same command with the same folder goes on after an interruption, and adds seeds to the record that it finds there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiossl_lite.common.commands import CommandParser
from audiossl_lite.common.ranges import ranged
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.experiments.ablations import HISTORY, Protocol, Row, baseline_rows, run_rows
from audiossl_lite.experiments.build import train_and_test
from audiossl_lite.experiments.records import config_hash, load, record_row
from audiossl_lite.experiments.settings.presets import Pretraining, preset
from audiossl_lite.experiments.studies import Finished, record_study

RECORD, SCALE = "collapse_long", "lite"
STEPS = 200  # chapter 04 stops its broken runs after 33
# Shorter views and fewer clips than in chapter 04: a dozen runs take half an hour of one core.
SMALLER = {"crop_from": "spectrogram", "segment_s": 0.63, "clips_per_class": 10}
# By name of row and seed: accuracy of both networks, and the monitors along the run of what was trained.
Lines = dict[tuple[str, int], dict[str, Any]]
UNTRAINED = "untrained encoder"
KEPT, STUDENT = "network that is kept", "student"
# What is changed of the chapter's BYOL, by the name of the row.
CHANGES: dict[str, dict[str, Any]] = {
    "healthy": {},
    "no predictor": {"predictor": False},
    "no stop-gradient": {"stop_gradient": False},
    "m = 0": {"momentum": 0.0, "final_momentum": 0.0},
}
# What chapter 04 asks of the record.
BROKEN_MINUS_HEALTHY = [(name, "healthy") for name in CHANGES if name != "healthy"]
BROKEN_MINUS_HEALTHY += [(name, UNTRAINED) for name in ("healthy", "m = 0")]


def collapse_rows(config: Pretraining) -> list[Row]:
    """BYOL as it is and broken in one place each; a collapsed run goes on to its end."""
    return [
        Row(name, replace(config, on_collapse="continue", **changes))
        for name, changes in CHANGES.items()
    ]


def record_collapse(
    path: str | Path, config: Pretraining, seeds: Sequence[int], folder: Path | None = None
) -> dict[str, Any]:
    """Train what is not yet recorded and write the record; `gain` is over the untrained encoder of the same seed.

    Data, start and order of batches are those of the seed, the same for all rows. Each row has the monitors along its
    run, `history`: by name the step and one value a seed. A record that is there keeps its seeds and rows and gets
    the others. Raises ValueError when it has other settings, and what `train` raises.
    """
    finished, rows = Finished(folder), collapse_rows(config)
    settings = {row.name: asdict(row.config) for row in rows} | {"ways": {KEPT: 5, STUDENT: 5}}
    earlier, lines = load(path), {}
    if earlier:
        same = {name: settings.get(name) for name in earlier["config"]}
        if earlier["config_hash"] != config_hash(_known_to(earlier["config"], same)):
            raise ValueError(f"{path} has other settings; move it away or choose another folder")
        lines, seeds = _lines(earlier), list(dict.fromkeys([*earlier["seeds"], *seeds]))
    for seed in seeds:
        if lacking := [row for row in rows if (row.name, seed) not in lines]:
            data = train_and_test("", config, seed=seed)
            lines |= _trained(Protocol(data, seed, "cpu", finished=finished), lacking)
            finished.runs.clear()  # spectrograms of one seed at a time
    if earlier and not finished.results:
        return earlier
    scores = {
        name: {c: np.array([[lines[name, seed][c]] for seed in seeds]) for c in (KEPT, STUDENT)}
        for name in (UNTRAINED, *BASELINES, *CHANGES)
    }
    values = [record_row(name, row, scores[UNTRAINED]) for name, row in scores.items()]
    for value in values[-len(CHANGES) :]:
        histories = (lines[value["name"], seed]["history"] for seed in seeds)
        value["history"] = [
            {"step": points[0][0]}
            | {name: [point[k] for point in points] for k, name in enumerate(HISTORY) if k}
            for points in zip(*histories, strict=True)
        ]
    first = train_and_test("", config, seed=seeds[0])
    return record_study(
        path,
        SCALE,
        [first.test],
        about=[f"{first.note}; each seed of training makes its own clips"],
        device="cpu",
        seeds=seeds,
        seconds=finished.seconds,
        config=settings,
        values=values,
        notes=[f"{config.steps} steps of {config.batch_size} clips; 5-way 1-shot accuracy."],
        earlier=earlier,
    )


def _trained(protocol: Protocol, rows: list[Row]) -> Lines:
    """The lines of one seed: what these rows became, the random start and the baselines."""
    results = run_rows(protocol, rows)
    scores = {row["name"]: row["mean"] for row in baseline_rows(protocol)}
    scores[UNTRAINED] = results[0]["untrained"]
    trained = {
        result["name"]: {KEPT: result["mean"], STUDENT: result["student"]}
        | {"history": result["history"]}
        for result in results
    }
    lines = {name: dict.fromkeys((KEPT, STUDENT), score) for name, score in scores.items()}
    return {(name, protocol.seed): line for name, line in (lines | trained).items()}


def _lines(entry: dict[str, Any]) -> Lines:
    """The lines that a record was made of."""
    lines = {}
    for row in entry["values"]:
        for k, seed in enumerate(entry["seeds"]):
            line = {column: cell["by_seed"][k] for column, cell in row["columns"].items()}
            if "history" in row:
                line["history"] = [
                    [point["step"], *(point[name][k] for name in HISTORY[1:])]
                    for point in row["history"]
                ]
            lines[row["name"], seed] = line
    return lines


def _known_to(earlier: Any, settings: Any) -> Any:
    """The settings without switches that are off and that came after the earlier ones were recorded."""
    if not isinstance(settings, dict) or not isinstance(earlier, dict):
        return settings
    return {
        name: _known_to(earlier.get(name), value)
        for name, value in settings.items()
        if name in earlier or value is not False
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, record and say where the record is."""
    parser = CommandParser(
        prog="python -m audiossl_lite.experiments.long_runs",
        description="BYOL, healthy and broken, longer than chapter 04 runs it, over seeds: a quarter of an hour of "
        "one core each.",
    )
    parser.add_argument("--out", default="runs/long", help="the record, and what is finished")
    parser.add_argument("--seeds", type=ranged("n_seeds", int), default=3, help="default: 3")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default: {STEPS}")
    asked = parser.parse_args(arguments)
    if asked.steps < 1:
        parser.error(f"--steps is at least 1, got {asked.steps}")
    torch.set_num_threads(1)
    config = preset("byola", SCALE, SMALLER | {"steps": asked.steps})
    path = Path(asked.out) / "records" / f"{RECORD}.json"
    try:
        record_collapse(path, config, range(asked.seeds), Path(asked.out) / "rows")
    except ValueError as error:
        parser.error(str(error))
    print(f"recorded in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
