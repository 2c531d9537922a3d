"""`python -m tests.benchmarks`: print how much faster each fast path is in this run."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from tests.benchmarks.pairs import PAIRS

REPEATS = 5


def best_cpu_s(function: Callable[[], object]) -> float:
    """The shortest processor time of several calls: what is least disturbed by other programs."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Run every pair, check that both sides agree, and print the ratio."""
    torch.set_num_threads(1)
    print(f"processor time, one thread, best of {REPEATS}")
    print(f"{'what':<50} {'obvious ms':>10} {'fast ms':>9} {'ratio':>7} {'difference':>11}")
    for make in PAIRS:
        pair = make()
        difference = pair.difference()
        if difference > pair.tolerance:
            raise SystemExit(f"{pair.name}: results differ by {difference:.3g}")
        obvious, fast = best_cpu_s(pair.obvious), best_cpu_s(pair.fast)
        ratio = obvious / max(fast, 1e-9)
        print(
            f"{pair.name:<50} {1e3 * obvious:>10.1f} {1e3 * fast:>9.1f} {ratio:>6.1f}x "
            f"{difference:>11.2g}"
        )


if __name__ == "__main__":
    main()
