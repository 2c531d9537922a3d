"""Folds of a page say what is in them, to the eye and to a screen reader: a sphinx extension.

A chapter names its folds in the metadata of a cell, `mystnb: {code_prompt_show: "Plot"}`. What myst-nb makes of it
has a label of its own beside the visible words, and other words once it is open; here one title stands for all.
"""

from __future__ import annotations

from html import escape
from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Register with sphinx, after myst-nb."""
    from myst_nb.sphinx_ import HideCodeCellNode

    def enter(translator: Any, node: Any) -> None:
        title = f'<p class="admonition-title">{escape(node["prompt_show"])}</p>'
        classes = " ".join(node["classes"])
        translator.body.append(
            f'<details class="admonition hide {classes}">\n<summary>{title}</summary>\n'
        )

    def leave(translator: Any, node: Any) -> None:
        translator.body.append("</details>\n")

    app.setup_extension("myst_nb")
    app.add_node(HideCodeCellNode, override=True, html=(enter, leave))
    return {"parallel_read_safe": True}
