"""Pin: the book builds without a warning, and each of its pages can be read without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiossl_lite.book.build import BuildError, build_html
from audiossl_lite.book.chapters import refresh_chapters, this_project
from audiossl_lite.book.staging import stage_book
from tests.book.pages import page_faults, site_pages
from tests.chapters import NAMES
from tests.tiny import tiny_project

pytestmark = [pytest.mark.book, pytest.mark.notebook]

RICH_CELLS = [
    "import numpy as np\nfrom matplotlib import pyplot as plt\n"
    "from audiossl_lite.book.notebook import (frames_slider, play_grid, provenance, show_figure,\n"
    "    show_source, show_spectrogram, show_table)",
    "play_grid({'a tone': np.sin(np.arange(8000) / 5)})",
    "ax = show_spectrogram(np.random.default_rng(0).random((50, 16)))\n"
    "show_figure('Fifty frames of random values in sixteen bands.')",
    "frames_slider([plt.figure(), plt.figure()], labels=['one', 'two'], title='empty figures',\n"
    "    caption='Nothing.')",
    "show_source(play_grid)",
    "show_table([{'method': 'none', 'accuracy': 20.0}], 'Chance')\nprovenance(parameters)",
]


def test_the_real_book_has_all_its_pages(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site_pages(site)}
    prose = {f"book/{path.stem}.html" for path in this_project().book.glob("*.md")}
    chapters = {f"notebooks/{name}.html" for name in NAMES}
    assert {"index.html"} | prose | chapters <= pages


def test_no_page_of_the_real_book_has_a_fault(site: Path) -> None:
    faults = {
        path.relative_to(site).as_posix(): found
        for path in site_pages(site)
        if (found := page_faults(path))
    }
    assert faults == {}


def test_every_chapter_page_has_sound_figure_formula_and_its_run(site: Path) -> None:
    imports = '<summary><p class="admonition-title">Imports</p></summary>'
    of_all = ("<img", "This page as run: scale lite", imports)
    of_chapters = (
        "<audio",
        'class="math',
    )  # of the appendices one has a map to listen to, and none a formula
    marks = {name: of_all + of_chapters * (name < "15") for name in NAMES}
    pages = {name: (site / "notebooks" / f"{name}.html").read_text("utf-8") for name in NAMES}
    assert [
        f"{name} lacks {m}" for name, page in pages.items() for m in marks[name] if m not in page
    ] == []
    assert [name for name, page in pages.items() if "Show code cell" in page] == []


def test_a_page_with_everything_on_it_has_no_fault(tmp_path: Path) -> None:
    project = tiny_project(tmp_path / "project", RICH_CELLS)
    records = refresh_chapters(project, say=lambda line: None)
    assert all(record.ok for record in records), records
    staged = tmp_path / "staged"
    stage_book(project, staged)
    build_html(staged, tmp_path / "html", log=tmp_path / "build.log")
    page = tmp_path / "html" / "notebooks" / "01_tiny.html"
    assert page_faults(page) == []
    text = page.read_text(encoding="utf-8")
    for mark in ("<audio", "Fifty frames of random", "empty figures, frame two", "Chance"):
        assert mark in text
    assert "Fifty frames of random" in (tmp_path / "html" / "slides.html").read_text("utf-8")
    assert "Fifty frames of random" in (tmp_path / "html" / "searchtext.js").read_text("utf-8")
    assert "searchtext.js" in (tmp_path / "html" / "search.html").read_text("utf-8")
    assert "searchtext.js" not in text


def test_a_warning_stops_the_build_and_keeps_the_older_site(tmp_path: Path) -> None:
    project = tiny_project(tmp_path / "project", [], check="pass")
    with (project.book / "intro.md").open("a", encoding="utf-8") as file:
        file.write("\nSee [nothing](no_such_page.md) and {cite}`nobody1900`.\n")
    refresh_chapters(project, say=lambda line: None)
    stage_book(project, tmp_path / "staged")
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "index.html").write_text("older")
    for _ in range(2):
        with pytest.raises(BuildError, match=r"book/intro\.md:.*no_such_page"):
            build_html(tmp_path / "staged", tmp_path / "html", log=tmp_path / "build.log")
    assert (tmp_path / "html" / "index.html").read_text() == "older"
