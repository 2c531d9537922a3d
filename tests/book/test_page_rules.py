"""Pin: the page reader itself: a sound page passes, and each planted fault is found."""

from __future__ import annotations

from pathlib import Path

from tests.book.pages import WIDGET_VIEW, page_faults

SOUND = "data:audio/flac;base64," + "A" * 300

GOOD = f"""
<html><head><script src="vendor/mathjax/a.js"></script></head>
<body><article><h1 id="top">T</h1><a href="#top">up</a> <a href="https://example.org">paper</a>
<span class="math">x</span><img src="data:x" alt="A curve that rises steadily.">
<audio aria-label="tone" src="{SOUND}"></audio>
</article></body></html>
"""


def faults_of(folder: Path, page: str) -> list[str]:
    (folder / "vendor" / "mathjax").mkdir(parents=True, exist_ok=True)
    (folder / "vendor" / "mathjax" / "a.js").write_text("1")
    path = folder / "page.html"
    path.write_text(page)
    return page_faults(path)


def test_a_sound_page_has_no_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path, GOOD) == []


PLANTED = [
    ('src="vendor/mathjax/a.js"', 'src="https://cdn.example/a.js"', "asks for https://cdn"),
    ('src="vendor/mathjax/a.js"', 'src="other.js"', "no MathJax of its own"),
    ('src="vendor/mathjax/a.js"', 'src="vendor/mathjax/b.js"', "which is not there"),
    ("</head>", '<link rel="stylesheet" href="//x/y.css"></head>', "<link> asks for"),
    ("</head>", "<style>@import 'https://x/y.css';</style></head>", "<style> asks for"),
    ('href="#top"', 'href="#bottom"', "no such anchor"),
    ('href="#top"', 'href="other.html"', "no such file"),
    ('alt="A curve that rises steadily."', 'alt=""', "figure without a description"),
    ('alt="A curve that rises steadily."', 'alt="../_images/0a1b2c.png"', "without a desc"),
    ('alt="A curve that rises steadily."', f'alt="{"0a1b2c3d" * 4}"', "without a description"),
    (SOUND, "data:audio/flac;base64,", "player without sound"),
    ('aria-label="tone"', "", "player without a name"),
    ("<h1", f'<script type="{WIDGET_VIEW}">{{}}</script><h1', "a widget needs a kernel"),
    ("<h1", "<pre>Traceback (most recent call last)</pre><h1", "shows a traceback"),
]


def test_each_planted_fault_is_found(tmp_path: Path) -> None:
    assert [old for old, _, _ in PLANTED if old not in GOOD] == []
    missed = []
    for number, (old, new, fault) in enumerate(PLANTED):
        found = faults_of(tmp_path / str(number), GOOD.replace(old, new))
        if not any(fault in item for item in found):
            missed.append((fault, found))
    assert missed == []
