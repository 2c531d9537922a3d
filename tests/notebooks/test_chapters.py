"""Pin: every chapter runs to its end at lite scale, and refuses a misspelt parameter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_runner_refuses_a_misspelt_parameter(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(path), "-o", str(tmp_path / "out.ipynb"), "-p", "prest=lite"]) == 2
    assert "unknown parameter 'prest'; did you mean 'preset'?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_plain_papermill_refuses_a_misspelt_parameter(path: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("papermill")), str(path)]
    done = subprocess.run(
        [*command, str(tmp_path / "out.ipynb"), "--no-progress-bar", "-p", "prest", "lite"],
        capture_output=True,
        text=True,
        env=dict(os.environ, AUDIOSSL_PROGRESS="off"),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode != 0
    assert "unknown parameter 'prest'; did you mean 'preset'?" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_what_a_chapter_shows_names_no_place_on_this_machine(name: str) -> None:
    root = str(this_project().root)
    for cell in code_cells(read_notebook(executed_chapter(name))):
        shown = [item for item in cell["outputs"] if item.get("name") != "stderr"]
        assert root not in json.dumps(shown), f"cell {cell['id']} shows {root}"
