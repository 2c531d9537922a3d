"""What a data script declares of its data set, and the command line: `info`, `fetch`, `prepare` and `verify`."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from archives import ArchiveError
from download import ChecksumError, DownloadError, Patience, RegistrationError, Remote, fetch
from inventory import Inventory, Row
from manifests import verify
from prepare import prepare

from audiossl_lite.common.ranges import ranged

FINE, PROBLEMS, CANNOT = 0, 1, 2
NOT_THERE = "listed by its maker, not in the given archives"
Counts = Mapping[str, Mapping[str, int]]  # column -> value -> how many clips


@dataclass(frozen=True)
class Clip:
    """One clip to be prepared: its path in the archive, its path in the folder, and its row of the manifest."""

    source: str
    path: str
    label: str
    group: str = ""
    split: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def row(self) -> Row:
        """The columns of the manifest that do not depend on the audio."""
        named = {"path": self.path, "label": self.label, "group": self.group, "split": self.split}
        return {**named, **self.more}


@dataclass
class Plan:
    """What to make of the archives: clips, what was left out and why, files to keep, and counts read from tables."""

    clips: list[Clip] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    keep: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, dict[str, int]] = field(default_factory=dict)


def every(row: Row) -> bool:
    """All rows belong to the view."""
    return True


@dataclass(frozen=True)
class DataSet:
    """A data set as its script declares it.

    `tables`: names of the files that `plan` reads whole; `plan` turns an inventory into clips; `expected`: counts
    of the full set by column and value, `n_values`: the number of different values in a column. `views`: further
    manifests, file name -> (column that becomes the label, column that becomes the group, which rows).
    `check_layout` looks at a folder in the maker's layout without a manifest. `subsets`: what `--subset` may name.
    """

    name: str
    title: str
    licence: str
    size: str
    source: str
    remotes: tuple[Remote, ...]
    plan: Callable[[Inventory, Namespace], Plan]
    tables: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    notes: str = ""
    expected: Counts = field(default_factory=dict)
    n_values: Mapping[str, int] = field(default_factory=dict)
    views: Mapping[str, tuple[str, str, Callable[[Row], bool]]] = field(default_factory=dict)
    check_layout: Callable[[Path], list[str]] | None = None

    def info(self) -> str:
        """Size, licence and source, as `info` prints them and `fetch` does before it starts."""
        lines = [
            self.title,
            f"  size     {self.size}",
            f"  licence  {self.licence}",
            f"  source   {self.source}",
        ]
        for remote in self.remotes:
            size = f", {remote.size_bytes / 2**20:,.1f} MiB" if remote.size_bytes else ""
            how = "by hand, after registration" if remote.by_hand else remote.url
            known = remote.checksum.split(":")[0] if remote.checksum else ""
            checked = f"{known} from {remote.checksum_from}" if known else "checksum recorded"
            lines.append(f"  file     {remote.name}{size}; {checked}; {how}")
        if self.notes:
            lines.append(f"  note     {self.notes}")
        return "\n".join(lines)


def run(data_set: DataSet, arguments: list[str] | None = None) -> int:
    """Do what the arguments ask, print what was done or what is wrong; return the exit status.

    0: all is well; 1: done, with problems that are named; 2: could not be done.
    """
    chosen = _parser(data_set).parse_args(arguments)
    work = {"info": _info, "fetch": _fetch, "prepare": _prepare, "verify": _verify}[chosen.command]
    try:
        return work(data_set, chosen)
    except (ArchiveError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
    return CANNOT


def _parser(data_set: DataSet) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"{data_set.title}: fetch, prepare, verify")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="size, licence and source")

    get = commands.add_parser("fetch", help="download, continuing where an earlier run stopped")
    get.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    names = [remote.name for remote in data_set.remotes]
    get.add_argument("--only", action="append", choices=names, help="one of its files; repeatable")
    get.add_argument("--url", help="take the file from here; with --only when there are several")
    get.add_argument("--mirror", help="take every file from this address followed by its name")
    get.add_argument("--timeout", type=ranged("patience", float), default=60.0, metavar="SECONDS")
    get.add_argument(
        "--attempts", type=ranged("attempts", int), default=6, help="requests without progress"
    )
    get.add_argument(
        "--pause",
        type=ranged("pause", float),
        default=2.0,
        metavar="SECONDS",
        help="doubled each time",
    )

    make = commands.add_parser("prepare", help="16 kHz mono files and a manifest")
    make.add_argument(
        "--from-archive",
        type=Path,
        required=True,
        nargs="+",
        metavar="PATH",
        help="archives, folders of audio, tables, or the folder that `fetch` has filled",
    )
    make.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    make.add_argument("--workers", type=ranged("workers", int), default=min(4, os.cpu_count() or 1))
    if data_set.subsets:
        make.add_argument("--subset", choices=data_set.subsets, required=True)
    check = commands.add_parser("verify", help="what is missing, extra or damaged")
    for command in (make, check):
        command.add_argument(
            "--show", type=ranged("show", int), default=50, help="problems named at most"
        )
    check.add_argument("folder", type=Path, metavar="FOLDER")
    return parser


def _info(data_set: DataSet, chosen: argparse.Namespace) -> int:
    print(data_set.info())
    return FINE


def _fetch(data_set: DataSet, chosen: argparse.Namespace) -> int:
    print(data_set.info(), flush=True)
    wanted = [r for r in data_set.remotes if not chosen.only or r.name in chosen.only]
    if chosen.url and len(wanted) != 1:
        raise ValueError(f"--url names one file; choose it by --only from {len(wanted)} files")
    patience = Patience(chosen.timeout, chosen.attempts, chosen.pause)
    status = FINE
    for remote in wanted:
        url = chosen.url or (f"{chosen.mirror.rstrip('/')}/{remote.name}" if chosen.mirror else "")
        try:
            print(f"{remote.name}: {fetch(remote, chosen.to, url, patience)}", flush=True)
        except (ChecksumError, RegistrationError) as error:
            print(f"problem: {error}", file=sys.stderr)
            status = max(status, PROBLEMS)
        except (DownloadError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            status = CANNOT
    return status


def _prepare(data_set: DataSet, chosen: argparse.Namespace) -> int:
    outcome = prepare(data_set, chosen.from_archive, chosen.to, chosen)
    print(
        f"{outcome.n_clips} clips in {outcome.folder}, {outcome.n_new} of them new; "
        f"{outcome.n_skipped} left out, {outcome.n_limited} limited to full scale"
    )
    return _verify(data_set, argparse.Namespace(folder=chosen.to, show=chosen.show))


def _verify(data_set: DataSet, chosen: argparse.Namespace) -> int:
    faults = verify(data_set, chosen.folder)
    for fault in faults[: chosen.show]:
        print(f"problem: {fault}", file=sys.stderr)
    if len(faults) > chosen.show:
        print(f"problem: {len(faults) - chosen.show} more; --show names them", file=sys.stderr)
    print(f"{data_set.title}: {f'{len(faults)} problem(s)' if faults else 'complete'}")
    return PROBLEMS if faults else FINE
