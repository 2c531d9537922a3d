"""What a chapter's run is too short to show, trained longer over seeds.

`python -m audiossl_lite.experiments.long_runs`: BYOL as chapter 04 breaks it, for more steps, on embedded sounds. The
same command with the same folder goes on after an interruption, and adds seeds to the record that it finds there.
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

from audiossl_lite.common.commands import CommandParser
from audiossl_lite.common.ranges import ranged
from audiossl_lite.experiments.ablations import HISTORY, Protocol, Row, baseline_rows, run_rows
from audiossl_lite.experiments.build import train_and_test
from audiossl_lite.experiments.records import config_hash, load, record_row, recorded_scores
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
    run, `history`: by name the step and one value a seed. A record that is there keeps its seeds and gets the others.
    Raises ValueError when it has other settings, and what `train` raises.
    """
    finished, rows, by_seed = Finished(folder), collapse_rows(config), []
    settings = {row.name: asdict(row.config) for row in rows} | {"ways": {KEPT: 5, STUDENT: 5}}
    earlier = load(path)
    if earlier and earlier["config_hash"] != config_hash(_known_to(earlier["config"], settings)):
        raise ValueError(f"{path} has other settings; move it away or choose another folder")
    if earlier and not (seeds := [seed for seed in seeds if seed not in earlier["seeds"]]):
        return earlier
    protocols = [
        Protocol(train_and_test("", config, seed=seed), seed, "cpu", finished=finished)
        for seed in seeds
    ]
    for protocol in protocols:
        by_seed.append(run_rows(protocol, rows))
        finished.runs.clear()  # spectrograms of one seed at a time
    column = partial(_column, by_seed)
    scores = {UNTRAINED: {c: column(0, "untrained") for c in (KEPT, STUDENT)}}
    for lines in zip(*map(baseline_rows, protocols), strict=True):
        score = np.array([[line["mean"]] for line in lines])
        scores[lines[0]["name"]] = dict.fromkeys((KEPT, STUDENT), score)
    histories = {}
    for number, row in enumerate(rows):
        scores[row.name] = {KEPT: column(number, "mean"), STUDENT: column(number, "student")}
        points = zip(*(results[number]["history"] for results in by_seed), strict=True)
        histories[row.name] = [
            {"step": lines[0][0]}
            | {name: [line[k] for line in lines] for k, name in enumerate(HISTORY) if k}
            for lines in points
        ]
    if earlier:
        there = recorded_scores(earlier)
        scores = {
            name: {c: np.concatenate([there[name][c][:, None], new]) for c, new in row.items()}
            for name, row in scores.items()
        }
        for row in earlier["values"]:
            for old, new in zip(
                row.get("history", ()), histories.get(row["name"], ()), strict=True
            ):
                new |= {name: old[name] + new[name] for name in HISTORY[1:]}
    values = [
        record_row(name, row, scores[UNTRAINED])
        | ({"history": histories[name]} if name in histories else {})
        for name, row in scores.items()
    ]
    tested = [protocol.data.test for protocol in protocols]
    return record_study(
        path,
        SCALE,
        tested[:1],
        about=[f"{protocols[0].data.note}; each seed of training makes its own clips"],
        device="cpu",
        seeds=[*(earlier["seeds"] if earlier else ()), *seeds],
        seconds=finished.seconds + (earlier["seconds"] if earlier else 0),
        config=settings,
        values=values,
        notes=[f"{config.steps} steps of {config.batch_size} clips; 5-way 1-shot accuracy."],
    )


def _known_to(earlier: Any, settings: Any) -> Any:
    """The settings without switches that are off and that came after the earlier ones were recorded."""
    if not isinstance(settings, dict) or not isinstance(earlier, dict):
        return settings
    return {
        name: _known_to(earlier.get(name), value)
        for name, value in settings.items()
        if name in earlier or value is not False
    }


def _column(by_seed: list[list[dict[str, Any]]], row: int, name: str) -> np.ndarray:
    return np.array([[results[row][name]] for results in by_seed])


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
