"""Read the text of built pages for words that their own numbers deny."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bs4 import BeautifulSoup, Tag

from tests.book.pages import read_page

NUMBER = r"[-+−]?\d[\d,]*(?:\.\d+)?"
GAP = rf"(?P<gap>{NUMBER}) ± (?P<half>{NUMBER})"
# A number, its interval if it has one, and the word that a table puts behind it.
JUDGED = re.compile(
    rf"(?P<gap>[-+−]\d+(?:\.\d+)?)(?: ± (?P<half>{NUMBER}))?: (?P<word>better|worse|unclear)\b"
)
GREATER = ("above", "higher than", "farther from", "more than", "ahead of", "better than")
SMALLER = ("below", "lower than", "nearer to", "less than", "behind", "worse than")
LEVEL = ("cannot be told apart",)
SENTENCE = re.compile(
    rf"\b(?P<word>{'|'.join(GREATER + SMALLER + LEVEL)})\b[^()]*?(?:\([^()±]*\)[^()]*?)*\({GAP} "
)
# Two numbers set against each other, after the word that compares them.
AGAINST = re.compile(
    r"\b(?P<word>higher|lower|greater|smaller|more|less|better|worse|the same)\b[^().;]*"
    rf"\((?P<a>{NUMBER})[ %]*against (?P<b>{NUMBER})"
)
MOVES = re.compile(
    rf"\b(?P<word>falls?|fell|drops?|sinks?|rises?|rose|grows?|climbs?) from (?P<a>{NUMBER})[ %]* to (?P<b>{NUMBER})"
)
PER_CENT = re.compile(
    r"\b(?P<n>\d{3,}(?:\.\d+)?) ?% (?:more|less|fewer|better|worse|faster|slower|of the way)\b"
)
OVER_SEEDS = re.compile(r"over (?:\w+ )?(?:training )?seeds(?! where)")
ONE_SEED = re.compile(r"\bseeds \[\d+\]|\b1 seed:")
RUN = re.compile(
    r"\bseeds \[.*?\]; commit .*"
)  # of the fold under a recorded table: one for each record
BLOCKS = ("p", "li", "td", "th", "caption", "figcaption", "summary", "dd", "h2", "h3")


def value(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def judgements(text: str) -> Iterator[str]:
    """Words beside a difference that its interval does not allow."""
    for match in JUDGED.finditer(text):
        gap, word = value(match["gap"]), match["word"]
        if match["half"] is None:
            yield f"a word without an interval: {match[0]}"
            continue
        half = value(match["half"])
        allowed = "unclear" if not abs(gap) > half else "better" if gap > 0 else "worse"
        if word != allowed:
            yield f"{match[0]} (its numbers say {allowed})"
    for match in SENTENCE.finditer(text):
        gap, half, word = value(match["gap"]), value(match["half"]), match["word"]
        holds = (
            gap > half if word in GREATER else gap < -half if word in SMALLER else abs(gap) <= half
        )
        if not holds:
            yield match[0]


def comparisons(text: str) -> Iterator[str]:
    """Two numbers whose order is not the one that the word before them says; shares that are no shares."""
    for match in AGAINST.finditer(text):
        a, b, word = value(match["a"]), value(match["b"]), match["word"]
        order = {"higher": a > b, "greater": a > b, "more": a > b, "the same": a == b}
        order |= {"better": a != b, "worse": a != b}  # of a loss the smaller number is better
        if not order.get(word, a < b):
            yield match[0]
    for match in MOVES.finditer(text):
        a, b = value(match["a"]), value(match["b"])
        up = match["word"].startswith(("r", "g", "c"))
        if not (a < b if up else a > b):
            yield match[0]
    yield from (match[0] for match in PER_CENT.finditer(text))


def contradictions(text: str) -> list[str]:
    """What one paragraph, cell or caption says against its own numbers."""
    text = " ".join(text.split())
    return [*judgements(text), *comparisons(text)]


def seeds_claimed(content: Tag) -> Iterator[str]:
    """Captions that speak of seeds above the fold of a record that has one."""
    for fold in content.select("details.provenance"):
        caption = fold.find_previous("caption")
        if caption and ONE_SEED.search(fold.get_text()) and OVER_SEEDS.search(caption.get_text()):
            yield f"{caption.get_text()}: of one seed"


def blocks(content: Tag) -> Iterator[str]:
    """The text that a reader sees as one piece, without code."""
    for tag in content.find_all(BLOCKS):
        if not tag.find_parent(["pre", "script", "style"]) and not tag.find(BLOCKS):
            yield tag.get_text(" ", strip=True)


def page_contradictions(path: Path) -> list[str]:
    """Everything on one page that its own numbers deny."""
    page: BeautifulSoup = read_page(path)
    content = page.find("article") or page.find("main") or page
    found = [fault for text in blocks(content) for fault in contradictions(text)]
    return [*found, *seeds_claimed(content)]


def markdown_contradictions(text: str) -> list[str]:
    """Everything in a page of Markdown that its own numbers deny, by paragraph, item and cell."""
    plain = re.sub(r"\*\*|\[|\]\([^)]*\)|`", "", text)
    pieces = re.split(r"\n\s*\n|\n(?=- )|\|", plain)
    return [fault for piece in pieces for fault in contradictions(piece)]


def recorded_cells(table: Tag, run: str) -> dict[tuple[str, str, str], str]:
    """The number at the beginning of each cell, by record, row and column; of rows with one name none."""
    head, *rows = ([c.get_text(" ", strip=True) for c in row(["th", "td"])] for row in table("tr"))
    names = [row[0] for row in rows]
    return {
        (run, row[0], column): number[0]
        for row in rows
        for column, cell in zip(head[1:], row[1:], strict=True)
        if names.count(row[0]) == 1 and (number := re.match(NUMBER, cell))
    }


def disagree(a: str, b: str) -> bool:
    """Whether two numbers differ by more than the rounding of the coarser one."""
    digits = min(len(x.partition(".")[2]) for x in (a, b))
    return abs(value(a) - value(b)) > 0.5001 * 10**-digits


def differing_cells(pages: Mapping[str, Tag]) -> list[str]:
    """Cells of one record that are not the same wherever they are shown."""
    seen: dict[tuple[str, str, str], tuple[str, str]] = {}
    faults = []
    for name, content in pages.items():
        for fold in content.select("details.provenance"):
            run, table = RUN.search(fold.get_text()), fold.find_previous("table")
            for key, number in (recorded_cells(table, run[0]) if run and table else {}).items():
                where, before = seen.setdefault(key, (name, number))
                if disagree(before, number):
                    faults.append(f"{key}: {before} in {where}, {number} in {name}")
    return faults
