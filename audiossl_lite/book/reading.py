"""What the build adds for a reader: numbers of tables and figures, times to read and to run, results up front."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from audiossl_lite.book.gate import cell_source, cell_tags
from audiossl_lite.book.words import plain

WORDS_A_MINUTE = 200  # of prose, by an adult reader
LINES_A_MINUTE = 15  # of code that stands open
STRIP = "run-strip"  # the cell under a title that says how the page was run
PLACE = re.compile(r"^% build: (\w+) ?(.*)$", re.MULTILINE)
FIGURE = '<figure class="shown"'
SHOWN = re.compile(FIGURE + r".*?<figcaption>(.*?)</figcaption>", re.DOTALL)
# To a page that is made after the others, so that no page of the book is its source.
SLIDES = (
    'One a slide: <a href="../slides.html">all figures as slides</a>, for the screen and for paper.'
)
CAPTION = re.compile(rf"(<caption>|{FIGURE}.*?<figcaption>)", re.DOTALL)


def html_outputs(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The data of each output that is HTML, in the order of the page."""
    for cell in page["cells"]:
        for output in cell.get("outputs") or []:
            if "text/html" in output.get("data", {}):
                yield output["data"]


def number_captions(page: dict[str, Any], chapter: int) -> None:
    """Write `Table 4.2.` and `Figure 4.1.` before the captions of an executed chapter, in its outputs.

    A figure is an anchor too: `figure-4-1`.
    """
    counts = {"Table": 0, "Figure": 0}

    def numbered(match: re.Match[str]) -> str:
        kind = "Table" if match[1] == "<caption>" else "Figure"
        counts[kind] += 1
        opening = match[1].replace(FIGURE, f'{FIGURE} id="figure-{chapter}-{counts[kind]}"', 1)
        return f'{opening}<span class="number">{kind} {chapter}.{counts[kind]}.</span> '

    for data in html_outputs(page):
        data["text/html"] = CAPTION.sub(numbered, "".join(data["text/html"]))


def minutes_to_read(page: Mapping[str, Any]) -> int:
    """Minutes to read a chapter: its prose, the sentences that it makes, and the code that stands open.

    Answers and solutions count; sounds, figures, tables, folded code and the line on the run do not.
    """
    words = lines = 0
    for cell in page["cells"]:
        if cell.get("id") == STRIP:
            continue
        text = cell_source(cell)
        if cell["cell_type"] == "markdown":
            words += len(text.split())
            continue
        lines += 0 if any(t.startswith("hide-") for t in cell_tags(cell)) else len(text.split("\n"))
        for output in cell.get("outputs") or []:
            words += len("".join(output.get("data", {}).get("text/markdown", "")).split())
    return max(1, round(words / WORDS_A_MINUTE + lines / LINES_A_MINUTE))


def title_of(page: Mapping[str, Any]) -> str:
    """The title of a chapter, without the hash."""
    return cell_source(page["cells"][0]).lstrip().splitlines()[0].removeprefix("# ")


def times(pages: Mapping[str, dict[str, Any]], seconds: Mapping[str, float]) -> str:
    """A table of the chapters: minutes to read, and how long the run took that made the pages."""
    rows = [
        f"| [{title_of(page)}](../notebooks/{name}.ipynb) | {minutes_to_read(page)} min | "
        + (f"{seconds[name]:.0f} s |" if name in seconds else "not run |")
        for name, page in pages.items()
    ]
    total = sum(map(minutes_to_read, pages.values()))
    return "\n".join(
        [
            "| chapter | to read | to run, as it made this page |",
            "|---|---|---|",
            *rows,
            f"| all | {total / 60:.0f} h | {sum(seconds.values()) / 60:.0f} min |",
        ]
    )


def excerpt(pages: Mapping[str, dict[str, Any]], where: str) -> str:
    """What a cell of a chapter shows, `12_tsne c12-005`, as HTML for another page; a sentence where it was not run."""
    name, cell_id = where.split()
    shown = [
        "".join(data["text/html"])
        for cell in pages.get(name, {"cells": []})["cells"]
        if cell.get("id") == cell_id
        for data in html_outputs({"cells": [cell]})
    ]
    if not shown:
        return f"(Chapter {name[:2]} was not run here, so its result is missing.)"
    body = "\n".join(shown)
    return f"``````{{raw}} html\n{body}\n``````"


def figures(pages: Mapping[str, dict[str, Any]]) -> str:
    """The way to the slides, and a list of the numbered figures of all chapters, folded."""
    lines = []
    for name, page in pages.items():
        found = [m[1] for data in html_outputs(page) for m in SHOWN.finditer(data["text/html"])]
        texts = [html.unescape(re.sub(r"<[^>]+>", "", caption)) for caption in found]
        lines += [f"- [{name[:2]}](../notebooks/{name}.ipynb): {plain(text)}" for text in texts]
    fold = [":::{admonition} Figures", ":class: dropdown", *lines, ":::"]
    return "\n".join([SLIDES, "", *fold])


def filled(text: str, pages: Mapping[str, dict[str, Any]], seconds: Mapping[str, float]) -> str:
    """The first page with what the build knows in place of its lines `% build: times` and `% build: excerpt ...`."""
    makers: dict[str, Callable[[str], str]] = {
        "times": lambda _: times(pages, seconds),
        "excerpt": lambda where: excerpt(pages, where),
        "figures": lambda _: figures(pages),
    }
    return PLACE.sub(lambda match: makers[match[1]](match[2]), text)
