"""Pin: a notebook that did not run to its end, without errors, is never let through."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from audiossl_lite.book.gate import code_cells, problems, read_notebook, warning_lines


def complete() -> dict[str, Any]:
    """A notebook as a complete run leaves it."""
    return {
        "metadata": {"papermill": {"exception": None, "end_time": "2026-01-01T00:00:00"}},
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": "# Title"},
            {
                "cell_type": "code",
                "metadata": {"tags": ["injected-parameters"]},
                "source": "seed = 1",
                "execution_count": 1,
                "outputs": [],
            },
            {
                "cell_type": "code",
                "metadata": {},
                "source": ["print(1)\n", "2"],
                "execution_count": 2,
                "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}],
            },
            {"cell_type": "code", "metadata": {}, "source": " ", "execution_count": None},
        ],
    }


def test_a_complete_run_passes_and_its_cells_are_counted() -> None:
    assert problems(complete()) == []
    assert len(code_cells(complete())) == 1


def test_run_metadata_is_read() -> None:
    for where, value, message in (
        ("exception", True, "a cell raised an error"),
        ("end_time", None, "did not reach its end"),
    ):
        notebook = complete()
        notebook["metadata"]["papermill"][where] = value
        assert any(message in problem for problem in problems(notebook))
    notebook["metadata"] = {}
    assert problems(notebook) == ["it was not executed by the runner"]


def test_an_error_output_and_an_unexecuted_cell_are_refused() -> None:
    notebook = complete()
    broken = copy.deepcopy(notebook)
    broken["cells"][2]["outputs"] = [
        {"output_type": "error", "ename": "KeyError", "evalue": "'x'\nmore", "traceback": []}
    ]
    assert problems(broken) == ["an output shows KeyError: 'x'"]
    notebook["cells"][2]["execution_count"] = None
    assert problems(notebook) == ["1 of 1 code cells did not run"]


def test_warnings_on_standard_error_are_counted() -> None:
    notebook = complete()
    notebook["cells"][2]["outputs"] = [
        {"output_type": "stream", "name": "stderr", "text": "step 1\nx.py:3: UserWarning: low\n"},
        {"output_type": "stream", "name": "stdout", "text": "Warning: only words\n"},
    ]
    assert warning_lines(notebook) == ["x.py:3: UserWarning: low"]


def test_a_file_that_is_no_notebook_is_named(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"a": 1}'):
        (tmp_path / "bad.ipynb").write_text(content)
        with pytest.raises(ValueError, match=r"bad\.ipynb"):
            read_notebook(tmp_path / "bad.ipynb")
