"""Pin: the search page shows pieces of what it found when the book is opened from disk, and never as markup."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audiossl_lite.book.search import add_excerpts, parts_of, shortened, text_of
from tests.book.browser import BROWSER, Browser

PAGE = """
A page
======

Words before. The markup ``<img src=x onerror="document.title='run'">`` is text.

Second part
-----------

A zither rings, and nothing else does.
"""


def test_text_is_what_a_reader_sees() -> None:
    page = (
        '<head>no</head><article><h1>A<a class="headerlink" href="#a">#</a></h1><!-- no -->'
        '<style>no</style><script>no</script><input oninput="if (a > b) no()">'
        '<section id="one"><p><span>np</span>.mean &lt;b&gt;</p><table><td>1</td><td>2</td></table>'
        '<section class="x" id="two"><h2>B</h2></section></section></article><p>no</p>'
    )
    assert parts_of(page) == [("", "A"), ("one", "np.mean <b> 1 2"), ("two", "B")]
    assert parts_of("<p>a page that leads on</p>") == [] and text_of("<p>a</p>b") == "a b"


def test_the_longest_pages_are_cut() -> None:
    pages = {"long": [("", "a" * 60), ("b", "b" * 40)], "short": [("", "c" * 20)]}
    cut = shortened(pages, limit=80)
    assert cut["short"] == pages["short"] and cut["long"][1] == ("b", "")
    assert 70 < sum(len(words) for parts in cut.values() for _, words in parts) <= 80
    assert shortened(pages, limit=120) == pages


@pytest.fixture(scope="module")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page and a search page, as Sphinx and the theme of the book make them."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "in" / "notebooks").mkdir(parents=True)
    (folder / "in" / "notebooks" / "01_a.rst").write_text(PAGE)
    (folder / "in" / "index.rst").write_text("First\n=====\n\n.. toctree::\n\n   notebooks/01_a\n")
    options = ("-q", "-C", "-D", "html_theme=sphinx_book_theme", "-D", "project=small")
    command = [sys.executable, "-m", "sphinx", *options, str(folder / "in"), str(folder / "out")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "out"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


def found(tab: Browser, site: Path, words: str) -> list[str]:
    """The excerpts under the results of a search, on a page opened from disk."""
    tab.open(site / "search.html", f"?q={words}")
    deadline = time.monotonic() + 60
    while not tab.ask("document.querySelector('.search-summary')?.textContent"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    return tab.ask(
        "[...document.querySelectorAll('#search-results .context')].map(p => p.textContent)"
    )


@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome on this machine")
def test_a_search_from_disk_shows_where_the_word_stands(small_site: Path, tab: Browser) -> None:
    assert found(tab, small_site, "zither") == []
    add_excerpts(small_site)
    (excerpt,) = found(tab, small_site, "zither")
    assert "A zither rings, and nothing else does." in excerpt
    of_section = "Second part A zither rings, and nothing else does."
    assert of_section in found(tab, small_site, "Second+part")
    (excerpt,) = found(tab, small_site, "markup")
    assert "<img src=x onerror=" in excerpt
    assert tab.ask("document.querySelector('#search-results img')") is None
    assert tab.errors() == [] and tab.ask("document.title") != "run"
