"""Pin: the build numbers what a page shows, says how long it takes, and puts results of chapters on the first page."""

from __future__ import annotations

import copy
import re

import pytest

from audiossl_lite.book.chapters import this_project
from audiossl_lite.book.figures import caption_of
from audiossl_lite.book.gate import cell_source, code_cells, read_notebook
from audiossl_lite.book.reading import PLACE, filled, minutes_to_read, number_captions, times
from audiossl_lite.book.staging import with_strip
from tests.chapters import CHAPTERS

TABLE = "<table><caption>Scores</caption></table>"
FIGURE = '<figure class="shown"><img alt="A curve"><figcaption>A curve</figcaption></figure>'
MAP = "<figure><figcaption>before</figcaption></figure>"  # a panel of a map, which has a name and no number


def code(source: str, *shown: str, **more: object) -> dict:
    outputs = [{"output_type": "display_data", "data": {"text/html": page}} for page in shown]
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": outputs, **more}


def prose(text: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


PAGE = {
    "cells": [
        prose("# 04. A title\n\n" + "word " * 595),
        code("a = 1\n" * 30, TABLE, MAP, id="first"),
        code("b = 2\n" * 300, FIGURE, TABLE) | {"metadata": {"tags": ["hide-input"]}},
    ]
}


def test_tables_and_figures_are_numbered_by_chapter_in_their_order() -> None:
    page = copy.deepcopy(PAGE)
    number_captions(page, 4)
    shown = [o["data"]["text/html"] for cell in page["cells"][1:] for o in cell["outputs"]]
    assert "<caption>" + '<span class="number">Table 4.1.</span> Scores' in shown[0]
    assert shown[1] == MAP
    assert shown[2].startswith('<figure class="shown" id="figure-4-1"><img alt="A curve">')
    assert '<figcaption><span class="number">Figure 4.1.</span> A curve' in shown[2]
    assert "Table 4.2." in shown[3]


def test_reading_time_counts_prose_and_open_code() -> None:
    assert minutes_to_read(PAGE) == 5  # 599 words and 31 open lines; the folded ones are not read
    assert minutes_to_read({"cells": [prose("# Short")]}) == 1
    staged = with_strip(copy.deepcopy(PAGE), "word " * 999)  # as the first page finds it
    assert minutes_to_read(staged) == 5


def test_times_of_the_chapters_are_a_table() -> None:
    rows = times({"04_x": PAGE, "05_y": PAGE}, {"04_x": 61.2}).splitlines()
    assert rows[2] == "| [04. A title](../notebooks/04_x.ipynb) | 5 min | 61 s |"
    assert rows[3].endswith("| 5 min | not run |") and rows[-1].startswith("| all |")


def test_the_first_page_shows_what_a_chapter_shows_or_says_that_it_was_not_run() -> None:
    text = "before\n\n% build: excerpt 04_x first\n\nafter\n"
    page = filled(text, {"04_x": PAGE}, {})
    assert page.startswith("before\n\n``````{raw} html\n" + TABLE) and page.endswith(
        "``````\n\nafter\n"
    )
    assert "Chapter 04 was not run here" in filled(text, {}, {})


def test_the_places_of_the_first_page_name_cells_that_exist() -> None:
    found = PLACE.findall((this_project().book / "intro.md").read_text())
    cells = {path.stem: {c["id"] for c in read_notebook(path)["cells"]} for path in CHAPTERS}
    assert {kind for kind, _ in found} == {"times", "excerpt"}
    for _, where in (place for place in found if place[0] == "excerpt"):
        name, cell_id = where.split()
        assert cell_id in cells[name]


def test_figures_are_listed_by_their_numbers() -> None:
    page = copy.deepcopy(PAGE)
    number_captions(page, 4)
    listed = filled("% build: figures", {"04_x": page}, {})
    assert '<a href="../slides.html">' in listed.splitlines()[0]
    assert listed.splitlines()[4:-1] == [
        "- [04](../notebooks/04_x.ipynb): Figure 4&#46;1&#46; A curve"
    ]


def test_every_chapter_has_a_question_an_assignment_and_a_slide_that_exists() -> None:
    text = (this_project().book / "appendix_teaching.md").read_text()
    lessons = re.findall(
        r"^### (\d\d)\. .*?\*\*Question\.\*\* .*?:class: dropdown\n\S.*?\*\*Assignment\.\*\* .*?\n\| passed \|"
        r".*?\n\|---\|---\|---\|\n\| [^|]+ \| [^|]+ \| [^|]+ \|$",
        text, re.MULTILINE | re.DOTALL,
    )  # fmt: skip
    chapters = [path.stem[:2] for path in CHAPTERS]
    assert lessons == chapters
    slides = re.findall(r"^\| (\d\d) \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)
    assert [number for number, _ in slides] == chapters
    for path, (_, caption) in zip(CHAPTERS, slides, strict=True):
        code = "".join(cell_source(c) for c in code_cells(read_notebook(path)))
        alts = re.sub(r'"\s*\n\s*f?"', "", code)
        assert f'show_figure("{caption}' in alts or f'"{caption}' in alts, caption


@pytest.mark.parametrize(
    ("alt", "caption"),
    [
        (
            "Loss over the steps of two runs: lower is better; lines are means. And more.",
            "Loss over the steps of two runs: lower is better; lines are means",
        ),
        (
            "Left: the loss of both runs. Right: the drift.",
            "Left: the loss of both runs. Right: the drift",
        ),
        (
            "Diagram: a view passes the encoder of the student; " + "very " * 30 + "far. And more.",
            "Diagram: a view passes the encoder of the student",
        ),
        (
            "Dashboard of five panels over training steps (loss, "
            + "spread, " * 20
            + "accuracy) for a run",
            "Dashboard of five panels over training steps",
        ),
        ("Accuracy at 0.5 s and 2.5 s", "Accuracy at 0.5 s and 2.5 s"),
    ],
)
def test_a_caption_is_the_first_sentence_of_a_description_or_how_it_begins(
    alt: str, caption: str
) -> None:
    assert caption_of(alt) == caption
