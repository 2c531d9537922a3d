"""Build the book: `python -m audiossl_lite.book build [--data FOLDER]`, and print it: `... pdf`.

Runs the chapters that changed, puts their outputs onto the current text, and turns the pages into HTML.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from audiossl_lite.book.build import BuildError, make_book, make_pdf
from audiossl_lite.book.chapters import refresh_chapters, this_project
from audiossl_lite.book.execute import exit_on_terminate
from audiossl_lite.book.run import summary
from audiossl_lite.book.staging import StagingError
from audiossl_lite.common.parameters import EMBEDDED_NAMES, split_assignments


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m audiossl_lite.book", description=__doc__)
    parser.add_argument(
        "command", choices=("build", "run", "pdf"), help="build, only run, or print"
    )
    parser.add_argument("--data", default="", help="folder of audio (default: embedded sounds)")
    parser.add_argument("--only", nargs="*", default=(), help="chapters by name or number")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    exit_on_terminate()
    data_root = (
        "" if options.data in EMBEDDED_NAMES else str(Path(options.data).expanduser().resolve())
    )
    try:
        if options.command == "pdf":
            print(f"The book as one file:\n  {make_pdf(this_project())}")
            return 0
        wanted = {"data_root": data_root, "only": options.only}
        wanted["texts"] = split_assignments(options.parameter)
        if options.command == "run":
            records = refresh_chapters(this_project(), **wanted)
            if records:
                print(summary(records))
            return 0 if all(record.ok for record in records) else 1
        index = make_book(this_project(), **wanted)
    except (ValueError, StagingError, BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The book is ready. Open it in a browser:\n  {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
