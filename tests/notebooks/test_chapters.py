"""Pin: every chapter runs to its end at lite scale, and refuses a misspelt parameter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audiossl_lite.book.chapters import read_record, this_project
from audiossl_lite.book.gate import code_cells, problems, read_notebook
from audiossl_lite.book.run import main
from tests.chapters import CHAPTERS, NAMES, executed_chapter

pytestmark = pytest.mark.notebook

MAX_PEAK_MIB = 3 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_runs_to_its_end_within_its_memory(name: str) -> None:
    executed = executed_chapter(name)
    assert problems(read_notebook(executed)) == []
    record = read_record(executed)
    assert record["status"] == "ok"
    assert record["parameters"]["preset"] == "lite"
    assert record["peak_mib"] <= MAX_PEAK_MIB


def test_the_runner_refuses_a_misspelt_parameter_of_any_chapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = []
    for path in CHAPTERS:
        status = main([str(path), "-o", str(tmp_path / "out.ipynb"), "-p", "prest=lite"])
        said = capsys.readouterr().err
        if status != 2 or "unknown parameter 'prest'; did you mean 'preset'?" not in said:
            accepted.append(path.stem)
    assert accepted == []
    assert list(tmp_path.iterdir()) == []


def test_what_the_chapters_show_names_no_place_on_this_machine() -> None:
    root = str(this_project().root)
    places = [
        f"{name}, cell {cell['id']}"
        for name in NAMES
        for cell in code_cells(read_notebook(executed_chapter(name)))
        if root in json.dumps([out for out in cell["outputs"] if out.get("name") != "stderr"])
    ]
    assert places == []
