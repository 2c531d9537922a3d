"""Pin: the page of the library has every public module, package and definition, as sphinx reads them."""

from __future__ import annotations

import re

import docutils.core
import pytest

from audiossl_lite.book.api import MARK, as_rst, module_names, with_modules
from tests.book.library_index import LIBRARY, ROOT, all_definitions

PAGE = ROOT / "book" / "appendix_api.md"


def test_every_public_module_has_its_section() -> None:
    files = {path.relative_to(ROOT).with_suffix("") for path in LIBRARY.rglob("*.py")}
    dotted = {".".join(path.parts).removesuffix(".__init__") for path in files}
    public = {name for name in dotted if not name.rpartition(".")[2].startswith("_")}
    assert set(module_names()) == public - {"audiossl_lite"}
    page = with_modules(f"before\n\n{MARK}\n")
    assert page.startswith("before\n\n## `audiossl_lite.") and MARK not in page
    assert [f".. automodule:: {name}\n" in page for name in module_names()] == [True] * len(
        public - {"audiossl_lite"}
    )
    assert MARK in PAGE.read_text()


def test_the_names_that_others_call_come_first() -> None:
    named = set(re.findall(r"[`~.](\w+)`", PAGE.read_text().split(MARK)[0]))
    known = {item.name for item in all_definitions()}
    others = named & known
    assert {
        "ATSTFrontend",
        "atst_small",
        "load_shipped",
        "t_cutmix",
        "byol_loss",
        "few_shot_accuracy",
    } <= others


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("One `(B, D)`, two `n`s of *args.", "One (B, D), two ns of *args."),
        ("A sum |x|_2 over a_ and __b__.", "A sum |x|_2 over a_ and __b__."),
        ("In two\nlines.\n\nErrors: `x`.", "In two lines.\n\nErrors: x."),
        ("Eq. 2.\nWhere: ATST Sec. 2; chapter 05", "Eq. 2.\n\nWhere: ATST Sec. 2; chapter 05"),
        ("Use:\n\n    a = 1\n    b = 2", "Use:\n\na = 1\nb = 2"),
    ],
)
def test_a_docstring_is_shown_as_it_is_written(text: str, shown: str) -> None:
    settings = {"report_level": 1, "halt_level": 1}  # any complaint is an error
    tree = docutils.core.publish_doctree("\n".join(as_rst(text)), settings_overrides=settings)
    assert tree.astext() == shown
