"""Pin: no score is typed. Numbers in prose come from a run, a record or a named source."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator

from audiossl_lite.book.paper_tables import paper_tables
from tests.book.library_index import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]
# A number with the unit of a score; how long a page took is measured by the build.
SCORE = re.compile(
    r"(?<![\w.{])[-+]?\d[\d,]*(?:\.\d+)?\s?(?:%|per ?cent\b|points?\b|±|mAP\b|times (?:faster|slower)\b)"
)
# Words that say where a number is from: the paper, a section, a citation, a formula or arithmetic beside it.
SOURCE = re.compile(r"\{cite\}|\b(?:Table|Fig\.|Sec\.|Eq\.|Figure)\s?\d|\bpaper\b|\{eq\}|authors")
LEVEL = re.compile(r"\b95\s?%|chance(?: is)? \d+\s?%")  # of an interval, of guessing: definitions
# Definitions, questions and arithmetic of exercises: (page, a piece of the paragraph).
NO_SCORE = {
    ("02_sounds", "Will the scores differ by 1 point"),
    ("02_sounds", "with the standard error of one"),
    ("03_views", "A bar of 100 % means"),
    ("08_t_cutmix", "Half of the clip is gone"),
    ("08_t_cutmix", "(worked out: 37.5 %)"),
    ("appendix_differences", "the integer part: 102 of 512"),
    ("appendix_troubleshooting", "a bar stuck at 0 %"),
}


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs and table rows of a page, without code, formulas and fenced programs."""
    # Between these lines `tests.book.readme_results` writes what it reads from the records.
    text = re.sub(
        r"<!-- [^>]*made from book/results -->.*?<!-- end of \w+ -->", "", text, flags=re.S
    )
    text = re.sub(r"```(?:bash|python|\n).*?```", "", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    text = re.sub(r"\$[^$\n]+(?:\n[^$\n]+)?\$", "MATH", text)
    text = re.sub(r"`[^`]*`", "CODE", text)
    for part in re.split(r"\n\s*\n", text):
        yield from part.split("\n") if part.lstrip().startswith("|") else [" ".join(part.split())]


def typed(text: str) -> list[str]:
    """Paragraphs that hold a score and no source."""
    return [
        part for part in paragraphs(text) if SCORE.search(LEVEL.sub("", part)) and not SOURCE.search(part)
    ]  # fmt: skip


def cells(path, kind: str) -> Iterator[str]:
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == kind:
            yield "".join(cell["source"])


def without_exceptions(path, found: list[str]) -> list[str]:
    allowed = [piece for page, piece in NO_SCORE if page == path.stem]
    return [part for part in found if not any(piece in part for piece in allowed)]


def prose(path) -> list[str]:
    """Paragraphs of a page or chapter that hold a score and no source."""
    if path.suffix == ".md":
        return typed(path.read_text())
    return [part for source in cells(path, "markdown") for part in typed(source)]


def sentences(path) -> list[str]:
    """Strings of code cells, f-strings included, that hold a score and no source."""
    return [
        node.value
        for source in cells(path, "code")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and SCORE.search(LEVEL.sub("", node.value))
        and not SOURCE.search(node.value)
    ]


def test_prose_types_no_score():
    pages = [*NOTEBOOKS, *PAGES]
    assert [(p.stem, x) for p in pages for x in without_exceptions(p, prose(p))] == []


def test_sentences_in_code_take_their_scores_from_variables():
    assert [(p.stem, x) for p in NOTEBOOKS for x in without_exceptions(p, sentences(p))] == []


def printed_numbers() -> set[float]:
    """Scores of the papers' tables that are unlikely to appear by chance: with a decimal, not small."""
    return {
        cell[0]
        for table in paper_tables()
        for row in table.rows
        for cell in row.values.values()
        if isinstance(cell, tuple) and cell[0] is not None and cell[0] > 10 and cell[0] % 1
    }


def test_no_table_of_a_paper_is_typed_into_code():
    known = printed_numbers()
    assert len(known) > 60
    typed_in = {}
    for path in NOTEBOOKS:
        for source in cells(path, "code"):
            constants = (
                n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)
            )
            numbers = known & {value for value in constants if isinstance(value, float)}
            if len(numbers) >= 3:
                typed_in[path.stem] = sorted(numbers)
    assert typed_in == {}


def test_a_typed_score_would_be_found():
    assert typed("The teacher reaches 52.1 % after a minute.")
    assert typed("The gain is +1.3 ± 0.4 on events.")
    assert typed("It is 15 times faster than a loop.")
    assert not typed("The paper reports 66.3 % on ESC-50.")
    assert not typed("A 95 % interval, and `52.1 %` as code.")
    assert typed("| row | 51.0 % |\n| paper | 66.3 % |") == ["| row | 51.0 % |"]


def test_every_exception_still_exists():
    paths = {path.stem: path for path in [*NOTEBOOKS, *PAGES]}
    for page, piece in NO_SCORE:
        found = prose(paths[page])
        found += sentences(paths[page]) if paths[page] in NOTEBOOKS else []
        assert any(piece in part or part in piece for part in found), piece
