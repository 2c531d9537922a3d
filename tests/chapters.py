"""The real chapters, executed once for all tests, from the same results that `make book` uses."""

from __future__ import annotations

import functools
from pathlib import Path

from audiossl_lite.book.chapters import refresh_chapters, this_project
from audiossl_lite.book.gate import read_notebook

CHAPTERS = this_project().chapter_paths()
NAMES = [path.stem for path in CHAPTERS]


WANTED: list[str] = []  # chapters that the tests of this session ask for; see `tests/conftest.py`


@functools.cache
def run_chapters(*names: str) -> dict[str, str]:
    """Bring chapters up to date; return why each that failed did."""
    records = refresh_chapters(this_project(), only=names)
    return {
        record.name: f"{record.status}: {record.reason} (log: {record.log})"
        for record in records
        if not record.ok
    }


def executed_chapter(name: str) -> Path:
    """The executed notebook of a chapter that ran to its end; fails the test otherwise."""
    failures = run_chapters(*(WANTED if name in WANTED else [name]))
    assert name not in failures, f"{name} {failures[name]}"
    path = this_project().executed() / f"{name}.ipynb"
    assert read_notebook(path)["cells"]
    return path
