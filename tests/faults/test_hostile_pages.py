"""Pin: a class or file name from data never becomes markup or script in a page; whole chapters: `make faults`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from audiossl_lite.book.build import make_book
from audiossl_lite.book.gate import cell_source, code_cells, read_notebook
from tests import chapters
from tests.book.browser import BROWSER
from tests.faults.hostile_pages import CANARY, CHAPTERS, CLASSES, became_markup, sweep
from tests.tiny import tiny_project

RAW = {"HTML", "Markdown", "Latex", "Javascript", "SVG", "IFrame", "display", "IPython"}
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")


def shown_raw(code: str) -> set[str]:
    """What of a notebook's code would put text on a page past the helpers that escape it."""
    tree = ast.parse(code)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            whole = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            names |= {part for name in whole for part in name.split(".")}
    return {name for name in names if name in RAW or (name[:6], name[-1:]) == ("_repr_", "_")}


def test_every_chapter_is_swept_and_shows_by_helpers_alone() -> None:
    assert [path.stem[:2] for path in chapters.CHAPTERS] == list(CHAPTERS)
    for path in chapters.CHAPTERS:
        for cell in code_cells(read_notebook(path)):
            assert not shown_raw(cell_source(cell)), path


def test_what_shows_past_the_helpers_is_seen() -> None:
    assert "Markdown" in shown_raw("import IPython.display as d\nd.Markdown(name)")
    assert "HTML" in shown_raw("from IPython.display import HTML")
    assert shown_raw("class A:\n    pass\nA._repr_html_ = f") == {"_repr_html_"}


@pytest.mark.book
@pytest.mark.notebook
def test_a_name_that_a_chapter_forgot_to_escape_is_no_script(tmp_path: Path) -> None:
    show = "from audiossl_lite.book.notebook import reveal, say"
    names = [
        name.replace("![i](x)", "") for name in CLASSES
    ]  # a picture that is missing stops the build
    code = [
        f"{show}\nsay({name!r}, 'forgotten')\nreveal({name!r}, title={name!r})" for name in names
    ]
    index = make_book(tiny_project(tmp_path, code))
    (page,) = (index.parent / "notebooks").glob("*.html")
    wrong = became_markup(page, tmp_path / "profile")
    assert "forgotten" in page.read_text()
    assert [line for line in wrong if "became" not in line] == []


@pytest.mark.book
@pytest.mark.notebook
def test_the_first_cells_of_chapter_02_show_hostile_names_as_text(tmp_path: Path) -> None:
    n_pages, wrong = sweep(tmp_path, ["02"], n_cells=11)
    assert (n_pages, wrong) == (1, [])
    page = next(tmp_path.glob("project/_build/html/notebooks/02*.html")).read_text()
    assert "data-canary" in page and "&lt;img src=x onerror" in page, "the names are on the page"


@needs_browser
@pytest.mark.parametrize("name", CLASSES[:4])
def test_the_canary_fires_where_a_name_is_markup(tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<html><body><details>{name}</details></body></html>")
    wrong = became_markup(page, tmp_path / "profile")
    signs = {f"{page.name}: {sign}" for sign in ("the canary fired", "a link is script")}
    assert signs & set(wrong), CANARY
