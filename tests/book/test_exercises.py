"""Pin: an exercise's stub fails its check and its solution passes it, in the helper and on every page that has one."""

from __future__ import annotations

import ast

import pytest

from audiossl_lite.book.exercises import OPEN, PASSED, attempt
from audiossl_lite.book.gate import cell_source, code_cells, read_notebook
from tests.chapters import CHAPTERS, executed_chapter

WITH_CHECKS = {path.stem: 3 for path in CHAPTERS}  # three levels each


def check(answer) -> None:
    if answer(2) != 4:
        raise AssertionError("twice two is four")


def stub(x):
    raise NotImplementedError


def test_a_stub_a_wrong_and_a_right_answer_are_told_apart(capsys) -> None:
    for answer in (stub, lambda x: x + 1, lambda x: 2 * x):
        attempt(check, answer)
    said = capsys.readouterr().out.splitlines()
    assert (
        said[0].startswith(OPEN)
        and said[1] == "not right yet: twice two is four"
        and said[2] == PASSED
    )
    with pytest.raises(ZeroDivisionError):
        attempt(check, lambda x: x / 0)


def attempts(cell: dict) -> list[str]:
    """The answers that a cell asks a check about, as they stand in the code."""
    calls = [n for n in ast.walk(ast.parse(cell_source(cell))) if isinstance(n, ast.Call)]
    return [ast.unparse(call.args[1]) for call in calls if ast.unparse(call.func) == "attempt"]


def test_every_stub_stands_open_and_its_solution_in_a_fold() -> None:
    found = {}
    for path in CHAPTERS:
        cells = [c for c in code_cells(read_notebook(path)) if attempts(c)]
        stubs = [c for c in cells if "raise NotImplementedError" in cell_source(c)]
        if not cells:
            continue
        assert all(not c["metadata"].get("tags") for c in stubs), path.stem
        solutions = [c for c in cells if c not in stubs]
        assert all("hide-cell" in c["metadata"]["tags"] for c in solutions), path.stem
        assert len(stubs) == len(solutions)
        found[path.stem] = len(stubs)
    assert found == WITH_CHECKS


@pytest.mark.notebook
@pytest.mark.parametrize("name", WITH_CHECKS)
def test_stubs_fail_and_solutions_pass(name: str) -> None:
    said = []
    for cell in code_cells(read_notebook(executed_chapter(name))):
        if attempts(cell):
            text = "".join("".join(out.get("text", "")) for out in cell["outputs"])
            said.append((text.startswith(OPEN), PASSED in text))
    n = WITH_CHECKS[name]
    assert said == [(True, False), (False, True)] * n, "a stub, then its solution"
