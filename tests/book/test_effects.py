"""The appendix of differences: its effects come from records, of real sounds first."""

from __future__ import annotations

import pytest

from audiossl_lite.book.effects import ABOUT, TOKEN, fill_effects
from audiossl_lite.experiments.differences import AVERAGE, BASE, CHANGES
from audiossl_lite.experiments.records import ROOT, record, recorded
from audiossl_lite.experiments.workshop import RECORD as STUDY
from audiossl_lite.experiments.workshop import RUNS

LABELS = [f"{family}: {name}" for family, changes in CHANGES.items() for name in changes]


def test_pages_are_filled_from_records_or_say_not_run(tmp_path):
    text = "| measured(ATST: drop path) | measured(sounds_workshop: A, b minus C) |"
    assert fill_effects(text, tmp_path) == "| not run | *A, b* − *C*: not run |"
    assert fill_effects(ABOUT, tmp_path).endswith("not run.")

    def row(name, gain, half, *by_column, seeds=(0, 1)):
        columns = zip(("events, never heard", "words, never heard"), by_column)
        columns = {c: {"by_seed": v, "gain": gain, "gain_ci95": half} for c, v in columns}
        return {"name": name, "columns": columns} | ({"seeds": list(seeds)} if seeds else {})

    common = {
        "data": "x: 2 clips", "data_fingerprint": "0", "device": "CPU", "seeds": [0, 1],
        "seconds": 1.0, "config": {},
    }  # fmt: skip
    effects = {"drop path": (-1.26, 2.0), "eps of 1e-6": (1.0, 0.5), "heads without bias": (0, 0)}
    effects |= {"student kept": (0.3, 47.2), BASE: (0.0, 0.0)}
    record(
        tmp_path / "differences_lite.json", experiment="differences_lite", scale="lite",
        values=[row(f"ATST: {name}", *cell, [1.0]) for name, cell in effects.items()], **common,
    )  # fmt: skip
    study = [
        row("A, b", 0, None, [3.0, 5.0], [3.0, 5.0]),
        row("C", 0, None, [2.0, 7.0, 1.0], [2.0, 7.0, 1.0], seeds=(1, 2, 0)),
        row("D", 0, None, [1.0], [2.0], seeds=(0,)),
    ]
    record(
        tmp_path / "sounds_workshop.json", experiment="x", scale="workshop", values=study, **common
    )
    assert fill_effects(text, tmp_path) == (
        "| -1.3 ± 2.0 (lite) | *A, b* − *C*: unclear (± 6) (`sounds_workshop`, 2 seeds) |"
    )
    shown = fill_effects("measured(sounds_workshop: D minus A, b)", tmp_path)
    assert shown == "*D* − *A, b*: -1.5 (`sounds_workshop`, one run)"
    assert fill_effects("measured(ATST: student kept)", tmp_path) == "unclear (± 47) (lite)"
    assert fill_effects("measured(ATST: heads without bias)", tmp_path) == "not measured"
    about = fill_effects(ABOUT, tmp_path)
    assert (
        "seeds: 4 at scale `lite` (x, 2 seeds, 5-way 1-shot accuracy, events, never heard)" in about
    )
    assert "1 of these effects leaves zero out, and luck alone gives about 0." in about
    large = row("ATST: drop path", 3.0, 1.0, [1.0])
    large["columns"] = {
        **large["columns"],
        AVERAGE: {"by_seed": [0.0], "gain": 2.0, "gain_ci95": 0.5},
    }
    record(
        tmp_path / "differences_workshop.json", experiment="x", scale="workshop", values=[large],
        **common,
    )  # fmt: skip
    assert fill_effects("measured(ATST: drop path)", tmp_path) == "+2.0 ± 0.5"
    about = fill_effects(ABOUT, tmp_path)
    assert "1 at scale `workshop` (x, 2 seeds, 5-way 1-shot accuracy, the average" in about
    assert (
        "3 at scale `lite` and marked so (x" in about and "2 of these effects leave zero" in about
    )


def test_an_effect_that_no_job_measures_is_an_error():
    with pytest.raises(KeyError, match="no job measures 'ATST: louder'"):
        fill_effects("measured(ATST: louder)")


# Changes of which the appendix shows a larger run instead: of real sounds, over seeds or on a card.
SHOWN_ELSEWHERE = {"uaMix-MAE: both directions", "ATST: student kept"}


def test_the_appendix_asks_for_every_change_and_only_for_those():
    text = (ROOT / "book" / "appendix_differences.md").read_text()
    asked = [label for label in TOKEN.findall(text) if " minus " not in label]
    assert sorted({*asked, *SHOWN_ELSEWHERE}) == sorted(LABELS)
    assert SHOWN_ELSEWHERE.isdisjoint(asked) and text.count(ABOUT) == 1
    fill_effects(text)


def test_the_pairs_of_the_appendix_are_rows_of_their_records_or_of_runs_to_come():
    text = (ROOT / "book" / "appendix_differences.md").read_text()
    pairs = [label for label in TOKEN.findall(text) if " minus " in label]
    for label in pairs:
        name, rows = label.split(": ", 1)
        known = {row["name"] for row in recorded(name)["values"]} | {
            *(RUNS if name == STUDY else ())
        }
        assert set(rows.split(" minus ")) <= known, label
    assert len(pairs) >= 6
