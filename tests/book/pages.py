"""Read a built site as a browser without a network would, and list what is missing or broken."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# Sources that a browser fetches by itself. Ordinary links to papers are not among them.
FETCHED = (
    ("script", "src"),
    ("img", "src"),
    ("audio", "src"),
    ("video", "src"),
    ("source", "src"),
    ("iframe", "src"),
    ("embed", "src"),
    ("object", "data"),
)
FETCHED_LINKS = {"stylesheet", "preload", "icon", "shortcut", "modulepreload", "prefetch"}
SKIPPED_PAGES = {"genindex.html", "search.html"}
HASH_LIKE = re.compile(r"^(.*/)?[0-9a-f]{16,}(\.\w+)?$")
MIN_ALT_CHARACTERS = 12
MIN_AUDIO_CHARACTERS = 200


def is_outside(address: str) -> bool:
    """True for an address on another host."""
    return address.startswith(("http://", "https://", "//"))


@functools.lru_cache(maxsize=256)
def read_page(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.lru_cache(maxsize=256)
def anchors(path: Path) -> frozenset[str]:
    """The names that a link can point to within a page."""
    page = read_page(path)
    names = {tag["id"] for tag in page.find_all(id=True)}
    return frozenset(names | {tag["name"] for tag in page.find_all("a", attrs={"name": True})})


def outside_requests(page: BeautifulSoup) -> Iterator[str]:
    """What the page would ask another host for."""
    for name, attribute in FETCHED:
        for tag in page.find_all(name):
            if is_outside(tag.get(attribute) or ""):
                yield f"<{name}> asks for {tag[attribute]}"
    for tag in page.find_all("link", href=True):
        if is_outside(tag["href"]) and FETCHED_LINKS & set(tag.get("rel") or []):
            yield f"<link> asks for {tag['href']}"
    for tag in page.find_all("style"):
        for address in re.findall(r"(?:url\(|@import\s+)['\"]?([^'\")\s]+)", tag.get_text()):
            if is_outside(address):
                yield f"<style> asks for {address}"


def missing_files(page: BeautifulSoup, path: Path) -> Iterator[str]:
    """Files beside the page that it needs and that are not there."""
    wanted = [(name, tag.get(key)) for name, key in FETCHED for tag in page.find_all(name)]
    wanted += [
        ("link", tag["href"])
        for tag in page.find_all("link", href=True)
        if FETCHED_LINKS & set(tag.get("rel") or [])
    ]
    for name, address in wanted:
        if not address or address.startswith("data:") or is_outside(address):
            continue
        target = (path.parent / unquote(urlsplit(address).path)).resolve()
        if not target.is_file():
            yield f"<{name}> needs {address}, which is not there"


def broken_links(page: BeautifulSoup, path: Path) -> Iterator[str]:
    """Links within the site whose page or anchor is not there."""
    for tag in page.find_all("a", href=True):
        parts = urlsplit(tag["href"])
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target = target / "index.html"
        if not target.is_file():
            yield f"link to {tag['href']}: no such file"
            continue
        fragment = unquote(parts.fragment)
        if fragment and target.suffix == ".html" and fragment not in anchors(target):
            yield f"link to {tag['href']}: no such anchor"


def bad_alt(alt: str | None) -> bool:
    """True for a description that describes nothing."""
    text = (alt or "").strip()
    return len(text) < MIN_ALT_CHARACTERS or bool(HASH_LIKE.match(text)) or "/" in text[:12]


def undescribed_images(content: Tag) -> Iterator[str]:
    for tag in content.find_all("img"):
        if bad_alt(tag.get("alt")):
            yield f"figure without a description (alt={tag.get('alt')!r})"


def empty_players(content: Tag) -> Iterator[str]:
    for tag in content.find_all("audio"):
        sources = [tag.get("src") or "", *(item.get("src", "") for item in tag.find_all("source"))]
        if not any(
            source.startswith("data:audio/") and len(source) > MIN_AUDIO_CHARACTERS
            for source in sources
        ):
            yield "audio player without sound"
        if not (tag.get("aria-label") or "").strip():
            yield "audio player without a name"


def widget_faults(page: BeautifulSoup) -> Iterator[str]:
    """What moves only with a kernel: sliders and progress bars of ipywidgets."""
    if page.find_all("script", type=WIDGET_VIEW):
        yield "a widget needs a kernel; use frames_slider"


def formula_faults(page: BeautifulSoup) -> Iterator[str]:
    if page.select(".math") and not any(
        "vendor/mathjax/" in (tag.get("src") or "") for tag in page.find_all("script")
    ):
        yield "the page has formulas and no MathJax of its own"


def traceback_faults(content: Tag) -> Iterator[str]:
    if "Traceback (most recent call last)" in content.get_text() or content.select(".traceback"):
        yield "the page shows a traceback"


def page_faults(path: Path) -> list[str]:
    """Everything that is wrong with one page."""
    page = read_page(path)
    content = page.find("article") or page.find("main") or page
    return [
        *outside_requests(page),
        *missing_files(page, path),
        *broken_links(page, path),
        *undescribed_images(content),
        *empty_players(content),
        *widget_faults(page),
        *formula_faults(page),
        *traceback_faults(content),
    ]


def site_pages(root: Path) -> list[Path]:
    """The pages that a reader can open."""
    skipped = ("_static", "_sources", "vendor")
    return [
        path
        for path in sorted(root.rglob("*.html"))
        if path.relative_to(root).parts[0] not in skipped and path.name not in SKIPPED_PAGES
    ]
