"""Pin: what a chapter shows: source with its place, tables, and the strip under a number."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib import pyplot as plt

from audiossl_lite.book import notebook
from audiossl_lite.book.notebook import (
    compare,
    current_commit,
    open_chapter,
    provenance,
    show_record,
    show_source,
    show_table,
    source_location,
)
from audiossl_lite.common.parameters import DEFAULTS, ParameterError, Parameters, make_parameters
from audiossl_lite.experiments import records as results


def test_provenance_says_scale_device_time_seed_data_and_code(shown: list) -> None:
    parameters = make_parameters({"device": "cpu", "seed": 3, "overrides": "epochs=2"})
    provenance(parameters, seconds=38.2, data="<embedded>")
    parts = shown[0]["text/plain"].split(" | ")
    assert parts[0] == "lite"
    assert re.fullmatch(r"CPU, \d+ threads?", parts[1])
    assert parts[2:5] == ["38 s", "seed 3", "<embedded>"]
    assert parts[5] == current_commit()
    assert parts[6] == "epochs=2"
    assert "&lt;embedded&gt;" in shown[0]["text/html"]


def test_provenance_of_several_seeds(shown: list) -> None:
    provenance(Parameters(device="cpu"), seeds=[0, 1, 2], note="3 runs")
    assert "seeds 0, 1, 2" in shown[0]["text/html"] and "3 runs" in shown[0]["text/html"]


def test_commit_without_git_is_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*arguments: object, **options: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(results.subprocess, "run", no_git)
    assert current_commit() == f"version {results.__version__}"


def test_source_is_shown_with_its_place(shown: list) -> None:
    show_source(show_table)
    assert source_location(show_table).startswith("audiossl_lite/book/notebook.py, line ")
    assert "def show_table" in shown[0]["text/plain"]
    page = shown[0]["text/html"]
    assert source_location(show_table) in page
    assert '<span class="k">def</span>' in page, (
        "classes, so that a page colours it, light and dark"
    )
    assert "<span style=" not in page


def test_shown_code_is_that_of_the_source_line_by_line() -> None:
    source = inspect.getsource(notebook)
    pre = BeautifulSoup(notebook.source_html(source), "html.parser").pre
    assert pre.get_text() == source
    lines = source.splitlines(keepends=True)
    assert [line.get_text() for line in pre.find_all("span", class_="line")] == lines
    indents = [int(line["style"].removeprefix("--indent:")) for line in pre.select(".line")]
    assert indents[source[: source.index("        f'<span class")].count("\n")] == 8


def test_table_from_dicts_and_from_a_frame_agree(shown: list) -> None:
    rows = [{"method": "a<b", "acc": 51.449}, {"method": "c", "acc": float("nan")}]
    for given in (rows, pd.DataFrame(rows)):
        show_table(given, "Accuracy", digits=2)
    page = shown[0]["text/html"]
    assert "a&lt;b" in page and "51.45" in page and "–" in page
    assert "<caption>Accuracy</caption>" in page and page.count("<tr>") == page.count("</tr>") == 3
    assert page.count('scope="col"') == 2 and page.count("text-align:right") == 3
    assert shown[1] == shown[0]
    lines = shown[0]["text/plain"].splitlines()
    assert lines == ["Accuracy", "method | acc", "a<b | 51.45", "c | –"]


def test_a_small_setting_is_not_printed_as_nothing(shown: list) -> None:
    rows = [{"eps": value} for value in (1e-8, -1e-8, 2.5e-12, 0.0, 0.25, float("inf"))]
    show_table(rows, digits=4)
    show_table(rows, digits=1)
    lines = [page["text/plain"].splitlines()[1:] for page in shown]
    assert lines[0] == ["1e-8", "-1e-8", "2e-12", "0.0000", "0.2500", "inf"]
    assert lines[1] == ["0.0", "-0.0", "0.0", "0.0", "0.2", "inf"], "a score keeps its digits"


def test_settings_are_printed_as_they_are_written(shown: list) -> None:
    show_table([{"rate": value} for value in (0.0003, 10.0, 16, None)], digits=None)
    assert shown[0]["text/plain"].splitlines()[1:] == ["0.0003", "10.0", "16", "–"]


@pytest.mark.parametrize(
    ("caption", "page"),
    [
        ("events: accuracy (%)", "Events: accuracy (%)"),
        ("uaMix-MAE, a<b", "uaMix-MAE, a&lt;b"),
    ],
)
def test_a_caption_begins_with_a_capital(caption: str, page: str, shown: list) -> None:
    show_table([{"a": 1}], caption)
    assert f"<caption>{page}</caption>" in shown[0]["text/html"]


def test_table_refuses_no_rows_and_ragged_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        show_table([])
    with pytest.raises(ValueError, match="rows differ"):
        show_table([{"a": 1}, {"b": 2}])


def test_opening_a_chapter_checks_its_parameters_and_sets_the_look() -> None:
    with plt.rc_context({"image.cmap": "gray"}):
        assert open_chapter(DEFAULTS | {"seed": 5}).seed == 5
        assert plt.rcParams["image.cmap"] == "magma"
    with pytest.raises(ParameterError, match="did you mean 'preset'"):
        open_chapter(DEFAULTS | {"prest": "lite"})


def test_a_record_is_shown_with_its_circumstances_or_said_to_be_missing(
    shown: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "recorded", {"ours": {"commit": "abc"}}.get)
    monkeypatch.setattr(notebook, "recorded_scores", lambda entry: {"ATST": 51.0})
    monkeypatch.setattr(notebook, "circumstances", lambda entry: f"code {entry['commit']}")

    def rows(scores: dict) -> list[dict]:
        return [{"features": name, "mean": score} for name, score in scores.items()]

    assert show_record("theirs", rows=rows) is None
    assert shown[0].data == "Record `theirs`: **not run** in this checkout."
    assert show_record("ours", "Scores", rows) == {"commit": "abc"}
    assert shown[1]["text/plain"].splitlines() == [
        "Scores",
        "features | mean",
        "ATST | 51.0",
    ]
    assert shown[2]["text/plain"] == "code abc"
    assert shown[2]["text/html"].startswith("<details") and "0 seeds" in shown[2]["text/html"]


def test_two_settings_or_two_results_stand_side_by_side(shown: list) -> None:
    here, paper = Parameters(preset="lite", seed=1), Parameters(preset="paper", seed=1)
    compare(here, paper, "Changed")
    lines = [page["text/plain"].splitlines() for page in shown]
    assert lines[0] == ["Changed", "setting | this run | paper", "preset | lite | paper"]
    compare(paper, paper)
    assert shown[1]["text/plain"].splitlines() == ["setting | this run | paper", "none | – | –"]
    a, b = {"events": np.array([[60.0, 80.0]])}, {"events": np.array([[30.0, 48.0]])}
    compare(a, b, "Scores", names=("new", "old"))
    assert shown[2]["text/plain"].splitlines() == [
        "Scores",
        "score | new | old | new − old",
        "events | 70.0 ± 13.9 | 39.0 ± 12.5 | +31.0 ± 1.4: better",
    ]
