"""Pin: no page says of a number what the number beside it denies, and a number of scale lite stands in one place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from audiossl_lite.book.report import ITEMS, STUDY_SHOWN, entries
from tests.book.consistency import (
    contradictions,
    differing_cells,
    markdown_contradictions,
    page_contradictions,
    seeds_claimed,
)
from tests.book.pages import read_page, site_pages
from tests.chapters import CHAPTERS
from tests.conftest import ROOT

MAX_CAPTION = {"caption": 130, "figcaption": 240}  # what a figure shows may take a second line
# How long a chapter runs is measured and stands under its title; a typed time is wrong on the next machine.
RUN_TIME = re.compile(
    r"(?:\b(?:minutes?|seconds?)\b[^.;]{0,25}`lite`|`lite`[^.;]{0,25}\b(?:minutes?|seconds?)\b)"
)

DENIED = (
    "0.89 is the loss. The copier's training loss is lower (0.89 against 0.89).",
    "On hidden patches it is higher (0.84 against 0.89).",
    "the same (0.84 against 0.89)",
    "shipped CNN − log-mel statistics +15.6: unclear",
    "+15.6: better",
    "-0.1 ± 0.1: worse",
    "+1.2 ± 0.4: worse",
    "+1.2 ± 3.4: better",
    "A is above B (-3.0 ± 1.0 points).",
    "ATST is below its random start (-0.4 ± 0.7 points).",
    "A and B cannot be told apart (+3.0 ± 1.0 points).",
    "**effective** is nearer to the truth than **paper** (+1.7 ± 1.1 points).",
    "The score falls from 41.2 to 43.0 %.",
    "The rank rises from 12 to 7.",
    "which is 104 % of the way from different clips to one segment",
    "1315 % more",
)
HOLDS = (
    "The loss is lower (0.86 against 0.89), and the score higher (51 % against 48 %).",
    "the same (0.89 against 0.89)",
    "+15.6",
    "+1.2 ± 0.4: better",
    "+0.0 ± 0.0: unclear",
    "A is above B (+3.0 ± 1.0 points).",
    "*InfoNCE* is below the better baseline (MFCC statistics) (-2.1 ± 1.2 points).",
    "A and B cannot be told apart (+0.5 ± 1.0 points).",
    "A is above its start on 6 of 8 tasks and below on 2; 44.0 ± 0.8 of the baseline",
    "The score falls from 43.0 to 41.2 %, the rank rises from 7 to 12.",
    "100 % found, 50 % more",
)


def test_what_a_number_denies_is_noticed_and_what_it_allows_is_not() -> None:
    assert [text for text in DENIED if not contradictions(text)] == []
    assert [(text, contradictions(text)) for text in HOLDS if contradictions(text)] == []


def test_an_interval_over_seeds_needs_seeds() -> None:
    page = (
        "<table><caption>Scores, ±: 95 % over {} seeds</caption></table>"
        '<details class="provenance"><summary>x</summary>device CPU; seeds [{}]; 9 s</details>'
    )
    one, three = (
        BeautifulSoup(page.format(*n), "html.parser")
        for n in (("three", "0"), ("three", "0, 1, 2"))
    )
    assert list(seeds_claimed(one)) and not list(seeds_claimed(three))


def test_the_readme_says_nothing_that_its_numbers_deny() -> None:
    assert markdown_contradictions((ROOT / "README.md").read_text("utf-8")) == []
    wrong = "- **A** is [above](x.md) B (-3.0 ± 1.0 points).\n- fine\n\n| A | +1.2 ± 3.4: better |"
    assert len(markdown_contradictions(wrong)) == 2


def test_one_record_shown_twice_with_two_numbers_is_noticed() -> None:
    page = (
        "<table><tr><th>features</th><th>a</th></tr><tr><td>ATST</td><td>{}</td></tr></table>"
        '<details class="provenance">CPU; seeds [0]; commit {}; 9 s; 2026</details>'
    )

    def faults(*shown: tuple[str, str]) -> list[str]:
        pages = {
            str(n): BeautifulSoup(page.format(*one), "html.parser") for n, one in enumerate(shown)
        }
        return differing_cells(pages)

    assert len(faults(("41.5 ± 2.0", "c0"), ("41.6", "c0"))) == 1
    assert faults(("41.5 ± 2.0", "c0"), ("42", "c0"), ("41.6", "c1"), ("–", "c0")) == []


@pytest.mark.book
@pytest.mark.notebook
def test_a_recorded_number_is_the_same_on_every_page(site: Path) -> None:
    chapters = sorted((site / "notebooks").glob("*.html"))
    assert differing_cells({path.stem: read_page(path) for path in chapters}) == []


@pytest.mark.book
@pytest.mark.notebook
def test_no_page_contradicts_its_own_numbers(site: Path) -> None:
    faults = {path.name: found for path in site_pages(site) if (found := page_contradictions(path))}
    assert faults == {}


@pytest.mark.book
@pytest.mark.notebook
def test_captions_are_short_and_have_a_number(site: Path) -> None:
    faults = []
    for path in sorted((site / "notebooks").glob("*.html")):
        for tag in read_page(path).select("table.dataframe caption, figure.shown figcaption"):
            text = tag.get_text()
            number = re.match(rf"(?:Table|Figure) {int(path.stem[:2])}\.\d+\. \S", text)
            if not number or len(text) > MAX_CAPTION[tag.name]:
                faults.append(f"{path.stem}: {text}")
    assert faults == []


@pytest.mark.book
@pytest.mark.notebook
def test_the_recorded_table_of_uamix_mae_stands_on_one_page(site: Path) -> None:
    """A table of tasks with the rows that only chapter 09 is to show; the report links there."""
    chapter = STUDY_SHOWN["uaMix-MAE"]

    def has_all_variants(table) -> bool:
        heads = {head.get_text() for head in table.select("th")}
        names = {row.select("td")[0].get_text() for row in table.select("tr:has(td)")}
        return "kitchen scenes" in heads and {"MixUp + LS", "No Mixing"} <= names

    shown = [
        path.stem[:2]
        for path in sorted((site / "notebooks").glob("*.html"))
        if any(map(has_all_variants, read_page(path).select("table.dataframe")))
    ]
    assert shown == [chapter]
    (report,) = (site / "notebooks").glob("14_*.html")
    assert f"shown in chapter {chapter}" in read_page(report).get_text()


def test_a_number_of_scale_lite_stands_on_its_chapter_alone() -> None:
    """A recorded one would differ from the page's, which is made again with every build."""
    assert [key for key, item in ITEMS.items() if entries(item, "lite")] == []


def test_no_chapter_types_how_long_it_runs() -> None:
    typed = [
        (path.stem, match[0])
        for path in CHAPTERS
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
        for match in RUN_TIME.finditer(" ".join("".join(cell["source"]).split()))
    ]
    assert typed == []
