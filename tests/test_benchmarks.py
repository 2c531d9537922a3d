"""Pin: the two sides of every benchmark compute the same thing, so that their ratio means something."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audiossl_lite.experiments.records import load
from tests.benchmarks.__main__ import keep, run
from tests.benchmarks.data_pairs import views_pair
from tests.benchmarks.pairs import Pair, arithmetic_pair, crop_pair, few_shot_pair
from tests.benchmarks.step_pairs import embedding_pair, step_pair

CUTS = ("spectrogram", "waveform")


def sides(result: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """One tensor or several, as several."""
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: few_shot_pair(n_episodes=20, n_clips=600, width=32),
        lambda: arithmetic_pair(n_episodes=20, n_clips=600, width=32),
        lambda: crop_pair(n_clips=6),
        lambda: step_pair("lite", n_clips=3),
        lambda: step_pair("lite", n_clips=3, fast={"precision": "bf16-mixed"}),
        lambda: embedding_pair("lite", n_clips=5, clip_s=0.5),
        *(lambda cut=cut: views_pair(cut, n_clips=3, clip_s=1.5, segment_s=0.8) for cut in CUTS),
    ],
    ids=[
        "few-shot", "few-shot arithmetic", "crop", "step", "step in bf16", "embedding",
        "store of spectrograms", "store of waveforms",
    ],
)  # fmt: skip
def test_both_sides_agree(make: Callable[[], Pair]) -> None:
    pair = make()
    for a, b in zip(sides(pair.fast()), sides(pair.obvious()), strict=True):
        assert a.shape == b.shape
    for _ in range(3):  # memories of views fill and overflow alike
        assert pair.difference() <= pair.tolerance


def test_the_few_shot_problem_is_neither_chance_nor_solved() -> None:
    accuracy = float(few_shot_pair(n_episodes=50).fast().mean())
    assert 0.35 < accuracy < 0.95


def test_another_step_would_be_noticed() -> None:
    pair = step_pair("lite", n_clips=3)
    pair.fast()  # one step ahead
    assert pair.difference() > pair.tolerance


def test_results_are_printed_and_written(tmp_path: Path, capsys) -> None:
    pairs = [
        lambda: few_shot_pair(n_episodes=5, n_clips=300, width=8),
        lambda: crop_pair(n_clips=2),
    ]
    rows = run(pairs, tmp_path / "a" / "bench.json")
    shown = capsys.readouterr().out
    assert all(row["name"] in shown for row in rows)
    written = json.loads((tmp_path / "a" / "bench.json").read_text())
    assert written == {"pairs": rows}
    for row in rows:
        assert row["ratio"] == pytest.approx(row["obvious_s"] / max(row["fast_s"], 1e-9))
        assert {"device", "torch", "threads", "difference"} <= set(row)
    kept = keep(tmp_path / "bench_paper.json", rows, 12.0)
    assert load(tmp_path / "bench_paper.json") == kept
    assert [row["mean"] for row in kept["values"]] == [row["ratio"] for row in rows]


def test_a_pair_that_disagrees_ends_the_run(tmp_path: Path) -> None:
    wrong = Pair("wrong", lambda: torch.zeros(2), lambda: torch.ones(2), 0.5)
    with pytest.raises(SystemExit, match="wrong: results differ by 1"):
        run([lambda: wrong], tmp_path / "bench.json")
