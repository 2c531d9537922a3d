"""Pin: chapters are stored clean, start the same way, and stay small enough to read."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from audiossl_lite.book.chapters import this_project
from audiossl_lite.book.gate import cell_source, cell_tags, code_cells, read_notebook
from audiossl_lite.book.run import declared_parameters
from audiossl_lite.book.staging import table_of_contents
from audiossl_lite.parameters import DEFAULTS
from tests.chapters import CHAPTERS

MAX_CELL_LINES = 60
MAX_CLASS_LINES = 25
PROMISED = ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14")
BY_NAME = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def python_of(cell: dict) -> ast.Module:
    """The syntax tree of a code cell, without magics."""
    lines = [line for line in cell_source(cell).splitlines() if not line.startswith(("%", "!"))]
    return ast.parse("\n".join(lines))


def test_every_promised_chapter_is_there() -> None:
    numbers = [path.stem[:2] for path in CHAPTERS]
    assert set(PROMISED) <= set(numbers)
    assert len(set(numbers)) == len(numbers)


def test_every_notebook_is_a_chapter_and_in_the_contents() -> None:
    assert sorted(this_project().notebooks.glob("*.ipynb")) == CHAPTERS
    contents = table_of_contents(CHAPTERS, [])
    listed = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    assert listed == [f"notebooks/{path.stem}" for path in CHAPTERS]


@BY_NAME
def test_a_chapter_is_valid_and_stored_without_results(path: Path) -> None:
    notebook = read_notebook(path)
    nbformat.validate(nbformat.reads(path.read_text(encoding="utf-8"), as_version=4))
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), f"outputs in cell {cell['id']}"
        assert cell.get("execution_count") is None, f"execution count in cell {cell['id']}"
        assert not {"papermill", "execution"} & set(cell["metadata"]), cell["id"]
        assert "injected-parameters" not in cell_tags(cell)
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)


@BY_NAME
def test_a_chapter_starts_with_title_parameters_and_their_check(path: Path) -> None:
    notebook = read_notebook(path)
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    assert cell_source(first).lstrip().startswith("# ")
    titles = [
        line
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
        for line in cell_source(cell).splitlines()
        if line.startswith("# ")
    ]
    assert len(titles) == 1, titles
    assert declared_parameters(path) == DEFAULTS
    cells = code_cells(notebook)
    tagged = [index for index, cell in enumerate(cells) if "parameters" in cell_tags(cell)]
    assert len(tagged) == 1
    check = cell_source(cells[tagged[0] + 1])
    assert "parameters = check_parameters(globals())" in check.splitlines()


@BY_NAME
def test_cells_are_short_and_classes_live_in_the_library(path: Path) -> None:
    for cell in code_cells(read_notebook(path)):
        n_lines = len(cell_source(cell).splitlines())
        assert n_lines <= MAX_CELL_LINES, f"cell {cell['id']} has {n_lines} lines"
        for node in ast.walk(python_of(cell)):
            if isinstance(node, ast.ClassDef):
                n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert n_lines <= MAX_CLASS_LINES, f"class {node.name} has {n_lines} lines"


@BY_NAME
def test_no_chapter_installs_packages_or_names_a_place_on_one_machine(path: Path) -> None:
    for cell in read_notebook(path)["cells"]:
        source = cell_source(cell)
        places = [f"/{name}/" for name in ("home", "Users", "root", "tmp", "work")]
        for words in ("pip install", "../shared", *places):
            assert words not in source, f"{words!r} in cell {cell['id']}"
