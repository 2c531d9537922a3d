"""Pin: the README's table of results is the records', number by number."""

from __future__ import annotations

from audiossl_lite.experiments.records import recorded
from tests.book import readme_results


def test_the_table_of_the_readme_is_that_of_the_records():
    text = readme_results.README.read_text()
    assert readme_results.BEGIN in text and readme_results.END in text
    assert readme_results.with_results(text) == text
    assert readme_results.results_table() in text


def test_every_column_exists_in_its_record_and_baselines_are_there():
    for name, columns in readme_results.SHOWN.items():
        entry = recorded(name)
        assert entry is not None
        for row in entry["values"][:2]:
            assert set(columns) <= set(row["columns"]), name
    table = readme_results.results_table()
    for features in ("log-mel statistics", "BYOL-A, untrained", "BYOL-A", "ATST", "uaMix-MAE"):
        assert f"| {features} |" in table


def test_above_both_baselines_means_intervals_apart():
    cells = {
        "log-mel statistics": {"a": "40.0 ± 1.0"},
        "MFCC statistics": {"a": "45.0 ± 1.0"},
        "x": {"a": "48.0 ± 1.5"},
        "y": {"a": "47.0 ± 1.5"},
        "z": {"a": "46.5"},
    }
    assert readme_results.above("a", cells, list(cells)) == "x, z"
    assert (
        readme_results.above("a", {k: cells[k] for k in list(cells)[:2]}, list(cells)[:2]) == "none"
    )


def test_a_missing_record_says_not_run(monkeypatch):
    known = readme_results.recorded

    def without(name):
        return None if name == "linear_workshop" else known(name)

    monkeypatch.setattr(readme_results, "recorded", without)
    assert "not run" in readme_results.results_table()
