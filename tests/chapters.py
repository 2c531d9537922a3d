"""The real chapters, executed once for all tests, from the same results that `make book` uses."""

from __future__ import annotations

import functools
from pathlib import Path

from audiossl_lite.book.chapters import refresh_chapters, this_project
from audiossl_lite.book.gate import read_notebook

CHAPTERS = this_project().chapter_paths()
NAMES = [path.stem for path in CHAPTERS]


@functools.cache
def run_chapter(name: str) -> str:
    """Bring one chapter up to date; return why it failed, or nothing."""
    records = refresh_chapters(this_project(), only=[name])
    return "; ".join(
        f"{record.status}: {record.reason} (log: {record.log})"
        for record in records
        if not record.ok
    )


def executed_chapter(name: str) -> Path:
    """The executed notebook of a chapter that ran to its end; fails the test otherwise."""
    failure = run_chapter(name)
    assert not failure, f"{name} {failure}"
    path = this_project().executed() / f"{name}.ipynb"
    assert read_notebook(path)["cells"]
    return path
