"""The figures of a built site for a class: each a file of its own, and all of them as slides on one page."""

from __future__ import annotations

import base64
import re
import zlib
from pathlib import Path
from string import Template

PICTURE = re.compile(
    r'(<figure class="shown" id="([\w-]+)"><div class="wide"><img [^>]*?\bsrc=")'
    r'data:image/png;base64,([^"]+)'
)
FIGURE = re.compile(
    r'<figure class="shown" id="(?P<name>[\w-]+)"><div class="wide"><img [^>]*?\balt="(?P<alt>[^"]*)"'
    r'[^>]*?\bsrc="\.\./(?P<picture>[^"]*)"></div><figcaption>(?P<caption>.*?)</figcaption>',
    re.DOTALL,
)
TITLE = re.compile(r"<title>(.*?)(?: &#8212; [^<]*)?</title>", re.DOTALL)

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Figures as slides</title>
<style>
html { scroll-snap-type: y proximity; font: 1.1rem/1.4 system-ui, sans-serif; color: #111; background: #fff; }
body, h1, h2, p, ul { margin: 0; }
a { color: #0b5fcf; }
section { min-height: 100vh; box-sizing: border-box; padding: 3vh 4vw; scroll-snap-align: start; }
section { display: flex; flex-direction: column; gap: 2vh; }
h2 { font-size: 1.4rem; font-weight: normal; }
.number { font-weight: bold; }
img { width: 100%; max-height: 70vh; object-fit: contain; margin: auto; }
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  section { min-height: 0; padding: 0; break-inside: avoid; }
  section + section { break-before: page; }
  img { max-height: 140mm; margin: 0; }
}
</style>
</head>
<body>
<main>
<section>
<h1>Figures as slides</h1>
<p>One figure a slide. The arrow keys go on and back; printed, each has a sheet of its own.
<a href="book/intro.html">The book</a></p>
<ul>
$chapters
</ul>
</section>
$slides
</main>
<script>
const slides = [...document.querySelectorAll("section")];
const STEPS = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1};
addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const now = slides.findLastIndex((slide) => slide.getBoundingClientRect().top < innerHeight / 2);
  slides[now + step]?.scrollIntoView();
});
</script>
</body>
</html>
""")

SLIDE = Template("""<section id="$name">
<p><a href="$page#$name">$title</a></p>
<h2>$caption</h2>
<img alt="$alt" src="$picture">
</section>""")


def pictures_as_files(site: Path) -> None:
    """Put the numbered figures of all pages into `_images`, named after their numbers, for pages and slides alike."""
    images = site / "_images"
    images.mkdir(exist_ok=True)

    def written(match: re.Match[str]) -> str:
        png = base64.b64decode(match[3])
        (images / f"{match[2]}.png").write_bytes(png)
        return (
            f"{match[1]}../_images/{match[2]}.png?v={zlib.crc32(png):08x}"  # no older copy is shown
        )

    for folder in ("book", "notebooks"):
        for path in (site / folder).glob("*.html"):
            text, n_moved = PICTURE.subn(written, path.read_text("utf-8"))
            if n_moved:
                path.write_text(text, "utf-8")


def write_slides(site: Path) -> None:
    """Write `slides.html`: the numbered figures of the chapters, each with its description and the way back to it."""
    slides, chapters = [], []
    for path in sorted((site / "notebooks").glob("*.html")):
        text = path.read_text("utf-8")
        about = {"page": path.relative_to(site).as_posix(), "title": TITLE.search(text)[1]}
        figures = [found.groupdict() | about for found in FIGURE.finditer(text)]
        slides += map(SLIDE.substitute, figures)
        if figures:
            chapters.append(f'<li><a href="#{figures[0]["name"]}">{about["title"]}</a></li>')
    page = PAGE.substitute(chapters="\n".join(chapters), slides="\n".join(slides))
    (site / "slides.html").write_text(page, "utf-8")
