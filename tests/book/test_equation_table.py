"""Pin: each row of the tables from paper to code to test names things that exist and belong together."""

from __future__ import annotations

import re

from tests.book.library_index import ROOT, all_definitions, mentions, places

PAGE = ROOT / "book" / "appendix_equations.md"
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
OF_EQUATIONS = ("losses", "mixing", "methods/support_queue", "methods/uamix", "views/augmentations")
HOLDERS = {"Mixture", "NNCLRTuning.forward"}  # of what a function below them computes
METHODS_WITHOUT_TEXT = {"forward"}  # described by their class


def test_the_tables_are_found_and_cover_both_papers():
    assert len(EQUATIONS) >= 30 and len(PLACES) >= 50
    for table in (EQUATIONS, PLACES):
        papers = {row[0].split(" ")[0] for row in table}
        assert {"ATST", "BYOL-A", "AudioMAE", "uaMix-MAE", "NNCLR"} <= papers
    assert {f"uaMix-MAE Eq. {n}" for n in (1, 2, 3, 4)} <= {row[0] for row in EQUATIONS}


def test_code_that_names_an_equation_stands_in_the_table_of_equations():
    """The way back: from `Where: ... Eq. n` of the science to a row."""
    listed = {tuple(CODE.fullmatch(row[-1].split("<br>")[0]).groups()) for row in EQUATIONS}
    missing = [
        (item.file, item.name)
        for item in all_definitions()
        if any(" Eq." in place for place in places(item.where))
        and item.file.removeprefix("audiossl_lite/").startswith(OF_EQUATIONS)
        and not any(file == item.file and known.startswith(item.name) for file, known in listed)
        and item.name not in HOLDERS
    ]
    assert missing == []


def faults_of(row: list[str]) -> list[str]:
    """What does not belong together in a row: the place, the code that names it, the test that names the code."""
    place, both = row[0], row[-1]
    code, test = both.split("<br>")
    (file, name), named = CODE.fullmatch(code).groups(), TEST.fullmatch(test)
    item = KNOWN.get((file, name))
    if item is None:
        return [f"{file} has no public {name} with a docstring"]
    faults = []
    if place not in places(item.where):
        faults.append(f"{name} says it is from {item.where!r}, not from {place}")
    owner, _, short = name.rpartition(".")
    wanted = owner if len(row) > 2 and short in METHODS_WITHOUT_TEXT else short
    if named and not mentions((ROOT / named[1]).read_text(), wanted):
        faults.append(f"{named[1]} does not mention {wanted}")
    if not named and (len(row) > 2 or test != "through its callers"):
        faults.append(f"{place}: no test")
    return faults


def test_every_row_names_a_place_its_code_and_a_test_that_names_the_code():
    assert all(formula for _, formula, _ in EQUATIONS)
    assert [fault for row in [*EQUATIONS, *PLACES] for fault in faults_of(row)] == []


def test_a_row_that_does_not_hold_together_is_noticed():
    place, formula, both = EQUATIONS[0]
    other = next(row[-1] for row in EQUATIONS if row[0] != place)
    for row in (["ATST Sec. 9", formula, both], [place, formula, other]):
        assert faults_of(row)
    assert faults_of([place, formula, re.sub(r": \w", ": x", both)])


def test_every_place_in_atst_is_one_that_the_paper_has():
    named = {place for item in all_definitions() for place in places(item.where)}
    atst = {place.removeprefix("ATST ") for place in named if place.startswith("ATST ")}
    assert len(atst) > 5
    assert atst <= OF_ATST, f"not in the paper: {sorted(atst - OF_ATST)}"


def test_how_a_docstring_names_its_places():
    named = {
        "ATST Sec. 3.2 and official code; chapter 11": ["ATST Sec. 3.2", "ATST official code"],
        "ATST Sec. 2.1, 3.1; chapter 05": ["ATST Sec. 2.1", "ATST Sec. 3.1"],
        "BYOL-A Sec. 4.1; ATST Sec. 2.1; chapter 04": ["BYOL-A Sec. 4.1", "ATST Sec. 2.1"],
        "ATST, official code; chapter 05": ["ATST official code"],
        "SimCLR; chapter 04": ["SimCLR"],
        "data2vec 2.0 Sec. 3.1; EAT; chapter 17": ["data2vec 2.0 Sec. 3.1", "EAT"],
        "this project; chapter 04": [],
    }
    assert {where: places(where) for where in named} == named
