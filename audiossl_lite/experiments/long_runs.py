"""What a chapter's run is too short to show, trained longer over seeds.

`python -m audiossl_lite.experiments.long_runs`: BYOL as chapter 04 breaks it, for more steps, on embedded sounds. The
same command with the same folder goes on after an interruption.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiossl_lite.common.parameters import CommandParser
from audiossl_lite.common.ranges import ranged
from audiossl_lite.experiments.ablations import HISTORY, Protocol, Row, baseline_rows, run_rows
from audiossl_lite.experiments.build import train_and_test
from audiossl_lite.experiments.records import record_row
from audiossl_lite.experiments.settings.presets import Pretraining, preset
from audiossl_lite.experiments.studies import Finished, record_study

RECORD, SCALE = "collapse_long", "lite"
STEPS = 200  # chapter 04 stops its broken runs after 33
# Shorter views and fewer clips than in chapter 04: a dozen runs take half an hour of one core.
SMALLER = {"crop_from": "spectrogram", "segment_s": 0.63, "clips_per_class": 10}
UNTRAINED = "untrained encoder"
KEPT, STUDENT = "network that is kept", "student"
# What is changed of the chapter's BYOL, by the name of the row.
CHANGES: dict[str, dict[str, Any]] = {
    "healthy": {},
    "no predictor": {"predictor": False},
    "m = 0": {"momentum": 0.0, "final_momentum": 0.0},
}
# What chapter 04 asks of the record.
BROKEN_MINUS_HEALTHY = [(name, "healthy") for name in CHANGES if name != "healthy"]
BROKEN_MINUS_HEALTHY += [(name, UNTRAINED) for name in ("healthy", "m = 0")]


def collapse_rows(config: Pretraining) -> list[Row]:
    """BYOL as it is and broken in two places; a collapsed run goes on to its end."""
    return [
        Row(name, replace(config, on_collapse="continue", **changes))
        for name, changes in CHANGES.items()
    ]


def record_collapse(
    path: str | Path, config: Pretraining, seeds: Sequence[int], folder: Path | None = None
) -> dict[str, Any]:
    """Train what is not yet trained and write the record; `gain` is over the untrained encoder of the same seed.

    Data, start and order of batches are those of the seed, the same for all rows. Each row has the monitors along its
    run, `history`: by name the step and one value a seed. Raises what `train` raises.
    """
    finished, rows, by_seed = Finished(folder), collapse_rows(config), []
    protocols = [
        Protocol(train_and_test("", config, seed=seed), seed, "cpu", finished=finished)
        for seed in seeds
    ]
    for protocol in protocols:
        by_seed.append(run_rows(protocol, rows))
        finished.runs.clear()  # spectrograms of one seed at a time
    column = partial(_column, by_seed)
    start = {c: column(0, "untrained") for c in (KEPT, STUDENT)}
    values = [record_row(UNTRAINED, start, start)]
    baselines = [baseline_rows(protocol) for protocol in protocols]
    for lines in zip(*baselines, strict=True):
        score = np.array([[line["mean"]] for line in lines])
        values.append(record_row(lines[0]["name"], dict.fromkeys(start, score), start))
    for number, row in enumerate(rows):
        scores = {KEPT: column(number, "mean"), STUDENT: column(number, "student")}
        histories = [results[number]["history"] for results in by_seed]
        history = [
            {"step": lines[0][0]}
            | {name: [line[k] for line in lines] for k, name in enumerate(HISTORY) if k}
            for lines in zip(*histories, strict=True)
        ]
        values.append(record_row(row.name, scores, start) | {"history": history})
    tested = [protocol.data.test for protocol in protocols]
    return record_study(
        path,
        SCALE,
        tested[:1],
        about=[f"{protocols[0].data.note}; each seed makes its own"],
        device="cpu",
        seeds=seeds,
        seconds=finished.seconds,
        config={row.name: asdict(row.config) for row in rows} | {"ways": {KEPT: 5, STUDENT: 5}},
        values=values,
        notes=[f"{config.steps} steps of {config.batch_size} clips; 5-way 1-shot accuracy."],
    )


def _column(by_seed: list[list[dict[str, Any]]], row: int, name: str) -> np.ndarray:
    return np.array([[results[row][name]] for results in by_seed])


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, record and say where the record is."""
    parser = CommandParser(
        prog="python -m audiossl_lite.experiments.long_runs",
        description="BYOL, healthy and broken, longer than chapter 04 runs it, over seeds: some minutes of one core.",
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
    record_collapse(path, config, range(asked.seeds), Path(asked.out) / "rows")
    print(f"recorded in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
