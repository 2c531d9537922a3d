"""Pin: a fold has one title, of the cell, for eye and screen reader; whatever the cell's text is, it is no markup."""

from __future__ import annotations

from types import SimpleNamespace

from myst_nb.sphinx_ import HideCodeCellNode

from audiossl_lite.book import theme


def test_a_fold_is_named_once_by_its_cell() -> None:
    told: dict = {}
    app = SimpleNamespace(
        connect=lambda event, act, priority: told.update({event: act}),
        setup_extension=lambda name: told.setdefault("after", name),
        add_node=lambda node, **options: told.update({"node": node} | options),
    )
    assert theme.setup(app)["parallel_read_safe"]
    assert told["after"] == "myst_nb" and told["node"] is HideCodeCellNode and told["override"]
    enter, leave = told["html"]
    page = SimpleNamespace(body=[])
    node = HideCodeCellNode(prompt_show="Plot <b>", prompt_hide="Hide code cell source")
    node["classes"].append("above-input")
    enter(page, node)
    leave(page, node)
    html = "".join(page.body)
    assert '<summary><p class="admonition-title">Plot &lt;b&gt;</p></summary>' in html
    assert 'class="admonition hide above-input"' in html and html.count("</details>") == 1
    assert "aria-label" not in html and "Hide code" not in html

    own, thebe = (SimpleNamespace(filename=name, attributes={}) for name in ("book.js", "thebe.js"))
    context = {"script_files": [own, thebe]}
    told["html-page-context"](app, "page", "page.html", context, None)
    assert context["script_files"] == [own], "no page starts a kernel"
