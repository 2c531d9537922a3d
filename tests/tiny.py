"""Small notebooks and a small project for tests, so that they need not run a real chapter."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat

from audiossl_lite.book.chapters import Project, this_project

PARAMETERS_CELL = (
    'preset = "lite"\ndata_root = ""\noutput_dir = ""\nseed = 0\ndevice = "auto"\noverrides = ""'
)
CHECK_CELL = (
    "from audiossl_lite.book.notebook import check_parameters\n\n"
    "parameters = check_parameters(globals())"
)


def write_notebook(
    path: Path,
    code: Sequence[str] = (),
    *,
    title: str = "A tiny chapter",
    parameters: str = PARAMETERS_CELL,
    check: str = CHECK_CELL,
) -> Path:
    """Write a notebook that starts as every chapter does and goes on with `code`."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    notebook.cells = [
        nbformat.v4.new_markdown_cell(f"# {title}", id="title"),
        nbformat.v4.new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(check, id="check"),
    ]
    notebook.cells += [
        nbformat.v4.new_code_cell(source, id=f"cell-{index}") for index, source in enumerate(code)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def tiny_project(root: Path, code: Sequence[str], check: str = CHECK_CELL) -> Project:
    """Make a project with one chapter, one library file, a lock file and the real book settings."""
    project = Project(root)
    (project.library / "book").mkdir(parents=True)
    (project.library / "losses.py").write_text("SCALE = 1\n")
    (project.library / "book" / "build.py").write_text("# builds\n")
    project.lock.write_text("numpy==1\n")
    write_notebook(project.notebooks / "01_tiny.ipynb", code, check=check)
    real = this_project().book
    project.book.mkdir(exist_ok=True)
    for name in ("_config.yml", "references.bib", "appendix_references.md"):
        shutil.copy(real / name, project.book / name)
    # The real first page links to chapters that are not here.
    (project.book / "intro.md").write_text("# A small book\n")
    for name in ("_vendor", "_static", "images"):
        shutil.copytree(real / name, project.book / name)
    return project
