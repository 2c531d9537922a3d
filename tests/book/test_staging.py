"""Pin: pages show current prose with the outputs of its own code, or are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from audiossl_lite.book.chapters import RECORD as IN_METADATA
from audiossl_lite.book.chapters import refresh_chapters
from audiossl_lite.book.gate import cell_source, code_cells, read_notebook
from audiossl_lite.book.staging import (
    StagingError,
    appendix_rank,
    graft,
    stage_book,
    table_of_contents,
)
from tests.book.test_incremental import edit_notebook
from tests.tiny import tiny_project

RECORD = {"seconds": 12.4, "peak_mib": 300, "parameters": {"preset": "lite", "seed": 2}}


def cell(kind: str, source: str, **more: object) -> dict[str, object]:
    return {"cell_type": kind, "metadata": {}, "source": source, **more}


def test_outputs_move_onto_the_new_text() -> None:
    current = {
        "metadata": {},
        "cells": [cell("markdown", "# New title"), cell("code", "a"), cell("markdown", "new")],
    }
    output = {"output_type": "stream", "name": "stdout", "text": "1"}
    executed = {
        "metadata": {"widgets": {"state": 1}, "papermill": {"end_time": "x"}},
        "cells": [
            cell("markdown", "# Old title"),
            {**cell("code", "seed = 2"), "metadata": {"tags": ["injected-parameters"]}},
            cell("code", "a", outputs=[output], execution_count=2),
        ],
    }
    page = graft(current, executed, RECORD)
    assert [cell_source(item) for item in page["cells"]][::2] == ["# New title", "a"]
    assert "scale lite | 12 s | 300 MiB of memory | seed 2 | embedded sounds" in cell_source(
        page["cells"][1]
    )
    assert code_cells(page)[0]["outputs"] == [output]
    assert page["metadata"] == {"widgets": {"state": 1}}
    assert "outputs" not in current["cells"][1], "the source is left as it is"


def test_other_code_is_refused() -> None:
    current = {"metadata": {}, "cells": [cell("code", "a = 2")]}
    executed = {"metadata": {}, "cells": [cell("code", "a = 1")]}
    with pytest.raises(StagingError, match="differ"):
        graft(current, executed, RECORD)


def test_contents_hold_what_exists_in_its_part_and_order() -> None:
    chapters = [
        Path(f"{name}.ipynb") for name in ("10_few_shot", "02_b", "15_z", "05_atst", "01_a")
    ]
    pages = [
        Path(f"{name}.md") for name in ("intro", "appendix_references", "appendix_glossary", "zoo")
    ]
    contents = table_of_contents(chapters, pages)
    assert contents["root"] == "book/intro"
    assert [
        (part["caption"], [entry["file"] for entry in part["chapters"]])
        for part in contents["parts"]
    ] == [
        ("Foundations", ["notebooks/01_a", "notebooks/02_b"]),
        ("Teacher-student", ["notebooks/05_atst"]),
        ("Evaluation", ["notebooks/10_few_shot"]),
        (
            "Appendices",
            ["notebooks/15_z", "book/appendix_glossary", "book/zoo", "book/appendix_references"],
        ),
    ]


def test_references_come_after_unknown_appendices() -> None:
    names = ["appendix_references", "appendix_zzz", "appendix_api", "appendix_notation"]
    ordered = sorted((Path(f"{name}.md") for name in names), key=appendix_rank)
    assert [path.stem for path in ordered] == [names[3], names[2], names[1], names[0]]


@pytest.mark.notebook
def test_a_book_is_staged_from_complete_runs_only(tmp_path: Path) -> None:
    project = tiny_project(tmp_path / "project", ["print('shown on the page')"], check="pass")
    staged = tmp_path / "staged"
    with pytest.raises(StagingError, match="01_tiny has no complete run"):
        stage_book(project, staged)
    refresh_chapters(project, say=lambda line: None)
    edit_notebook(project.notebooks / "01_tiny.ipynb", 0, "# Edited title")
    stage_book(project, staged)
    page = read_notebook(staged / "notebooks" / "01_tiny.ipynb")
    assert cell_source(page["cells"][0]) == "# Edited title"
    assert "shown on the page" in json.dumps(page)
    config = yaml.safe_load((staged / "_config.yml").read_text())
    assert config["sphinx"]["config"]["myst_substitutions"]["version"]
    assert yaml.safe_load((staged / "_toc.yml").read_text())["root"] == "book/intro"

    executed = project.executed() / "01_tiny.ipynb"
    notebook = read_notebook(executed)
    notebook["metadata"]["papermill"]["exception"] = True
    executed.write_text(json.dumps(notebook))
    with pytest.raises(StagingError, match="01_tiny has no complete run"):
        stage_book(project, staged)
    notebook["metadata"]["papermill"]["exception"] = None
    notebook["metadata"].pop(IN_METADATA)
    executed.write_text(json.dumps(notebook))
    with pytest.raises(StagingError, match="no complete run"):
        stage_book(project, staged)
