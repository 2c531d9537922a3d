"""Pin: what the appendix repeats of the code is what the code says today."""

from __future__ import annotations

import pytest

from tests.book import reference_pages
from tests.book.library_index import ROOT


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOSSL_PROGRESS", "off")


def test_the_pages_with_made_parts_are_found():
    names = {path.name for path in reference_pages.pages()}
    assert names == {"appendix_data.md", "appendix_equations.md", "appendix_faults.md"}
    text = "".join((ROOT / "book" / name).read_text() for name in names)
    assert all(f"% made: {part}\n" in text for part in reference_pages.PARTS)


def test_the_made_parts_are_current():
    stale = [
        path.name
        for path in reference_pages.pages()
        if reference_pages.renewed(path.read_text()) != path.read_text()
    ]
    assert stale == [], f"run {reference_pages.COMMAND}"


def test_a_stale_part_is_noticed_and_the_text_around_it_stays():
    stale = "before\n\n% made: skips\n\noutdated text\n\n% end of skips\n\nafter\n"
    new = reference_pages.renewed(stale)
    assert new != stale and "outdated" not in new and "not finite" in new
    assert new.startswith("before\n\n% made: skips\n") and new.endswith("% end of skips\n\nafter\n")
    assert reference_pages.renewed(new) == new
