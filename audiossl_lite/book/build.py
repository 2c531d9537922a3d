"""Turn chapters and prose pages into HTML, with every warning counted as an error.

Always from an empty folder: a page that Sphinx does not read again cannot warn again. The finished site replaces the
old one in one step.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from audiossl_lite.book.chapters import Project, refresh_chapters
from audiossl_lite.book.execute import REFUSED
from audiossl_lite.book.gate import read_notebook
from audiossl_lite.book.run import summary
from audiossl_lite.book.search import add_excerpts
from audiossl_lite.book.slides import pictures_as_files, write_slides
from audiossl_lite.book.staging import StagingError, cleared, stage_book, write_page

COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")
# After `audiossl_lite.book`, without which jupyter_book takes 2.4 s of processor time more to start.
JUPYTER_BOOK = "import audiossl_lite.book; from jupyter_book.cli.main import main; main()"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HEADLESS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
# Time of the page's own clock, which waits for formulas: a minute of it takes as long as drawing them takes.
PRINTING = (
    "--virtual-time-budget=300000",
    "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
)
STRICT = ("-W", "-n", "--keep-going", "--quiet")


class BuildError(RuntimeError):
    """The HTML could not be built without warnings."""


def sphinx_pages(staged: Path, *, log: Path, builder: str = "html") -> Path:
    """Turn a staged folder into pages, warnings counting as errors, and return their folder.

    builder: `html`, or `singlehtml` for all pages in one. Errors: BuildError with what Sphinx complained about.
    """
    work = staged / "_work"
    shutil.rmtree(work, ignore_errors=True)
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", str(staged), "--path-output", str(work)]
    done = subprocess.run(
        [*command, "--builder", builder, *STRICT],
        capture_output=True,
        text=True,
        cwd=staged,
        check=False,
    )
    printed = COLOUR_CODES.sub("", done.stdout + done.stderr)
    log.write_text(printed, encoding="utf-8")
    built = work / "_build" / builder
    lines = [
        line.replace(str(staged) + os.sep, "")
        for line in printed.splitlines()
        if "WARNING" in line or "ERROR" in line
    ]
    if done.returncode or lines or not (built / "index.html").is_file():
        detail = "\n".join(lines) or "\n".join(printed.splitlines()[-15:])
        raise BuildError(f"the book did not build cleanly (full log: {log}):\n{detail}")
    return built


def build_html(staged: Path, output: Path, *, log: Path) -> None:
    """Turn a staged folder into HTML at `output`, warnings counting as errors.

    Errors: BuildError with the lines that Sphinx complained about.
    """
    built = sphinx_pages(staged, log=log)
    for notebook in (built / "_sources").rglob("*.ipynb"):  # a reader's copy holds no results twice
        write_page(notebook, cleared(read_notebook(notebook)))
    pictures_as_files(built)
    write_slides(built)
    add_excerpts(built)
    output.parent.mkdir(parents=True, exist_ok=True)
    old = output.with_name(output.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        os.replace(output, old)
    os.replace(built, output)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(staged / "_work", ignore_errors=True)


def browser() -> str:
    """The command of Chromium or Chrome, empty when there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), "")


def make_pdf(project: Project) -> Path:
    """Print the pages that `make book` left as one file, and return its path.

    Errors: BuildError when no book was built, when there is no browser to print it, or when it cannot.
    """
    staged, output = project.build / "html.staged", project.build / "book.pdf"
    if not (project.build / "html" / "index.html").is_file() or not staged.is_dir():
        raise BuildError("there is no book to print yet; run `make book` first.")
    if not browser():
        raise BuildError(
            f"printing needs a browser, one of {', '.join(BROWSERS)}; none is installed."
        )
    built = sphinx_pages(staged, log=output.with_suffix(".log"), builder="singlehtml")
    page = built / "book.html"
    shutil.move(built / "book" / "intro.html", page)  # what it links to lies relative to the root
    with tempfile.TemporaryDirectory() as profile:
        printing = (f"--print-to-pdf={output}", *PRINTING, f"--user-data-dir={profile}")
        done = subprocess.run(
            [browser(), *HEADLESS, *printing, page.resolve().as_uri()],
            capture_output=True,
            text=True,
            check=False,
        )
    shutil.rmtree(staged / "_work", ignore_errors=True)
    if done.returncode or not output.is_file():
        raise BuildError(f"{browser()} did not print the book: {done.stderr[-300:]}")
    return output


def make_book(
    project: Project,
    *,
    data_root: str = "",
    only: Sequence[str] = (),
    texts: dict[str, str] | None = None,
) -> Path:
    """Bring every page up to date and return the path of the page to open first.

    The page of a chapter that refused its data as too few says so.
    Errors: StagingError when a chapter failed, BuildError when the pages do not build cleanly.
    """
    output = project.build / "html"
    start = time.monotonic()
    records = refresh_chapters(project, data_root=data_root, only=only, texts=texts)
    if records:
        print(summary(records), flush=True)
    refused = {record.name: record.reason for record in records if record.status == REFUSED}
    failed = [record.name for record in records if not record.ok and record.name not in refused]
    if failed:
        raise StagingError(f"no book was built, since these chapters failed: {', '.join(failed)}.")
    ran_s = time.monotonic() - start
    staged = output.with_name("html.staged")
    chapters = project.chosen_chapters(only)
    stage_book(project, staged, data_root=data_root, chapters=chapters, refused=refused)
    build_html(staged, output, log=output.with_name("html.log"))
    print(f"chapters {ran_s:.0f} s, pages {time.monotonic() - start - ran_s:.0f} s", flush=True)
    return output / "index.html"
