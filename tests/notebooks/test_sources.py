"""Pin: chapters are stored clean, start the same way, and stay small enough to read."""

from __future__ import annotations

import ast
from itertools import pairwise

import nbformat

from audiossl_lite.book.chapters import this_project
from audiossl_lite.book.gate import cell_source, cell_tags, code_cells, read_notebook
from audiossl_lite.book.run import declared_parameters
from audiossl_lite.book.staging import table_of_contents
from audiossl_lite.common.parameters import DEFAULTS
from tests.chapters import CHAPTERS

MAX_CELL_LINES = 40
MAX_CLASS_LINES = 25
MAX_COLUMNS = 76
PROMISED = tuple(f"{number:02}" for number in range(1, 18))


def python_of(cell: dict) -> ast.Module:
    """The syntax tree of a code cell, without magics."""
    lines = [line for line in cell_source(cell).splitlines() if not line.startswith(("%", "!"))]
    return ast.parse("\n".join(lines))


def import_lines(cell: dict) -> int:
    """How many lines of a code cell are imports, which every chapter folds away."""
    statements = [x for x in python_of(cell).body if isinstance(x, (ast.Import, ast.ImportFrom))]
    return sum(x.end_lineno - x.lineno + 1 for x in statements)


def test_every_promised_chapter_is_there() -> None:
    numbers = [path.stem[:2] for path in CHAPTERS]
    assert set(PROMISED) <= set(numbers)
    assert len(set(numbers)) == len(numbers)


def test_every_notebook_is_a_chapter_and_in_the_contents() -> None:
    assert sorted(this_project().notebooks.glob("*.ipynb")) == CHAPTERS
    contents = table_of_contents(CHAPTERS, [])
    listed = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    assert listed == [f"notebooks/{path.stem}" for path in CHAPTERS]


def test_every_chapter_is_valid_and_stored_without_results() -> None:
    faults = []
    for path in CHAPTERS:
        notebook = read_notebook(path)
        nbformat.validate(nbformat.reads(path.read_text(encoding="utf-8"), as_version=4))
        cells, metadata = notebook["cells"], notebook["metadata"]
        if not set(metadata) <= {"kernelspec", "language_info"}:
            faults.append(f"{path.stem}: metadata {sorted(metadata)}")
        if metadata["kernelspec"]["name"] != "python3":
            faults.append(f"{path.stem}: kernel {metadata['kernelspec']['name']}")
        if len({cell["id"] for cell in cells}) != len(cells):
            faults.append(f"{path.stem}: two cells of one id")
        faults += [
            f"{path.stem}: {cell['id']} holds a result"
            for cell in cells
            if cell.get("outputs")
            or cell.get("execution_count") is not None
            or {"papermill", "execution"} & set(cell["metadata"])
            or "injected-parameters" in cell_tags(cell)
        ]
    assert faults == []


def test_every_chapter_starts_with_title_parameters_and_their_check() -> None:
    faults = []
    for path in CHAPTERS:
        notebook = read_notebook(path)
        prose = [c for c in notebook["cells"] if c["cell_type"] == "markdown"]
        lines = "\n".join(cell_source(cell) for cell in prose).splitlines()
        first = notebook["cells"][0]
        if not cell_source(first).lstrip().startswith("# ") or first["cell_type"] != "markdown":
            faults.append(f"{path.stem}: no title in its first cell")
        if (n_titles := sum(line.startswith("# ") for line in lines)) != 1:
            faults.append(f"{path.stem}: {n_titles} titles")
        if declared_parameters(path) != DEFAULTS:
            faults.append(f"{path.stem}: other parameters or defaults")
        cells = code_cells(notebook)
        tagged = [index for index, cell in enumerate(cells) if "parameters" in cell_tags(cell)]
        check = cell_source(cells[tagged[0] + 1]).splitlines()
        checks = ("parameters = open_chapter(globals()", "parameters = check_parameters(globals())")
        if len(tagged) != 1 or not any(line.startswith(checks) for line in check):
            faults.append(f"{path.stem}: the cell after the parameters does not check them")
    assert faults == []


def test_cells_are_short_and_classes_live_in_the_library() -> None:
    long = []
    for path in CHAPTERS:
        for cell in code_cells(read_notebook(path)):
            n_lines = len(cell_source(cell).splitlines()) - import_lines(cell)
            blocks = [("cell", n_lines, MAX_CELL_LINES)]
            blocks += [
                (f"class {node.name}", node.end_lineno - node.lineno + 1, MAX_CLASS_LINES)
                for node in ast.walk(python_of(cell))
                if isinstance(node, ast.ClassDef)
            ]
            long += [(path.stem, cell["id"], *block) for block in blocks if block[1] > block[2]]
    assert long == []


def test_every_fold_says_what_is_in_it_and_no_plot_stands_open() -> None:
    faults = []
    for path in CHAPTERS:
        for cell in code_cells(read_notebook(path)):
            title = cell["metadata"].get("mystnb", {}).get("code_prompt_show", "")
            if any(tag.startswith("hide-") for tag in cell_tags(cell)):
                faults += [] if title else [f"{path.stem}: {cell['id']} is a fold without a title"]
            elif "show_figure(" in (code := cell_source(cell)) and "def " not in code:
                faults.append(f"{path.stem}: {cell['id']} shows the code of a plot")
    assert faults == []


def test_no_line_is_wider_than_the_code_column_of_a_page() -> None:
    wide = [
        (path.stem, cell["id"], line)
        for path in CHAPTERS
        for cell in code_cells(read_notebook(path))
        for line in cell_source(cell).splitlines()
        if len(line) > MAX_COLUMNS
    ]
    assert wide == []


def test_no_chapter_installs_packages_or_names_a_place_on_one_machine() -> None:
    places = [f"/{name}/" for name in ("home", "Users", "root", "tmp", "work")]
    named = [
        (path.stem, cell["id"], words)
        for path in CHAPTERS
        for cell in read_notebook(path)["cells"]
        for words in ("pip install", "../shared", *places)
        if words in cell_source(cell)
    ]
    assert named == []


def test_every_chapter_ends_with_the_question_that_the_next_one_answers() -> None:
    faults = []
    for path, following in pairwise(CHAPTERS):
        prose = [c for c in read_notebook(path)["cells"] if c["cell_type"] == "markdown"]
        last = cell_source(prose[-1]).rstrip().splitlines()[-1]
        if path.stem[:2] < "17" and not (
            last.startswith("**Next.** ") and "? " in last and f"({following.name})" in last
        ):
            faults.append(f"{path.stem}: {last[:60]}")
    assert faults == []
