"""Pin: the slides hold each figure of each chapter once, with its words and the way back, and need nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from matplotlib import pyplot as plt

from audiossl_lite.book.figures import show_figure
from audiossl_lite.book.reading import number_captions
from audiossl_lite.book.slides import pictures_as_files, write_slides
from tests.book.browser import BROWSER, Browser
from tests.book.pages import page_faults, read_page

WORDS = (
    "A line that goes up: it costs $5 & more.",
    'Two "squares", one black.',
    "Three plain circles.",
)


@pytest.fixture
def small_site(tmp_path: Path, shown: list) -> Path:
    """Two chapters with figures and one without, a first page that shows one of them, and its pictures as files."""
    for words in WORDS:
        show_figure(words, plt.figure(figsize=(7, 3)))
    outputs = [{"data": data} for data in shown]
    for chapter, part in enumerate((outputs[:2], outputs[2:]), 1):
        number_captions({"cells": [{"outputs": part}]}, chapter)
    figures = [data["text/html"] for data in shown]
    pages = {
        "notebooks/01_a": ("01. A &amp; B", figures[:2]),
        "notebooks/02_b": ("02. C", figures[2:]),
        "notebooks/03_c": ("03. D", []),
        "book/intro": ("First", figures[:1]),
    }
    for name, (title, parts) in pages.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        page = (
            f"<title>{title} &#8212; the book</title><article>{'<p>and</p>'.join(parts)}</article>"
        )
        (tmp_path / f"{name}.html").write_text(page)
    pictures_as_files(tmp_path)
    write_slides(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


def test_each_figure_is_one_slide_with_its_words_and_the_way_back(small_site: Path) -> None:
    page = read_page(small_site / "slides.html")
    slides = page.select("section[id]")
    names = ["figure-1-1", "figure-1-2", "figure-2-1"]
    assert [slide["id"] for slide in slides] == names
    assert tuple(slide.img["alt"] for slide in slides) == WORDS
    assert [slide.a["href"] for slide in slides] == [
        "notebooks/01_a.html#figure-1-1", "notebooks/01_a.html#figure-1-2", "notebooks/02_b.html#figure-2-1"
    ]  # fmt: skip
    assert [slide.a.get_text() for slide in slides] == ["01. A & B", "01. A & B", "02. C"]
    assert slides[0].h2.get_text() == "Figure 1.1. A line that goes up: it costs $5 & more"
    assert [a["href"] for a in page.select("ul a")] == ["#figure-1-1", "#figure-2-1"]
    assert page_faults(small_site / "slides.html") == []


def test_a_picture_is_one_file_for_all_pages(small_site: Path, shown: list) -> None:
    files = sorted(path.name for path in (small_site / "_images").iterdir())
    assert files == ["figure-1-1.png", "figure-1-2.png", "figure-2-1.png"]
    data = BeautifulSoup(shown[0]["text/html"], "html.parser").img["src"].partition(",")[2]
    assert (small_site / "_images" / files[0]).read_bytes() == base64.b64decode(data)
    for name in ("notebooks/01_a", "notebooks/02_b", "book/intro"):
        assert "base64" not in (small_site / f"{name}.html").read_text()
        assert page_faults(small_site / f"{name}.html") == []


@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome on this machine")
def test_arrows_go_on_and_back_and_each_slide_is_a_sheet(small_site: Path, tab: Browser) -> None:
    def press(key: str) -> str:
        for kind in ("keyDown", "keyUp"):
            tab.tell("Input.dispatchKeyEvent", type=kind, key=key)
        tab.ask("new Promise(done => setTimeout(done, 300))")
        return tab.ask("slides.findLast(one => one.getBoundingClientRect().top < 9).id")

    tab.look(1280)
    tab.open(small_site / "slides.html")
    assert [press(key) for key in ("ArrowRight", "PageDown", "ArrowLeft")] == [
        "figure-1-1", "figure-1-2", "figure-1-1"
    ]  # fmt: skip
    printed = base64.b64decode(tab.tell("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert printed.count(b"/Type /Page\n") == 1 + len(WORDS)
    assert tab.errors() == []


@pytest.mark.book
@pytest.mark.notebook
def test_the_slides_of_the_real_book_are_the_figures_of_its_chapters(site: Path) -> None:
    chapters = sorted((site / "notebooks").glob("*.html"))
    selector = "figure.shown:not(:has(.frames))"  # pictures under a slider stay on their page
    figures = [figure for path in chapters for figure in read_page(path).select(selector)]
    slides = read_page(site / "slides.html").select("section[id]")
    assert [(slide["id"], slide.img["alt"]) for slide in slides] == [
        (figure["id"], figure.img["alt"]) for figure in figures
    ]
    assert len(slides) > 80
