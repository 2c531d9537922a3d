"""`python -m tests.benchmarks`: print how much faster each fast path is in this run, and write `_build/bench.json`.

With `--record FILE` the ratios become a recorded run, as chapter 13 shows it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.book.chapters import this_project
from audiossl_lite.experiments.records import device_name, record
from audiossl_lite.experiments.roofline import best_seconds
from tests.benchmarks.data_pairs import DATA_PAIRS
from tests.benchmarks.pairs import PAIRS, Pair
from tests.benchmarks.step_pairs import STEP_PAIRS

REPEATS = 5


def measured(make: Callable[[], Pair]) -> dict[str, Any]:
    """Both times of a pair, after a check that its sides agree."""
    pair = make()
    device = torch.device("cpu")
    difference = pair.difference()
    if difference > pair.tolerance:
        raise SystemExit(f"{pair.name}: results differ by {difference:.3g}")
    repeats = getattr(pair, "repeats", REPEATS)
    obvious, fast = (best_seconds(side, device, repeats) for side in (pair.obvious, pair.fast))
    return {
        "name": pair.name,
        "obvious_s": obvious,
        "fast_s": fast,
        "ratio": obvious / max(fast, 1e-9),
        "difference": difference,
        "device": device_name(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def table_line(row: dict[str, Any]) -> str:
    """One pair as it is printed."""
    return (
        f"{row['name']:<62} {1e3 * row['obvious_s']:>10.1f} {1e3 * row['fast_s']:>9.1f} "
        f"{row['ratio']:>6.1f}x {row['difference']:>11.2g}"
    )


def run(pairs: Sequence[Callable[[], Pair]], output: Path) -> list[dict]:
    """Run every pair, print the table and write it; the rows."""
    print(f"processor time, {torch.get_num_threads()} thread, best of {REPEATS} (3 for long ones)")
    print(f"{'what':<62} {'obvious ms':>10} {'fast ms':>9} {'ratio':>7} {'difference':>11}")
    rows = []
    for make in pairs:
        rows.append(measured(make))
        print(table_line(rows[-1]), flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"pairs": rows}, indent=1) + "\n")
    return rows


def keep(path: Path, rows: list[dict], seconds: float) -> dict[str, Any]:
    """The ratios as a recorded run."""
    return record(
        path,
        experiment=path.stem,
        scale="paper",
        data="made-up clips",
        data_fingerprint="none",
        device=rows[-1]["device"],
        seeds=[0],
        seconds=seconds,
        config={"torch": torch.__version__, "threads": torch.get_num_threads()},
        values=[row | {"mean": row["ratio"], "ci95": None} for row in rows],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """All pairs, on the CPU; what a GPU does is measured by `make gpu`."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep as a recorded run, too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = run([*PAIRS, *DATA_PAIRS, *STEP_PAIRS], this_project().build / "bench.json")
    if options.record:
        keep(options.record, rows, time.perf_counter() - began)


if __name__ == "__main__":
    main()
