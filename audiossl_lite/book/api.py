"""The page of the library, name by name: sphinx's autodoc over every module, at build time.

As a sphinx extension it turns docstrings, which are written for people, into what sphinx reads.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import audiossl_lite

MARK = "% every module"
CODE = re.compile(r"(`+[^`]+`+)")

READING_ORDER = (
    "frontends", "losses", "mixing", "encoders", "views", "methods", "training",
    "data", "evaluation", "pretrained", "experiments", "book",
)  # fmt: skip


def module_names() -> list[str]:
    """The public modules and packages of the library: the rooms in the order in which they are read, then the rest."""
    modules = pkgutil.walk_packages(audiossl_lite.__path__, "audiossl_lite.")
    names = [m.name for m in modules if not m.name.rpartition(".")[2].startswith("_")]

    def place(name: str) -> tuple[int, str]:
        room = name.split(".")[1]
        return READING_ORDER.index(room) if room in READING_ORDER else len(READING_ORDER), name

    return sorted(names, key=place)


def with_modules(page: str) -> str:
    """The text of a page with a section for each module in place of its line `% every module`.

    A package lists what can be imported from it; its modules say the rest.
    """
    sections = []
    for name in module_names():
        module = importlib.import_module(name)
        members = [] if hasattr(module, "__path__") else ["   :members:", "   :ignore-module-all:"]
        directive = ["```{eval-rst}", f".. automodule:: {name}", *members, "```"]
        sections.append("\n".join([f"## `{name}`", "", *directive]))
        if not members:
            listed = ", ".join(f"`{item}`" for item in getattr(module, "__all__", ()))
            sections.append(f"Importable from here: {listed or 'its modules'}.")
    return page.replace(MARK, "\n\n".join(sections))


def as_rst(text: str) -> list[str]:
    """A docstring as lines of reStructuredText: nothing outside of code is markup; a paper stands apart."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n|\n(?=Where:)", text.strip()):
        if paragraph.startswith(" "):
            lines += ["::", "", *(f"    {line}" for line in paragraph.splitlines()), ""]
            continue
        pieces = CODE.split(" ".join(paragraph.split()))
        # For sphinx, code that touches a letter is none: an escaped blank, which is not shown, stands between them.
        pieces[::2] = [re.sub(r"([\\*_|`])", r"\\\1", piece) for piece in pieces[::2]]
        pieces[1::2] = [f"\\ ``{piece.strip('`')}``\\ " for piece in pieces[1::2]]
        lines += ["".join(pieces), ""]
    return lines


def setup(app: Any) -> dict[str, bool]:
    """Register with sphinx."""

    def rewrite(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        lines[:] = as_rst("\n".join(lines))

    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", rewrite)
    return {"parallel_read_safe": True}
