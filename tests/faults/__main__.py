"""Every sweep of faults, written to one record: `python -m tests.faults [PART ...]`, as `make faults` does.

A part that is run alone replaces its rows of the record and leaves the others. Exit status 1 when anything was lost
or let in.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from audiossl_lite.experiments.records import current_commit, device_name, load, record
from tests.book.browser import BROWSER
from tests.book.library_index import ROOT
from tests.data import bad_sounds, store_flips
from tests.faults import flips, hostile_pages
from tests.faults.kinds import KINDS

RECORD = ROOT / "book" / "results" / "faults.json"
N_BAD, N_GOOD, N_STORE_FLIPS = 1000, 100, 450

Row = dict[str, Any]


def row(name: str, injected: int, wrong: int, outcome: str) -> Row:
    """One line of the record: `injected` faults, of which `wrong` were not met as they should be."""
    return {"name": name, "mean": injected, "ci95": None, "wrong": wrong, "outcome": outcome}


def of_sounds() -> Iterator[Row]:
    """Bad files among good ones."""
    signal.alarm(bad_sounds.TIME_LIMIT_S)  # what blocks is ended by the system
    with tempfile.TemporaryDirectory() as folder:
        faults = bad_sounds.sweep(Path(folder), N_BAD, N_GOOD)
    signal.alarm(0)
    print("\n".join(faults))
    said = f"{N_BAD} bad files of {len(bad_sounds.KINDS)} kinds among {N_GOOD} good ones: "
    said += f"{len(faults)} read, packed or counted wrongly"
    yield row("bad files", N_BAD, len(faults), said)


def of_files() -> Iterator[Row]:
    """Flipped bits and zeroed blocks in checkpoints and weights."""
    with tempfile.TemporaryDirectory() as folder:
        for name, target in flips.targets(Path(folder)).items():
            ends = flips.sweep(*target)
            said = ", ".join(f"{n} {ending}" for ending, n in ends.most_common())
            wrong = ends[flips.CHANGED] + ends[flips.RAW]
            yield row(name, ends.total(), wrong, f"{ends.total()} damaged files: {said}")


def of_stores() -> Iterator[Row]:
    """Flipped bits in a packed store."""
    with tempfile.TemporaryDirectory() as folder:
        counts = store_flips.flip_bits(Path(folder), N_STORE_FLIPS)
    for kind, count in counts.items():
        wrong = sum(count[key] for key in store_flips.FAULTS)
        said = f"{count['flips']} flipped bits: {count['refused']} refused, {count['read']} read, "
        said += f"{count['raw']} raw errors, {count['blessed']} blessed by packing again"
        yield row(f"store, {kind}", count["flips"], wrong, said)


def of_names() -> Iterator[Row]:
    """Pages of whole chapters from hostile names."""
    with tempfile.TemporaryDirectory() as folder:
        n_pages, wrong = hostile_pages.sweep(Path(folder), list(hostile_pages.CHAPTERS))
    print("\n".join(wrong))
    how = "in a browser" if BROWSER else "read without a browser"
    said = f"pages of all {n_pages} chapters {how}: {len(wrong)} names became markup"
    yield row("hostile names", n_pages, len(wrong), said)


def of_tests() -> Iterator[Row]:
    """The tests of each kind, each run once."""
    wanted = sorted({test for kind in KINDS for test in kind.tests})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
        ]
        subprocess.run([*command, *wanted], cwd=ROOT, check=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    for kind in KINDS:
        own = [case for case in cases if any(is_of(case, test) for test in kind.tests)]
        bad = [
            case
            for case in own
            if case.find("failure") is not None or case.find("error") is not None
        ]
        n_skipped = sum(case.find("skipped") is not None for case in own)
        n_passed = len(own) - len(bad) - n_skipped
        said = f"{n_passed} tests passed" + (f", {len(bad)} failed" if bad else "")
        said += f", {n_skipped} not run here" if n_skipped else ""
        yield row(kind.name, len(own), len(bad) + (not own), said)


def is_of(case: ElementTree.Element, test: str) -> bool:
    """Whether a case of pytest's report belongs to a file, or to a test of one."""
    path, _, name = test.partition("::")
    module = path.removesuffix(".py").replace("/", ".")
    return case.get("classname") == module and name in ("", case.get("name", "").partition("[")[0])


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "sounds": of_sounds, "files": of_files, "stores": of_stores, "names": of_names, "tests": of_tests,
}  # fmt: skip


def keep(part: str, rows: list[Row], seconds: float) -> None:
    """Put the rows of a part into the record, in place of those that it had."""
    before = load(RECORD)
    others = [r for r in before["values"] if r["part"] != part] if before else []
    about = {"part": part, "seconds": round(seconds, 1), "commit": current_commit()}
    values = [*others, *(r | about for r in rows)]
    values.sort(key=lambda r: list(PARTS).index(r["part"]))
    whole_s = sum({r["part"]: r["seconds"] for r in values}.values())
    config = {"bad": N_BAD, "good": N_GOOD, "store_flips": N_STORE_FLIPS, "flips": flips.N_FLIPS}
    record(
        RECORD, experiment="faults", scale="faults", data="made-up files", data_fingerprint="none",
        device=device_name("cpu"), seeds=[0], seconds=whole_s, config=config, values=values,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that are named, or all, one after the other; 1 when anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    asked = parser.parse_args(arguments).parts or list(PARTS)
    if unknown := set(asked) - set(PARTS):
        parser.error(f"no part {sorted(unknown)[0]!r}; there are {', '.join(PARTS)}")
    os.environ["AUDIOSSL_PROGRESS"] = "off"
    n_wrong = 0
    for part in asked:
        start = time.monotonic()
        rows = list(PARTS[part]())
        keep(part, rows, time.monotonic() - start)
        n_wrong += sum(r["wrong"] for r in rows)
        for r in rows:
            print(f"{r['name']}: {r['outcome']}", flush=True)
    return int(n_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
