"""Decide whether an executed notebook may be shown: a half-run chapter never reaches the book."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INJECTED_TAG = "injected-parameters"


def cell_source(cell: dict[str, Any]) -> str:
    """Return the text of a notebook cell, which the format stores as text or as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def cell_tags(cell: dict[str, Any]) -> list[str]:
    """Return the tags of a notebook cell."""
    return list((cell.get("metadata") or {}).get("tags") or [])


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the non-empty code cells of a chapter, without the one that papermill adds."""
    return [
        cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and cell_source(cell).strip()
        and INJECTED_TAG not in cell_tags(cell)
    ]


def warning_lines(notebook: dict[str, Any]) -> list[str]:
    """Return the lines on standard error that announce a warning; the page does not show them."""
    lines = []
    for cell in code_cells(notebook):
        for output in cell.get("outputs", []):
            if output.get("output_type") == "stream" and output.get("name") == "stderr":
                text = cell_source({"source": output["text"]})
                lines += [line for line in text.splitlines() if "Warning:" in line]
    return lines


def problems(notebook: dict[str, Any]) -> list[str]:
    """Return why an executed notebook must not be shown; an empty list means it may."""
    found = []
    run = notebook.get("metadata", {}).get("papermill", {})
    if not run:
        found.append("it was not executed by the runner")
    elif run.get("exception"):
        found.append("a cell raised an error")
    elif not run.get("end_time"):
        found.append("the run did not reach its end")
    cells = code_cells(notebook)
    errors = [
        f"{output.get('ename', 'error')}: {output.get('evalue', '')}".splitlines()[0]
        for cell in cells
        for output in cell.get("outputs", [])
        if output.get("output_type") == "error"
    ]
    found += [f"an output shows {error}" for error in errors]
    n_missing = sum(1 for cell in cells if cell.get("execution_count") is None)
    if n_missing:
        found.append(f"{n_missing} of {len(cells)} code cells did not run")
    return found


def read_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook file as plain dicts and lists; errors name the file."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as a notebook: {error}") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ValueError(f"{path} is not a notebook: it has no cells.")
    return notebook
