"""Pin: in a real browser without a network, formulas are drawn and widgets appear.

Needs Chromium or Chrome on the machine; skipped where there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.book.browser import BROWSER, drawn
from tests.book.pages import WIDGET_VIEW, read_page, site_pages

pytestmark = [pytest.mark.book, pytest.mark.notebook]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_every_formula_and_widget_is_drawn(site: Path, tmp_path: Path) -> None:
    missing = {}
    for path in site_pages(site):
        source = read_page(path)
        n_formulas = len(source.select(".math"))
        n_widgets = len(source.find_all("script", type=WIDGET_VIEW))
        if not n_formulas and not n_widgets:
            continue
        page = drawn(path, tmp_path / "profile")
        found = (len(page.select("mjx-container")), len(page.select(".jupyter-widgets")))
        errors = [tag.get_text() for tag in page.select('[data-mml-node="merror"], mjx-merror')]
        if found[0] < n_formulas or found[1] < n_widgets or errors:
            missing[path.name] = (n_formulas, n_widgets, found, errors)
    assert missing == {}
