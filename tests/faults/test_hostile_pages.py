"""Pin: a class or file name from data never becomes markup or script in a page; whole chapters: `make faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.book.browser import BROWSER
from tests.faults.hostile_pages import CANARY, CLASSES, became_markup, sweep

pytestmark = [pytest.mark.book, pytest.mark.notebook]
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")


def test_the_first_cells_of_chapter_02_show_hostile_names_as_text(tmp_path: Path) -> None:
    n_pages, wrong = sweep(tmp_path, ["02"], n_cells=11)
    assert (n_pages, wrong) == (1, [])
    page = next(tmp_path.glob("project/_build/html/notebooks/02*.html")).read_text()
    assert "data-canary" in page and "&lt;img src=x onerror" in page, "the names are on the page"


@needs_browser
@pytest.mark.parametrize("name", CLASSES)
def test_the_canary_fires_where_a_name_is_markup(tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<html><body><details>{name}</details></body></html>")
    assert f"{page.name}: the canary fired" in became_markup(page, tmp_path / "profile"), CANARY
