"""Put the pages of the book together: current prose, known outputs, table of contents, settings."""

from __future__ import annotations

import copy
import html
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiossl_lite._version import __version__
from audiossl_lite.chapters import Project, read_record
from audiossl_lite.gate import (
    INJECTED_TAG,
    cell_source,
    cell_tags,
    code_cells,
    problems,
    read_notebook,
)

PARTS: tuple[tuple[str, range], ...] = (
    ("Foundations", range(1, 4)),
    ("Teacher-student", range(4, 6)),
    ("Masked autoencoders", range(6, 7)),
    ("Instance discrimination", range(7, 10)),
    ("Evaluation", range(10, 13)),
    ("Scale", range(13, 100)),
)
# Appendices that stand in this order; others follow by name.
APPENDIX_ORDER = (
    "notation",
    "glossary",
    "data",
    "data_guide",
    "differences",
    "api",
    "troubleshooting",
)
LAST_APPENDIX = "references"
FILLED = "appendix_differences"  # asks for recorded effects by `measured(...)`


class StagingError(RuntimeError):
    """A chapter cannot be shown; the message says which and why."""


def appendix_rank(page: Path) -> tuple[int, str]:
    """Return a sort key that puts known appendices in their order and the references last."""
    name = page.stem.removeprefix("appendix_")
    if name == LAST_APPENDIX:
        return (len(APPENDIX_ORDER) + 1, name)
    rank = APPENDIX_ORDER.index(name) if name in APPENDIX_ORDER else len(APPENDIX_ORDER)
    return (rank, name)


def table_of_contents(chapters: Sequence[Path], pages: Sequence[Path]) -> dict[str, Any]:
    """Return the content of `_toc.yml` for the chapters and prose pages that exist."""
    parts = []
    for title, numbers in PARTS:
        files = [path for path in chapters if int(path.stem[:2]) in numbers]
        if files:
            entries = [{"file": f"notebooks/{path.stem}"} for path in sorted(files)]
            parts.append({"caption": title, "chapters": entries})
    appendices = sorted((page for page in pages if page.stem != "intro"), key=appendix_rank)
    if appendices:
        entries = [{"file": f"book/{page.stem}"} for page in appendices]
        parts.append({"caption": "Appendices", "chapters": entries})
    return {"format": "jb-book", "root": "book/intro", "parts": parts}


def run_strip(record: dict[str, Any]) -> str:
    """Return the line under a chapter's title that says how its numbers were made."""
    given = record.get("parameters", {})
    data = Path(given["data_root"]).name if given.get("data_root") else "embedded sounds"
    parts = [
        f"scale {given.get('preset', 'lite')}",
        f"{record['seconds']:.0f} s",
        f"seed {given.get('seed', 0)}",
        data,
    ]
    if record.get("peak_mib"):
        parts.insert(2, f"{record['peak_mib']} MiB of memory")
    parts.append(f"audiossl_lite {__version__}")
    line = html.escape(" | ".join(parts))
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
        cell["outputs"] = copy.deepcopy(done.get("outputs", []))
        cell["execution_count"] = done.get("execution_count")
    widgets = executed.get("metadata", {}).get("widgets")
    if widgets:
        page["metadata"]["widgets"] = widgets
    for index, cell in enumerate(page["cells"]):
        if cell["cell_type"] == "markdown" and cell_source(cell).lstrip().startswith("# "):
            strip = {
                "cell_type": "markdown",
                "id": "run-strip",
                "metadata": {},
                "source": run_strip(record),
            }
            page["cells"].insert(index + 1, strip)
            break
    page["cells"] = [cell for cell in page["cells"] if INJECTED_TAG not in cell_tags(cell)]
    return page


def stage_chapter(source: Path, executed: Path, target: Path) -> None:
    """Write the page of one chapter; the gate refuses an output that is missing or incomplete.

    Errors: StagingError, naming the chapter.
    """
    record = read_record(executed)
    if not executed.is_file() or not record:
        raise StagingError(f"{source.stem} has no complete run; nothing of it can be shown.")
    notebook = read_notebook(executed)
    found = problems(notebook)
    if found:
        raise StagingError(f"{source.stem} cannot be shown: {'; '.join(found)}.")
    try:
        page = graft(read_notebook(source), notebook, record)
    except StagingError as error:
        raise StagingError(f"{source.stem} cannot be shown: {error}.") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _fill(page: Path, records: Path) -> None:
    """Put recorded effects where a page asks for them."""
    from audiossl_lite.differences import fill_effects  # the library, for the page that needs it

    text = page.read_text(encoding="utf-8")
    page.write_text(fill_effects(text, records), encoding="utf-8")


def stage_book(
    project: Project, target: Path, *, data_root: str = "", only: Sequence[str] = ()
) -> list[Path]:
    """Fill an empty folder with everything that the HTML is made from; return the chapters in it.

    The folder mirrors the repository (`book/`, `notebooks/`), so a relative link means the same in
    both. Errors: StagingError for a chapter that cannot be shown.
    """
    import yaml

    if target.exists():
        shutil.rmtree(target)
    skipped = shutil.ignore_patterns(
        "_config.yml", "_toc.yml", "_static", "_vendor", "_build", ".*"
    )
    shutil.copytree(project.book, target / "book", ignore=skipped)
    for name in ("_vendor", "_static"):
        shutil.copytree(project.book / name, target / name)
    chapters = project.chosen_chapters(only)
    for path in chapters:
        stage_chapter(
            path, project.executed(data_root) / path.name, target / "notebooks" / path.name
        )
    pages = sorted((target / "book").glob("*.md"))
    for page in pages:
        if page.stem == FILLED:
            _fill(page, project.book / "results")
    toc = table_of_contents(chapters, pages)
    (target / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    config = yaml.safe_load((project.book / "_config.yml").read_text(encoding="utf-8"))
    config.setdefault("html", {})["extra_footer"] = f"<p>audiossl_lite {__version__}</p>"
    substitutions = config["sphinx"]["config"].setdefault("myst_substitutions", {})
    substitutions["version"] = __version__
    (target / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    return chapters
