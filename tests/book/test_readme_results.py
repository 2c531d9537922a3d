"""Pin: the README's tables of results are the records', number by number."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from audiossl_lite.evaluation.statistics import judged
from audiossl_lite.experiments.records import recorded, recorded_scores
from audiossl_lite.experiments.workshop import AGAIN, RECORD, RUNS, gain_by_seed
from tests.book import readme_results
from tests.book.library_index import ROOT


def test_the_tables_of_the_readme_are_those_of_the_records():
    text = readme_results.README.read_text()
    assert readme_results.BEGIN in text and readme_results.END in text
    assert readme_results.with_results(text) == text
    made = (readme_results.study_table, readme_results.gpu_table, readme_results.verdict_lines)
    assert all(part() in text for part in made)


def test_the_picture_shows_the_numbers_of_the_records():
    svg = ElementTree.parse(readme_results.PICTURE)
    (drawn,) = svg.findall(".//{http://purl.org/dc/elements/1.1/}description")
    assert drawn.text == readme_results.drawn_numbers()
    assert f"({readme_results.PICTURE.relative_to(ROOT)})" in readme_results.README.read_text()


def test_every_row_of_the_readme_is_one_of_the_study_and_has_its_mean():
    known = {*RUNS, *(f"{name}, untrained" for name in RUNS)}
    names = [name for name in readme_results.SHOWN if "statistics" not in name]
    assert set(names) <= known
    scores = recorded_scores(recorded(RECORD))
    lines = readme_results.study_table().splitlines()
    for name in readme_results.SHOWN:
        if name not in scores:
            continue
        (line,) = [x for x in lines if x.split("|")[1:2] and x.split("|")[1].strip().endswith(name)
                   and x.split("|")[1].strip() in (name, f"uaMix-MAE: {name}")]  # fmt: skip
        mean = scores[name]["events, never heard"].mean()
        assert f"{mean:.1f}" in line.split("|")[4]


def test_the_best_of_a_column_is_bold_and_seeds_are_no_score():
    rows = [
        {"features": "x", "seeds": 3, "a": "40.0 ± 1.0", "b": "3.0"},
        {"features": "y", "seeds": "–", "a": "39.9", "b": "4.0"},
    ]
    assert readme_results._table(rows) == [
        "| features | seeds | a | b |", "|---|---|---|---|",
        "| x | 3 | **40.0 ± 1.0** | 3.0 |", "| y | – | 39.9 | **4.0** |",
    ]  # fmt: skip


def test_a_missing_record_says_not_run(monkeypatch):
    monkeypatch.setattr(readme_results, "recorded", lambda name: None)
    assert readme_results.study_table() == readme_results.verdict_lines() == "Not run."


def test_the_bullets_of_the_readme_call_a_row_what_its_table_calls_it():
    for made in (readme_results.gpu_table(), readme_results.study_table()):
        rows = {line.split("|")[1].strip() for line in made.splitlines() if line.startswith("| ")}
        named = re.findall(r"^- \*\*(.+?)\*\*", made, re.MULTILINE)
        assert named and set(named) <= rows


def test_the_first_page_says_of_the_study_what_its_records_say():
    """It has no numbers: both methods rise, tuning alone lifts, mixing lowers; and what a study costs."""
    study, again = recorded(RECORD), recorded(AGAIN)

    def word(a: str, b: str) -> str:
        return judged(gain_by_seed(study, a, b, again)).rpartition(": ")[2]

    pairs = [("ATST", "ATST, untrained"), ("AudioMAE", "AudioMAE, untrained")]
    pairs += [("No Mixing", "AudioMAE"), ("T-CutMix, rule paper", "No Mixing")]
    assert [word(*pair) for pair in pairs] == ["better", "better", "better", "worse"]
    text = " ".join((ROOT / "book" / "intro.md").read_text().split())
    assert "without it the tuned encoder is better" in text
    minutes = [row["curve"][-1]["seconds"] / 60 for row in study["values"] if row.get("curve")]
    assert "minutes to an hour of one CPU core a run; half a day for all" in text
    assert min(minutes) > 2 and max(minutes) < 60 and 8 < study["seconds"] / 3600 < 18
