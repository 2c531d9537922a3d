"""Every public definition has a docstring; where it implements a paper, a line says which place and which chapter."""

from __future__ import annotations

import ast
import re

import pytest

from tests.book.library_index import LIBRARY, PAPERS, public_nodes

SOURCES = (*PAPERS, "Ericsson")
# Methods that everybody knows from their base class: their class says what they do.
EXEMPT_METHODS = {"forward"}


def problem(node) -> str | None:
    """What is wrong with the docstring of a definition, if anything."""
    text = ast.get_docstring(node)
    if not text:
        return "has no docstring"
    if "Where:" not in text:  # it implements no paper
        return None
    line = text[text.rindex("Where:") + len("Where:") :].strip()
    if len(line.splitlines()) > 2:
        return "says more after its `Where:` line"
    if not any(source in line for source in SOURCES):
        return f"names no known source: {line!r}"
    chapters = re.findall(r"chapter (\S+)", line)
    if len(chapters) < 1 or not all(re.fullmatch(r"\d\d\.?", c) for c in chapters):
        return f"names no `chapter NN`: {line!r}"
    if not all(1 <= int(c[:2]) <= 17 for c in chapters):
        return f"names a chapter that does not exist: {line!r}"
    return None


MODULES = sorted(LIBRARY.rglob("*.py"))


def test_the_package_is_found():
    assert len(MODULES) > 30


def test_every_public_definition_has_a_docstring_and_a_place_that_exists():
    wrong = [
        f"{path.relative_to(LIBRARY)}: {name} {why}"
        for path in MODULES
        for name, node in public_nodes(path)
        if name.rpartition(".")[2] not in EXEMPT_METHODS and (why := problem(node))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is():
    trees = {path: ast.parse(path.read_text()) for path in MODULES}
    silent = [str(p) for p, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert not silent


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('"""Adds. Where: ATST Sec. 3.1; chapter 01"""', None),
        ('"""Adds.\n\nWhere: BYOL-A Eq. 2; chapter 14\n"""', None),
        ('"""Adds."""', None),
        ('"""Adds.\n\nWhere: this project; chapter 01\n"""', "no known source"),
        ('"""Adds.\n\nWhere: somewhere; chapter 01\n"""', "no known source"),
        ('"""Adds.\n\nWhere: ATST Sec. 3.1\n"""', "no `chapter NN`"),
        ('"""Adds.\n\nWhere: ATST; chapter 1\n"""', "no `chapter NN`"),
        ('"""Adds.\n\nWhere: ATST; chapter 18\n"""', "does not exist"),
        ('"""Adds.\n\nWhere: ATST; chapter 00\n"""', "does not exist"),
        ('"""Adds.\n\nWhere: ATST; chapter 02\n\nMore.\n\nAnd more."""', "says more"),
        ("return 1", "no docstring"),
    ],
)
def test_the_rule_itself(text, fault):
    indented = text.replace("\n", "\n    ")
    found = problem(ast.parse(f"def add():\n    {indented}\n").body[0])
    assert (found is None) if fault is None else (fault in found)
