"""The real book, built once for all tests that read its pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiossl_lite.book.build import build_html
from audiossl_lite.book.chapters import this_project
from audiossl_lite.book.staging import stage_book
from tests.chapters import NAMES, executed_chapter


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list:
    """What a cell would show."""
    caught: list = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw=False: caught.append(data))
    return caught


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real book, built from the executed chapters."""
    for name in NAMES:
        executed_chapter(name)
    folder = tmp_path_factory.mktemp("site")
    staged = folder / "staged"
    stage_book(this_project(), staged)
    build_html(staged, folder / "html", log=folder / "build.log")
    return folder / "html"
