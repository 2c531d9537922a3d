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
from audiossl_lite.book.gate import cell_source, code_cells, read_notebook
from tests.book.browser import BROWSER, drawn
from tests.book.pages import read_page
from tests.data.sounds import put
from tests.tiny import tiny_project

CANARY = "data-canary"
FIRE = "document.documentElement.setAttribute(`data-canary`,1)"
CLASSES = (
    f"<img src=x onerror={FIRE}> *canary* `canary` {{{{ version }}}}",
    f'"><svg onload={FIRE}> [canary](javascript:{FIRE}) ![i](x) | a |',
    f"_</details></script><script>{FIRE}</script> # x$_$y",
    f"<a href=javascript:{FIRE}>canary</a> __canary__ $\\frac{{$",
    "\\(\\href{javascript:canary}{z}\\) {ref}`x` {eval-rst}",
    "<!-- &lt;b&gt; \u202eevil\u200b $canary$ 犬",
)
N_CLIPS = 8
ENCODERS = {f"{method}_steps": 2 for method in ("byola", "atst", "mae", "head", "tuning")}
# The chapters, each with overrides that make its trainings as short as they can be: names are shown all the same.
CHAPTERS: dict[str, dict[str, object]] = {
    "01": {},
    "02": {"steps": 4},
    "03": {},
    "04": {"steps": 8, "warmup_steps": 2},
    "05": {"steps": 4, "warmup_steps": 2},
    "06": {"steps": 4, "warmup_steps": 2},
    "07": {"steps": 8, "warmup_steps": 2},
    "08": {"steps": 4},
    "09": {"steps": 4, "pretrain_steps": 4, "head_steps": 2},
    "10": ENCODERS,
    "11": ENCODERS,
    "12": ENCODERS | {"seeds": (0,)},
    "13": {},
    "14": {},
    "15": {},
    "16": {},
    "17": {"steps": 4, "warmup_steps": 2},
}
# These show names of their data at their start, of tasks and encoders after it, and take minutes.
FIRST_CELLS = {"10": 6, "11": 5, "13": 5}


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


def code_alone(
    source: Path, target: Path, overrides: dict[str, object], n_cells: int | None
) -> None:
    """The code of a chapter, or its first cells: what it shows of its data; links of its prose need other pages."""
    notebook = read_notebook(source)
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {source.stem}"}
    notebook["cells"] = [title, *code_cells(notebook)[:n_cells]]
    own = notebook["cells"][1]
    own["source"] = cell_source(own).replace('overrides = ""', f"overrides = {overrides!r}")
    target.write_text(json.dumps(notebook), encoding="utf-8")


def project_of(root: Path, names: Sequence[str], n_cells: int | None = None) -> Project:
    """A small book of these chapters, by number, each its code alone."""
    project = tiny_project(root, [])
    for path in project.chapter_paths():
        path.unlink()
    for path in this_project().chosen_chapters(names):
        code_alone(
            path,
            project.notebooks / path.name,
            CHAPTERS[path.stem[:2]],
            n_cells or FIRST_CELLS.get(path.stem[:2]),
        )
    return project


def became_markup(page: Path, profile: Path) -> list[str]:
    """What of a page is or became script through a name: the canary, handlers, links that are script."""
    source, dom = read_page(page), drawn(page, profile) if BROWSER else read_page(page)
    wrong = [f"{page.name}: the canary fired"] if dom.html.get(CANARY) else []
    if "<img src=x" not in source.get_text():
        wrong.append(f"{page.name}: the name of the data is not on it")
    for tag in [*source.find_all(True), *dom.find_all(True)]:
        if any("canary" in str(value) for key, value in tag.attrs.items() if key.startswith("on")):
            wrong.append(f"{page.name}: <{tag.name}> has a handler")
        if str(tag.get("href", tag.get("xlink:href", ""))).startswith("javascript:"):
            wrong.append(f"{page.name}: a link is script")
        if tag.name in ("em", "strong", "code", "a") and tag.get_text() == "canary":
            wrong.append(f"{page.name}: a name became <{tag.name}>")
        if tag.name == "mjx-container":
            wrong.append(f"{page.name}: a name became a formula")
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
