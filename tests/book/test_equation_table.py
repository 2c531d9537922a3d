"""Pin: each row of the tables from paper to code to test names things that exist and belong together."""

from __future__ import annotations

import re

import pytest

from tests.book.library_index import ROOT, all_definitions, mentions, places

PAGE = ROOT / "book" / "appendix_notation.md"
# The numbered sections, figures and tables of the two papers whose text numbers them.
OF_ATST = {
    *("Sec. 1", "Sec. 2", "Sec. 2.1", "Sec. 2.2", "Sec. 2.2.1", "Sec. 2.2.2", "Sec. 3", "Sec. 3.1"),
    *("Sec. 3.2", "Sec. 3.3", "Sec. 3.4", "Sec. 3.5", "Sec. 4", "Fig. 1", "Fig. 2"),
    *("Table 1", "Table 2", "Table 3", "official code"),
}
CODE = re.compile(r"`(audiossl_lite/[\w/]+\.py): ([\w.]+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)`")


def rows(heading: str) -> list[list[str]]:
    """Cells of the body of the first table under a heading."""
    text = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


EQUATIONS = rows("Equations, their code and their test")
PLACES = rows("Every place that the library implements")
KNOWN = {(item.file, item.name): item for item in all_definitions()}
METHODS_WITHOUT_TEXT = {"forward"}  # described by their class


def test_the_tables_are_found_and_cover_both_papers():
    assert len(EQUATIONS) >= 15 and len(PLACES) >= 50
    for table in (EQUATIONS, PLACES):
        assert {"ATST", "BYOL-A"} <= {row[0].split(" ")[0] for row in table}


@pytest.mark.parametrize("row", EQUATIONS, ids=lambda row: f"{row[0]} {row[2]}")
def test_an_equation_has_a_function_and_a_test_that_names_it(row):
    place, formula, both = row
    code, test = both.split("<br>")
    (file, name), (test_file,) = CODE.fullmatch(code).groups(), TEST.fullmatch(test).groups()
    assert formula
    item = KNOWN.get((file, name))
    assert item, f"{file} has no public {name} with a docstring"
    assert place in places(item.where), f"{name} says it is from {item.where!r}, not from {place}"
    text = (ROOT / test_file).read_text()
    owner, _, short = name.rpartition(".")
    wanted = owner if short in METHODS_WITHOUT_TEXT else short
    assert mentions(text, wanted), f"{test_file} does not mention {wanted}"


@pytest.mark.parametrize("row", PLACES, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_place_has_its_function_and_its_test(row):
    place, both = row
    code, test = both.split("<br>")
    file, name = CODE.fullmatch(code).groups()
    assert place in places(KNOWN[(file, name)].where)
    named = TEST.fullmatch(test)
    assert test == "through its callers" or mentions(
        (ROOT / named[1]).read_text(), name.rpartition(".")[2]
    )


def test_every_place_in_atst_is_one_that_the_paper_has():
    named = {place for item in all_definitions() for place in places(item.where)}
    atst = {place.removeprefix("ATST ") for place in named if place.startswith("ATST ")}
    assert len(atst) > 5
    assert atst <= OF_ATST, f"not in the paper: {sorted(atst - OF_ATST)}"


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("ATST Sec. 3.2 and official code; chapter 11", ["ATST Sec. 3.2", "ATST official code"]),
        ("ATST Sec. 2.1, 3.1; chapter 05", ["ATST Sec. 2.1", "ATST Sec. 3.1"]),
        ("BYOL-A Sec. 4.1; ATST Sec. 2.1; chapter 04", ["BYOL-A Sec. 4.1", "ATST Sec. 2.1"]),
        ("ATST, official code; chapter 05", ["ATST official code"]),
        ("SimCLR; chapter 04", ["SimCLR"]),
        ("this project; chapter 04", []),
    ],
)
def test_how_a_docstring_names_its_places(where, found):
    assert places(where) == found
