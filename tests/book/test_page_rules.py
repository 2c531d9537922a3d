"""Pin: the page reader itself: a sound page passes, and each planted fault is found."""

from __future__ import annotations

import json
from pathlib import Path

from tests.book.pages import WIDGET_STATE, WIDGET_VIEW, page_faults

SOUND = "data:audio/wav;base64," + "A" * 300
VIEW = json.dumps({"model_id": "m1"})


def state(html: str = "<img alt='A curve that rises steadily.'>", name: str = "HTMLModel") -> str:
    return json.dumps({"state": {"m1": {"model_name": name, "state": {"value": html}}}})


GOOD = f"""
<html><head><script src="vendor/mathjax/a.js"></script>
<script src="vendor/html-manager/embed.js"></script></head>
<body><article><h1 id="top">T</h1><a href="#top">up</a> <a href="https://example.org">paper</a>
<span class="math">x</span><img src="data:x" alt="A curve that rises steadily.">
<audio aria-label="tone" src="{SOUND}"></audio>
<script type="{WIDGET_VIEW}">{VIEW}</script>
<script type="{WIDGET_STATE}">{state()}</script></article></body></html>
"""


def faults_of(folder: Path, page: str) -> list[str]:
    for name in ("vendor/mathjax/a.js", "vendor/html-manager/embed.js"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
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
    (SOUND, "data:audio/wav;base64,", "player without sound"),
    ('aria-label="tone"', "", "player without a name"),
    (VIEW, json.dumps({"model_id": "m2"}), "widget m2 has no state"),
    (state(), state("<img src='data:x'>"), "figure without a description"),
    (state(), state("", "ImageModel"), "cannot carry a description"),
    (state(), state("", "FloatProgressModel"), "progress bar was left"),
    ('src="vendor/html-manager/embed.js"', "", "no script to draw them"),
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
