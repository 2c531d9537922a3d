"""Pin: the page for instructors links each figure to itself, not to the top of its chapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.book.pages import read_page
from tests.chapters import CHAPTERS


@pytest.mark.book
@pytest.mark.notebook
def test_a_figure_for_a_class_is_linked_by_the_number_that_it_has(site: Path) -> None:
    page = site / "book" / "appendix_teaching.html"
    faults, n_links = [], 0
    for row in read_page(page).select("table tr:has(a[href*='#figure-'])"):
        _, caption, point = (cell.get_text(" ", strip=True) for cell in row("td"))
        place, _, anchor = row.select_one("a[href*='#figure-']")["href"].partition("#")
        figures = read_page((page.parent / place).resolve()).select("figure.shown[id]")
        shown = {figure["id"]: figure.figcaption.get_text(" ", strip=True) for figure in figures}
        n_links += 1
        right = [name for name, text in shown.items() if caption.replace("’", "'") in text]
        if anchor not in right or anchor.replace("figure-", "").replace("-", ".") not in point:
            faults.append(f"{place}: {caption} is {right}, not {anchor}")
    assert faults == [] and n_links == len(CHAPTERS)
