"""Pages show what a GPU recorded, and say "not run" where there is nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from audiossl_lite.book import gpu_report
from audiossl_lite.experiments.gpu.stages import FIRST, STAGES
from audiossl_lite.experiments.real_sounds.task import Task
from audiossl_lite.experiments.records import record_row

BY_NAME = {stage.name: stage for stage in STAGES}
COLUMNS = ("events, heard", "events, never heard")


def write(tmp_path, stage: str, values, **more) -> None:
    task = Task(BY_NAME[stage], torch.device("cpu"), 60.0, time.monotonic() - 30.0, tmp_path)
    task.write(values, config={}, **more)


def scores(mean: float) -> dict[str, np.ndarray]:
    return {column: mean + np.array([[-1.0, 0.0, 1.0]]) for column in COLUMNS}


@pytest.fixture
def entries(tmp_path):
    write(tmp_path, "card", [{"name": "bf16 matrix product", "mean": 800.0, "unit": "TFLOP/s"}])
    rows = [
        {"name": "clips per second", "mean": 5120.4, "ci95": None},
        {"name": "model FLOPs utilisation", "mean": 0.42, "ci95": None, "target": 0.4},
        {"name": "peak memory", "mean": None, "ci95": None},
    ]
    kernel = {
        "name": "void at::native::gemm<float, 4>(a::b)",
        "seconds": 0.1,
        "share": 0.5,
        "calls": 48.0,
    }
    profile = {
        "fused": {"longest": [], "idle_share": 0.9},
        "compiled": {"longest": [kernel] * 7, "idle_share": 0.08},
    }
    write(tmp_path, "fast_atst_small", rows, profile=profile, complete=False, headline="fast")
    values = [
        record_row(name, scores(mean), scores(44.0))
        for name, mean in (("log-mel statistics", 44.0), ("ATST, untrained", 42.0), ("ATST", 52.0))
    ]
    values[-1]["curve"] = [
        {"step": 10, "seconds": 5.0, "events, never heard": 47.0},
        {"step": 20, "seconds": 10.0, "events, never heard": 52.0},
    ]
    write(tmp_path, "learnt_atst", values)
    write(tmp_path, "learnt_atst_seed_1", values)
    return gpu_report.gpu_entries(tmp_path / "records")


def test_every_first_stage_has_a_row_and_what_was_not_run_says_so(entries):
    rows = {row["stage"]: row for row in gpu_report.stage_rows(entries)}
    assert [s.title for s in FIRST] == list(rows)[: len(FIRST)]
    assert rows["Card"]["what came out"] == "bf16 matrix product 800 TFLOP/s"
    assert rows["Card"]["seconds"] == "30"
    assert rows["Fast: ATST-Small"]["what came out"] == "fast (cut off)"
    assert rows["Fed"]["what came out"] == "not run"
    assert set(rows) - {s.title for s in FIRST} == {"Learnt: ATST, compact, seed 1"}
    empty = gpu_report.stage_rows({})
    assert len(empty) == len(FIRST) and {row["what came out"] for row in empty} == {"not run"}


def test_speed_shows_aims_and_what_is_missing(entries):
    (row,) = gpu_report.speed_rows(entries)
    assert row["job"] == "ATST-Small" and row["clips/s"] == "5,120"
    assert row["of the measured rate (%)"] == "42 (aim 40)"
    assert row["memory (GiB)"] == "–" and row["kWh"] == "–"
    assert gpu_report.speed_rows({}) == []


def test_the_fastest_form_is_the_one_whose_kernels_are_shown(entries):
    *kernels, idle = gpu_report.kernel_rows(entries["fast_atst_small"])
    assert len(kernels) == 5 and kernels[0]["share of the busy time (%)"] == "50"
    assert kernels[0]["kernel"] == "gemm"
    assert idle["kernel"] == "no kernel runs (compiled): 8 % of the step"
    assert gpu_report.kernel_rows({"profile": {}}) == []
    unseen = {"profile": {"fused": {"longest": [], "idle_share": None}}}
    assert gpu_report.kernel_rows(unseen) == []  # the driver showed no kernels


def test_scores_name_baselines_once_and_seeds_apart(entries):
    rows = {row["features"]: row for row in gpu_report.learnt_rows(entries)}
    assert list(rows) == [
        *("log-mel statistics", "ATST, untrained", "ATST"),
        *("ATST, untrained, seed 1", "ATST, seed 1"),
    ]
    assert rows["ATST"]["events"].startswith("52.0 ± ")
    assert "events, heard" not in rows["ATST"]


def test_a_verdict_counts_the_tasks_on_which_a_difference_is_sure(entries):
    said = gpu_report.verdicts(entries)
    assert said[0] == (
        "**ATST** is above its start (ATST, untrained) on 1 of 1 tasks and below on 0; above each "
        "baseline of the table on 1."
    )
    columns = {
        "a, never heard": 50.0,
        "b, never heard": 50.0,
        "c, never heard": 50.0,
        "d, heard": 50.0,
    }

    def row(name: str, *means: float, **more) -> dict:
        cells = zip(columns, (*means, 0.0), strict=True)
        return {"name": name, "columns": {c: {"mean": m, "ci95": 1.0} for c, m in cells}, **more}

    rows = [
        row("log-mel statistics", 50.0, 40.0, 40.0),
        row("MFCC statistics", 40.0, 47.9, 40.0),
        row("start", 48.5, 48.7, 55.0),  # a difference of two such means has an interval of 1.41
    ]
    rows.append(row("ATST", 50.0, 50.0, 50.0, curve=[{}]))
    said = gpu_report.verdicts({"learnt_atst": {"values": rows}})
    assert said == [
        "**ATST** is above its start (start) on 1 of 3 tasks and below on 1; above each baseline of the "
        "table on 2."
    ]


def test_a_start_that_is_the_end_of_another_run_has_one_row(entries, tmp_path):
    values = [
        record_row(name, scores(mean), scores(44.0))
        for name, mean in (("log-mel statistics", 44.0), ("untrained encoder", 42.0), ("AudioMAE, as pretrained", 49.0))
    ]  # fmt: skip
    write(tmp_path, "learnt_uamix", values)
    rows = gpu_report.learnt_rows(gpu_report.gpu_entries(tmp_path / "records"))
    names = [row["features"] for row in rows]
    assert "AudioMAE, as pretrained" in names and "untrained encoder" not in names


def test_what_was_tuned_in_both_directions_says_so(entries, tmp_path):
    values = [
        record_row(name, scores(mean), scores(44.0))
        for name, mean in (("untrained encoder", 42.0), ("AudioMAE, as pretrained", 49.0))
    ]
    values.append(
        record_row("uaMix-MAE: T-CutMix, rule paper", scores(50.0), scores(44.0)) | {"curve": [{}]}
    )
    for symmetric, title in ((True, "T-CutMix, both directions"), (False, "T-CutMix, rule paper")):
        found = {"learnt_uamix": {"values": values, "config": {"symmetric": symmetric}}}
        assert gpu_report.learnt_rows(found)[-1]["features"] == f"uaMix-MAE: {title}"
        assert f"**uaMix-MAE: {title}**" in gpu_report.verdicts(found)[0]


def test_a_curve_begins_at_the_start_that_was_tuned(entries):
    lines = gpu_report.curves(entries, "events, never heard")
    assert lines["ATST, compact"] == [(0.0, 42.0), (5.0, 47.0), (10.0, 52.0)]
    assert gpu_report.curves(entries, "notes, never heard") == {}


def test_tasks_count_the_runs_that_left_their_start(entries):
    rows = {row["task"]: row for row in gpu_report.moved_rows(entries)}
    assert rows == {"events": {"task": "events", "runs above": 2, "runs below": 0, "of": 2}}


def test_a_run_is_counted_against_its_start_and_against_another_run():
    def run(start, end):
        values = [record_row("start", scores(start), scores(44.0))]
        return {"values": [*values, record_row("x", scores(end), scores(44.0)) | {"curve": [1]}]}

    both = {"a": run(40.0, 50.0), "b": run(45.0, 40.0)}
    assert gpu_report.tally(both, "a") == gpu_report.tally(both, "a", "b") == (1, 0, 1)
    assert gpu_report.tally(both, "b") == gpu_report.tally(both, "b", "a") == (0, 1, 1)
    assert gpu_report.tally(both, "a", "c") is None and gpu_report.against(both, "a", "c") == ""
    assert gpu_report.against(both, "a", "b") == "x is above x on 1 of 1 tasks and below on 0."
