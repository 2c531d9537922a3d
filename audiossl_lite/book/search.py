"""The text of all pages, for excerpts on the search page: opened from disk, it may read no other page."""

from __future__ import annotations

import html
import json
import re
import zlib
from pathlib import Path

LIMIT = 1_400_000  # characters of all pages together; the longest pages are cut
SCRIPT = Path(__file__).with_suffix(".js")
ARTICLE = re.compile(r"<article\b.*</article>", re.DOTALL)
SECTION = re.compile(r'<section\b[^>]*?\bid="([^"]+)"[^>]*>')
UNSEEN = re.compile(
    r'<(script|style|svg)\b.*?</\1>|<a class="headerlink".*?</a>|<!--.*?-->', re.DOTALL
)
TAG = re.compile(r"""</?(\w+)(?:[^>"']++|"[^"]*"|'[^']*')*+>""")
WITHIN_A_WORD = frozenset({"a", "b", "code", "em", "i", "span", "strong", "sub", "sup", "wbr"})

Parts = list[tuple[str, str]]


def text_of(piece: str) -> str:
    """The words of a piece of HTML, on one line."""
    words = TAG.sub(lambda tag: "" if tag[1] in WITHIN_A_WORD else " ", UNSEEN.sub(" ", piece))
    return " ".join(html.unescape(words).split())


def parts_of(page: str) -> Parts:
    """The anchor and the words of each section of a page, in order; none of a page without an article."""
    article = ARTICLE.search(page)
    pieces = ["", *SECTION.split(article[0] if article else "")]
    parts = zip(pieces[::2], map(text_of, pieces[1::2]), strict=True)
    return [(anchor, words) for anchor, words in parts if words]


def shortened(pages: dict[str, Parts], limit: int = LIMIT) -> dict[str, Parts]:
    """The pages with the longest ones cut, so that all together keep to the limit."""
    lengths = [sum(len(words) for _, words in parts) for parts in pages.values()]
    most = max(lengths, default=0)
    while sum(min(length, most) for length in lengths) > limit:
        most = most * 9 // 10
    kept: dict[str, Parts] = {}
    for name, parts in pages.items():
        left, kept[name] = most, []
        for anchor, words in parts:
            kept[name].append((anchor, words[:left]))
            left = max(0, left - len(words))
    return kept


def add_excerpts(site: Path) -> None:
    """Write `searchtext.js` beside the search page of a built site, and load it there alone."""
    pages = {
        path.relative_to(site).with_suffix("").as_posix(): parts_of(path.read_text("utf-8"))
        for folder in ("book", "notebooks")
        for path in sorted((site / folder).glob("*.html"))
    }
    texts = json.dumps(shortened(pages), ensure_ascii=False, separators=(",", ":"))
    script = f"const SEARCH_TEXT = {texts};\n{SCRIPT.read_text('utf-8')}"
    (site / "searchtext.js").write_text(script, "utf-8")
    search = site / "search.html"
    tag = f'<script src="searchtext.js?v={zlib.crc32(script.encode()):08x}"></script>\n'
    head, end, rest = search.read_text("utf-8").partition("</head>")  # `Search` is made in the head
    search.write_text(f"{head}{tag}{end}{rest}", "utf-8")
