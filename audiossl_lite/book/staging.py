"""Put the pages of the book together: current prose, known outputs, table of contents, settings."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiossl_lite._version import __version__
from audiossl_lite.book.chapters import Project, read_record
from audiossl_lite.book.gate import INJECTED_TAG, cell_source, cell_tags, code_cells, read_notebook
from audiossl_lite.book.reading import STRIP, filled, minutes_to_read, number_captions
from audiossl_lite.book.words import escaped

PARTS: tuple[tuple[str, range], ...] = (
    ("Foundations", range(1, 4)),
    ("Teacher-student", range(4, 6)),
    ("Masked autoencoders", range(6, 7)),
    ("Instance discrimination", range(7, 10)),
    ("Evaluation", range(10, 13)),
    ("Scale", range(13, 15)),
    ("Appendices", range(15, 100)),
)
# Appendices that stand in this order; others follow by name, the references last.
APPENDICES = (
    "notation",
    "equations",
    "glossary",
    "data",
    "data_guide",
    "differences",
    "api",
    "troubleshooting",
    "faults",
    "teaching",
)


class StagingError(RuntimeError):
    """A chapter cannot be shown; the message says which and why."""


def appendix_rank(page: Path) -> tuple[int, str]:
    """Return a sort key that puts known appendices in their order and the references last."""
    name = page.stem.removeprefix("appendix_")
    order = (*APPENDICES, "", "references")
    return (order.index(name if name in order else ""), name)


def table_of_contents(chapters: Sequence[Path], pages: Sequence[Path]) -> dict[str, Any]:
    """Return the content of `_toc.yml` for the chapters and prose pages that exist."""
    files = {
        title: [f"notebooks/{path.stem}" for path in sorted(chapters) if int(path.stem[:2]) in part]
        for title, part in PARTS
    }
    appendices = sorted((page for page in pages if page.stem != "intro"), key=appendix_rank)
    files["Appendices"] += [f"book/{page.stem}" for page in appendices]
    parts = [
        {"caption": title, "chapters": [{"file": name} for name in names]}
        for title, names in files.items()
        if names
    ]
    return {"format": "jb-book", "root": "book/intro", "parts": parts}


def run_strip(record: dict[str, Any], minutes: int = 0) -> str:
    """Return the line under a chapter's title: how its numbers were made, and how many minutes it takes to read."""
    parameters = record.get("parameters", {})
    data_root = parameters.get("data_root")
    parts = [
        f"scale {parameters.get('preset', 'lite')}",
        f"{record['seconds']:.0f} s",
        *([f"{record['peak_mib']} MiB of memory"] if record.get("peak_mib") else []),
        f"seed {parameters.get('seed', 0)}",
        Path(data_root).name if data_root else "embedded sounds",
        f"audiossl_lite {__version__}",
    ]
    line = escaped(" | ".join(parts))
    line += f"<br>About {minutes} minutes to read." * bool(minutes)
    return f'<p class="provenance"><small>This page as run: {line}</small></p>'


def graft(
    current: dict[str, Any], executed: dict[str, Any], record: dict[str, Any]
) -> dict[str, Any]:
    """Put the outputs of an executed chapter onto its current text.

    Both must hold the same code cells; the cell that papermill added is left out, and a line on how
    the page was run goes under its title. Errors: StagingError when the code differs.
    """
    page = copy.deepcopy(current)
    ours, theirs = code_cells(page), code_cells(executed)
    if [cell_source(cell) for cell in ours] != [cell_source(cell) for cell in theirs]:
        raise StagingError("its code cells differ from the ones that were executed")
    for cell, done in zip(ours, theirs, strict=True):
        cell |= {key: copy.deepcopy(done.get(key)) for key in ("outputs", "execution_count")}
    if widgets := executed.get("metadata", {}).get("widgets"):
        page["metadata"]["widgets"] = widgets
    page["cells"] = [cell for cell in page["cells"] if INJECTED_TAG not in cell_tags(cell)]
    return with_strip(page, run_strip(record, minutes_to_read(page)))


def with_strip(page: dict[str, Any], strip: str) -> dict[str, Any]:
    """A page with a line of HTML under its title, if it has one."""
    cells = page["cells"]
    is_title = [
        cell["cell_type"] == "markdown" and cell_source(cell).lstrip().startswith("# ")
        for cell in cells
    ]
    if any(is_title):
        cell = {"cell_type": "markdown", "id": STRIP, "metadata": {}, "source": strip}
        cells.insert(is_title.index(True) + 1, cell)
    return page


def cleared(current: dict[str, Any]) -> dict[str, Any]:
    """A notebook without its outputs."""
    page = copy.deepcopy(current)
    page["metadata"].pop("widgets", None)
    for cell in code_cells(page):
        cell |= {"outputs": [], "execution_count": None}
    return page


def write_page(path: Path, page: dict[str, Any]) -> None:
    """Write a notebook."""
    path.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def without_results(current: dict[str, Any], reason: str) -> dict[str, Any]:
    """The text and the code of a chapter that refused its data, and why under its title."""
    page = cleared(current)
    line = f'<p class="provenance"><strong>This page was not run: {escaped(reason)}</strong></p>'
    return with_strip(page, line)


def stage_chapter(source: Path, executed: Path, target: Path, refusal: str = "") -> None:
    """Write the page of one chapter; StagingError names it when no complete run of its code exists.

    `refusal`: why it refused its data, when it did.
    """
    record = read_record(executed)
    if not record and not refusal:
        raise StagingError(f"{source.stem} has no complete run; nothing of it can be shown.")
    try:
        current = read_notebook(source)
        page = (
            without_results(current, refusal)
            if refusal
            else graft(current, read_notebook(executed), record)
        )
        number_captions(page, int(source.stem[:2]))
    except StagingError as error:
        raise StagingError(f"{source.stem} cannot be shown: {error}.") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    write_page(target, page)


def stage_book(
    project: Project,
    target: Path,
    *,
    data_root: str = "",
    chapters: Sequence[Path] | None = None,
    refused: Mapping[str, str] | None = None,
) -> None:
    """Fill an empty folder with everything that the HTML is made from, with these chapters (default: all).

    The folder mirrors the repository (`book/`, `notebooks/`), so a relative link means the same in
    both. `refused`: chapters whose data are too few, with the reason.
    Errors: StagingError for a chapter that cannot be shown.
    """
    import yaml

    from audiossl_lite.book.api import with_modules  # these two need the whole library
    from audiossl_lite.book.effects import fill_effects

    shutil.rmtree(target, ignore_errors=True)
    beside = ("_vendor", "_static")
    others = shutil.ignore_patterns("_config.yml", "_toc.yml", "_build", ".*", *beside)
    shutil.copytree(project.book, target / "book", ignore=others)
    for name in beside:
        shutil.copytree(project.book / name, target / name)
    chapters = project.chapter_paths() if chapters is None else chapters
    records = {}
    for path in chapters:
        executed = project.executed(data_root) / path.name
        records[path.stem] = read_record(executed)
        refusal = (refused or {}).get(path.stem, "")
        stage_chapter(path, executed, target / "notebooks" / path.name, refusal)
    pages = sorted((target / "book").glob("*.md"))
    seconds = {p.stem: record["seconds"] for p in chapters if (record := records[p.stem])}
    made = {p.stem: read_notebook(target / "notebooks" / p.name) for p in chapters}
    fill = {
        "intro": lambda text: filled(text, made, seconds),
        "appendix_teaching": lambda text: filled(text, made, seconds),
        "appendix_api": with_modules,
        "appendix_differences": lambda text: fill_effects(text, project.book / "results"),
    }
    for page in pages:
        if page.stem in fill:
            page.write_text(fill[page.stem](page.read_text("utf-8")), "utf-8")
    toc = table_of_contents(chapters, pages)
    (target / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    config = yaml.safe_load((project.book / "_config.yml").read_text(encoding="utf-8"))
    config.setdefault("html", {})["extra_footer"] = f"<p>audiossl_lite {__version__}</p>"
    config["sphinx"]["config"].setdefault("myst_substitutions", {})["version"] = __version__
    (target / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))
