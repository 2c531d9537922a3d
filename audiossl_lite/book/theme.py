"""What pages do otherwise than jupyter-book: a sphinx extension.

Folds say what is in them, to the eye and to a screen reader. A chapter names them in the metadata of a cell,
`mystnb: {code_prompt_show: "Plot"}`; what myst-nb makes of it has a label of its own beside the visible words, and
other words once it is open; here one title stands for all. And no page starts a kernel from another host.
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

    def without_kernel(app: Any, page: str, template: str, context: Any, doctree: Any) -> None:
        scripts = context.get("script_files", [])
        context["script_files"] = [
            one for one in scripts if "thebe" not in f"{one.filename} {one.attributes}"
        ]

    app.setup_extension("myst_nb")
    app.connect("html-page-context", without_kernel, priority=900)
    app.add_node(HideCodeCellNode, override=True, html=(enter, leave))
    return {"parallel_read_safe": True}
