"""The study's tables and sentences: paired by the seeds that rows share, silent without an interval."""

from __future__ import annotations

import numpy as np

from audiossl_lite.book import study_report
from audiossl_lite.evaluation.statistics import as_text, mean_interval
from audiossl_lite.experiments.records import record
from audiossl_lite.experiments.settings.uamix import START, VARIANTS
from audiossl_lite.experiments.workshop import gain_by_seed

TASKS = ("a, never heard", "b, never heard")


def row(name, seeds, *by_task):
    columns = {
        task: {"by_seed": list(values), "mean": float(np.mean(values)), "ci95": None}
        for task, values in zip(TASKS, by_task, strict=True)
    }
    return {"name": name, "columns": columns} | ({"seeds": seeds} if seeds else {})


def entry(*rows):
    return {"values": list(rows), "config": {"ways": dict.fromkeys(TASKS, 5)}}


STUDY = entry(
    row("log-mel statistics", None, [40.0], [50.0]),
    row("AudioMAE, untrained", [0, 1, 2], [30.0, 31.0, 32.0], [50.0, 50.1, 50.2]),
    row("AudioMAE", [0, 1, 2], [50.0, 51.5, 52.0], [45.0, 45.2, 45.4]),
    row("No Mixing", [0, 1, 2], [51.0, 52.6, 53.0], [44.0, 45.3, 46.4]),
    row("MixUp + LS", [2], [60.0], [40.0]),
)


def test_rows_have_their_seeds_the_average_first_and_no_seed_of_a_baseline():
    rows = study_report.study_rows(study_report.study_scores(STUDY))
    assert [r["seeds"] for r in rows] == ["–", 3, 3, 3, 1]
    assert list(rows[0]) == ["features", "seeds", "average", "a", "b"]
    assert rows[0]["average"] == "45.0" and rows[4]["average"] == "50.0"
    assert rows[2]["average"] == as_text(*mean_interval(np.array([47.5, 48.35, 48.7])))
    (one,) = study_report.study_rows(study_report.study_scores(STUDY, ["AudioMAE"]))
    assert one == rows[2]


def test_a_run_stands_against_its_start_task_by_task_and_against_every_baseline():
    assert study_report.start_of("MixUp + LS") == "AudioMAE"
    assert study_report.start_of("ATST") == "ATST, untrained"
    assert study_report.above_and_below(STUDY, "AudioMAE", "AudioMAE, untrained") == (["a"], ["b"])
    assert study_report.above_and_below(STUDY, "No Mixing", "AudioMAE") == (["a"], [])
    # One seed in common: no interval, no word.
    assert study_report.above_and_below(STUDY, "MixUp + LS", "AudioMAE") is None
    assert study_report.study_verdicts(STUDY) == [
        "**AudioMAE** is above its start (AudioMAE, untrained) on 1 of 2 tasks and below on 1; above each baseline of "
        "the table on 1.",
        "**No Mixing** is above its start (AudioMAE) on 1 of 2 tasks and below on 0; above each baseline of the table "
        "on 1.",
    ]


def test_the_table_of_chapter_09_takes_rows_that_have_all_seeds():
    scores = study_report.tuning_scores(STUDY)
    assert list(scores) == ["log-mel statistics", "untrained encoder", START, "No Mixing"]
    assert scores[START]["average"].tolist() == [47.5, 48.35, 48.7]
    assert study_report.tuning_scores(entry(STUDY["values"][0])) == {}


def test_a_curve_begins_at_the_start_of_its_run():
    study = entry(*STUDY["values"][:3], row("MixUp + LS", [2], [60.0], [40.0]))
    points = [{"seconds": 60.0, "step": 10, "average": 46.0, "average_ci95": 0.5},
              {"seconds": 120.0, "step": 30, "average": 47.0, "average_ci95": None}]  # fmt: skip
    for line in study["values"][2:]:
        line |= {"curve": points}
    curves = study_report.study_curves(study)
    assert list(curves) == ["AudioMAE"], "what is tuned goes on from another curve"
    start, *rest = curves["AudioMAE"]
    assert start[:2] == (0.0, np.mean([40.0, 40.55, 41.1])) and start[2] > 0
    assert rest == [(1.0, 46.0, 0.5), (2.0, 47.0, 0.0)]
    (costed,) = study_report.study_curves(study, {"AudioMAE": 0.5}).values()
    assert [point[0] for point in costed] == [0.0, 5.0, 15.0]
    assert study_report.study_curves(study, {"ATST": 0.5}) == {}


def test_a_record_of_an_earlier_study_says_so(tmp_path):
    def of(steps):
        return {"config": {"AudioMAE": {"steps": steps}}}

    assert study_report.which_study(of(3000), tmp_path) == ""  # no study to differ from
    record(
        tmp_path / "sounds_workshop.json", experiment="x", scale="workshop", data="", device="",
        data_fingerprint="", seeds=[0], seconds=1.0, values=[row("AudioMAE", [0], [1.0], [1.0])],
        config=of(12_000)["config"],
    )  # fmt: skip
    assert study_report.which_study(of(12_000), tmp_path) == ""
    said = study_report.which_study(of(3000), tmp_path)
    assert "AudioMAE had 3,000 steps" in said and "has given it 12,000 since" in said


def test_what_is_missing_is_said():
    assert study_report.missing_runs(STUDY, ["AudioMAE", "MixUp + LS", "EAT"]) == (
        "Of 9 runs, 3 seeds of 3 rows, 4 are recorded so far."
    )
    assert study_report.missing_runs(STUDY, ["AudioMAE"]).startswith("All 3 runs are recorded")
    assert set(VARIANTS) <= set(study_report.RUNS)


def test_a_gain_is_paired_by_the_seeds_that_both_rows_have():
    np.testing.assert_allclose(gain_by_seed(STUDY, "No Mixing", "AudioMAE"), [0.0, 0.6, 1.0])
    shuffled = entry(
        STUDY["values"][2], row("No Mixing", [2, 4, 0], [53.0, 9.0, 51.0], [46.4, 9.0, 44.0])
    )
    np.testing.assert_allclose(gain_by_seed(shuffled, "No Mixing", "AudioMAE"), [0.0, 1.0])
    np.testing.assert_allclose(
        gain_by_seed(STUDY, "AudioMAE", "log-mel statistics"), [2.5, 3.35, 3.7]
    )
    assert gain_by_seed(STUDY, "ATST", "AudioMAE").size == 0
