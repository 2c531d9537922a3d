"""Pages of chapters made from hostile names, and opened in a browser.

The code of the chapters runs on a small folder of sounds whose classes and files are named to become HTML, Markdown,
MyST, formulas or script. A name that became script would set the canary: an attribute of the page.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiossl_lite.book.build import make_book
from audiossl_lite.book.chapters import Project, this_project
from audiossl_lite.book.gate import code_cells, read_notebook
from tests.book.browser import BROWSER, drawn
from tests.book.pages import read_page
from tests.data.sounds import put
from tests.tiny import tiny_project

CANARY = "data-canary"
FIRE = "document.documentElement.setAttribute(`data-canary`,1)"
CLASSES = (
    f'<img src=x onerror={FIRE}> "><svg onload={FIRE}> *em* `code` [link](javascript:{FIRE})'
    " | a | $\\frac{$ {{ version }}",
    f"_</details></script><script>{FIRE}</script> # x$_$y \\(z\\)"
    " {ref}`x` <!-- &lt;b&gt; \u202eevil\u200b {eval-rst}",
)
N_CLIPS = 8
FULL = ("02", "10", "12")  # chapters that show many names


def hostile_sounds(folder: Path, classes: Sequence[str] = CLASSES, n_clips: int = N_CLIPS) -> Path:
    """Short sounds with hostile labels, groups and file names; returns their manifest, whose name is hostile too."""
    noise = np.random.default_rng(0)
    rows = []
    for number, label in enumerate(classes):
        for clip in range(n_clips):
            name = f"{clip} {label.replace('/', ' ')[:120]} {number}.wav"
            time_s = np.arange(24_000) / 16_000
            tone = np.sin(2 * np.pi * 200 * (number + 1) * time_s + clip) * np.exp(
                -time_s * (1 + clip % 3)
            )
            put(
                folder / name,
                (0.3 * tone + 0.01 * noise.standard_normal(24_000)).astype(np.float32),
            )
            rows.append((name, label))
    manifest = folder / f"<img src=x onerror={FIRE}> {{{{ version }}}} $\\frac{{$.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return manifest


def code_alone(source: Path, target: Path, n_cells: int | None) -> None:
    """The code of a chapter, or its first cells: what it shows of its data; links of its prose need other pages."""
    notebook = read_notebook(source)
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {source.stem}"}
    notebook["cells"] = [title, *code_cells(notebook)[:n_cells]]
    target.write_text(json.dumps(notebook), encoding="utf-8")


def project_of(root: Path, names: Sequence[str], n_cells: int | None = None) -> Project:
    """A small book of these chapters, by number, each its code alone."""
    project = tiny_project(root, [])
    for path in project.chapter_paths():
        path.unlink()
    for path in this_project().chosen_chapters(names):
        code_alone(path, project.notebooks / path.name, n_cells)
    return project


def became_markup(page: Path, profile: Path) -> list[str]:
    """What of a page is or became script through a name: the canary, handlers, links that are script."""
    source, dom = read_page(page), drawn(page, profile) if BROWSER else read_page(page)
    wrong = [f"{page.name}: the canary fired"] if dom.html.get(CANARY) else []
    for tag in [*source.find_all(True), *dom.find_all(True)]:
        if any("canary" in str(value) for key, value in tag.attrs.items() if key.startswith("on")):
            wrong.append(f"{page.name}: <{tag.name}> has a handler")
        if str(tag.get("href", "")).startswith("javascript:"):
            wrong.append(f"{page.name}: a link is script")
    return wrong


def sweep(root: Path, names: Sequence[str], n_cells: int | None = None) -> tuple[int, list[str]]:
    """Run chapters on hostile sounds, build their pages and open them; how many, and what became markup.

    `n_cells`: of each chapter's code, where the first cells are enough.
    """
    manifest = hostile_sounds(root / "sounds")
    project = project_of(root / "project", names, n_cells)
    index = make_book(project, data_root=os.fspath(manifest))
    pages = sorted((index.parent / "notebooks").glob("*.html"))
    return len(pages), [line for page in pages for line in became_markup(page, root / "profile")]
