"""Pin: the README's tables of results are the records', number by number."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from audiossl_lite.book import study_report
from audiossl_lite.evaluation.statistics import judged
from audiossl_lite.experiments.records import recorded, recorded_scores
from audiossl_lite.experiments.settings.uamix import VARIANTS
from audiossl_lite.experiments.workshop import RECORD, RUNS, WEAKER, gain_by_seed
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
    """It has no numbers: what ends above what, from which start tuning lifts, mixing from neither; what it costs."""
    study, weaker = recorded(RECORD), recorded(WEAKER)

    def better(a: str, b: str, entry=study) -> bool:
        return judged(gain_by_seed(entry, a, b)).endswith(": better")

    assert better("ATST", "ATST, untrained") and better("AudioMAE", "AudioMAE, untrained")
    assert all(better("AudioMAE", line) for line in study_report.PLAIN)
    assert any(better(name, "AudioMAE", weaker) for name in VARIANTS)
    tuned = [n for n in VARIANTS if len(gain_by_seed(study, n, "AudioMAE")) > 2]
    assert len(tuned) > 2 and not any(better(name, "AudioMAE") for name in tuned)
    for entry in (study, weaker):
        assert not better("T-CutMix, rule paper", "No Mixing", entry)
    steps = [entry["config"]["AudioMAE"]["steps"] for entry in (study, weaker)]
    assert steps[0] == 4 * steps[1]
    text = " ".join((ROOT / "book" / "intro.md").read_text().split())
    assert "one that was trained four times as long none of them lifts on average" in text
    minutes = [row["curve"][-1]["seconds"] / 60 for row in study["values"] if row.get("curve")]
    assert "minutes to an hour of one CPU core a run; half a day for all" in text
    assert min(minutes) > 2 and max(minutes) < 60 and 8 < study["seconds"] / 3600 < 18
