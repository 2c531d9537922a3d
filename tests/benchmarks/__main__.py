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

from audiossl_lite.chapters import this_project
from audiossl_lite.results import device_name, record
from audiossl_lite.roofline import Clock
from tests.benchmarks.data_pairs import DATA_PAIRS
from tests.benchmarks.pairs import PAIRS, Pair
from tests.benchmarks.step_pairs import STEP_PAIRS, gpu_step_pair, utilisation_rows

REPEATS = 5


def best_s(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The shortest of several calls: processor time on a CPU, which other programs disturb least."""
    times = []
    for _ in range(repeats):
        clock = Clock(device)
        function()
        times.append(clock.seconds())
    return min(times)


def measured(make: Callable[[], Pair]) -> dict[str, Any]:
    """Both times of a pair, after a check that its sides agree."""
    pair = make()
    device = torch.device(getattr(pair, "device", "cpu"))
    difference = pair.difference()
    if difference > pair.tolerance:
        raise SystemExit(f"{pair.name}: results differ by {difference:.3g}")
    repeats = getattr(pair, "repeats", REPEATS)
    obvious, fast = (best_s(side, device, repeats) for side in (pair.obvious, pair.fast))
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


def run(pairs: Sequence[Callable[[], Pair]], rows_of_gpu: list[dict], output: Path) -> list[dict]:
    """Run every pair, print the table and write it; the rows."""
    print(f"processor time, {torch.get_num_threads()} thread, best of {REPEATS} (3 for long ones)")
    print(f"{'what':<62} {'obvious ms':>10} {'fast ms':>9} {'ratio':>7} {'difference':>11}")
    rows = []
    for make in pairs:
        rows.append(measured(make))
        print(table_line(rows[-1]), flush=True)
    for row in rows_of_gpu:
        value = row["value"]
        print(f"{row['name']:<62} {value if isinstance(value, str) else f'{100 * value:.1f} %'}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"pairs": rows, "gpu": rows_of_gpu}, indent=1) + "\n")
    return rows


def keep(path: Path, rows: list[dict], rows_of_gpu: list[dict], seconds: float) -> dict[str, Any]:
    """The ratios as a recorded run; what needs a GPU and had none is named in its note."""
    missing = [row["name"] for row in rows_of_gpu if isinstance(row["value"], str)]
    reached = [row for row in rows_of_gpu if not isinstance(row["value"], str)]
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
        values=[row | {"mean": row["ratio"], "ci95": None} for row in rows]
        + [row | {"mean": row["value"], "ci95": None} for row in reached],
        note=f"Not run: {'; '.join(missing)}." if missing else "",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """All pairs; on a GPU also the step there and model FLOPs utilisation."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep as a recorded run, too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pairs = [*PAIRS, *DATA_PAIRS, *STEP_PAIRS]
    if torch.cuda.is_available():
        pairs.append(gpu_step_pair)
    began, rows_of_gpu = time.perf_counter(), utilisation_rows()
    rows = run(pairs, rows_of_gpu, this_project().build / "bench.json")
    if options.record:
        keep(options.record, rows, rows_of_gpu, time.perf_counter() - began)


if __name__ == "__main__":
    main()
