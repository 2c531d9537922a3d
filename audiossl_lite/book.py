"""Build the book: `python -m audiossl_lite.book build [--data FOLDER]`.

Runs the chapters that changed, puts their outputs onto the current text, and turns the pages into
HTML with every warning counted as an error. Always from an empty folder: a page that Sphinx does
not read again cannot warn again. The finished site replaces the old one in one step.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from audiossl_lite.chapters import Project, refresh_chapters, this_project
from audiossl_lite.parameters import EMBEDDED_NAMES
from audiossl_lite.run import exit_on_terminate, split_assignments, summary
from audiossl_lite.staging import StagingError, stage_book

COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


class BuildError(RuntimeError):
    """The HTML could not be built without warnings."""


def build_html(staged: Path, output: Path, *, log: Path) -> None:
    """Turn a staged folder into HTML at `output`, warnings counting as errors.

    Errors: BuildError with the lines that Sphinx complained about.
    """
    work = staged / "_work"
    shutil.rmtree(work, ignore_errors=True)
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(staged),
        "--path-output",
        str(work),
        "-W",
        "-n",
        "--keep-going",
        "--quiet",
    ]
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=staged, check=False
    )
    printed = COLOUR_CODES.sub("", done.stdout + done.stderr)
    log.write_text(printed, encoding="utf-8")
    built = work / "_build" / "html"
    lines = [
        line.replace(str(staged) + os.sep, "")
        for line in printed.splitlines()
        if "WARNING" in line or "ERROR" in line
    ]
    if done.returncode or lines or not (built / "index.html").is_file():
        detail = "\n".join(lines) or "\n".join(printed.splitlines()[-15:])
        raise BuildError(f"the book did not build cleanly (full log: {log}):\n{detail}")
    output.parent.mkdir(parents=True, exist_ok=True)
    old = output.with_name(output.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        os.replace(output, old)
    os.replace(built, output)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)


def make_book(
    project: Project,
    *,
    data_root: str = "",
    only: Sequence[str] = (),
    texts: dict[str, str] | None = None,
    output: Path | None = None,
) -> Path:
    """Bring every page up to date and return the path of the page to open first.

    Errors: StagingError when a chapter failed, BuildError when the pages do not build cleanly.
    """
    output = output or project.build / "html"
    start = time.monotonic()
    records = refresh_chapters(project, data_root=data_root, only=only, texts=texts)
    if records:
        print(summary(records), flush=True)
    failed = [record.name for record in records if not record.ok]
    if failed:
        raise StagingError(f"no book was built, since these chapters failed: {', '.join(failed)}.")
    ran_s = time.monotonic() - start
    staged = output.with_name(f"{output.name}.staged")
    stage_book(project, staged, data_root=data_root, only=only)
    build_html(staged, output, log=output.with_name(f"{output.name}.log"))
    print(f"chapters {ran_s:.0f} s, pages {time.monotonic() - start - ran_s:.0f} s", flush=True)
    return output / "index.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m audiossl_lite.book", description=__doc__)
    parser.add_argument("command", choices=("build", "run"), help="build the book, or only run")
    parser.add_argument("--data", default="", help="folder of audio (default: embedded sounds)")
    parser.add_argument("--only", nargs="*", default=(), help="chapters by name or number")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    exit_on_terminate()
    data_root = "" if options.data in EMBEDDED_NAMES else str(Path(options.data).resolve())
    project = this_project()
    try:
        texts = split_assignments(options.parameter)
        if options.command == "run":
            records = refresh_chapters(project, data_root=data_root, only=options.only, texts=texts)
            if records:
                print(summary(records))
            return 0 if all(record.ok for record in records) else 1
        index = make_book(project, data_root=data_root, only=options.only, texts=texts)
    except (ValueError, StagingError, BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The book is ready. Open it in a browser:\n  {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
