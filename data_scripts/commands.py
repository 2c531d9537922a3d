"""The command line that the data scripts share: `prepare` and `verify`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from archives import ArchiveError, extract


def run(
    title: str,
    wanted: Callable[[PurePosixPath], bool],
    verify: Callable[[Path], list[str]],
    arguments: list[str] | None = None,
) -> int:
    """Parse the arguments, do it, print what was done or what is wrong; return the exit status."""
    parser = argparse.ArgumentParser(description=f"{title}: unpack an archive, or check a folder")
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="unpack the makers' archive and check the result")
    prepare.add_argument("--from-archive", type=Path, required=True, metavar="ARCHIVE")
    prepare.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    check = commands.add_parser("verify", help="decode every file and compare the counts")
    check.add_argument("folder", type=Path, metavar="FOLDER")
    chosen = parser.parse_args(arguments)
    folder = chosen.to if chosen.command == "prepare" else chosen.folder
    try:
        if chosen.command == "prepare":
            print(f"{extract(chosen.from_archive, folder, wanted)} files unpacked to {folder}")
        faults = verify(folder)
    except (ArchiveError, FileExistsError, FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for fault in faults:
        print(f"problem: {fault}", file=sys.stderr)
    print(f"{title}: {'complete' if not faults else f'{len(faults)} problem(s)'}")
    return 1 if faults else 0
