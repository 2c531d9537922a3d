"""Write the parts of the appendix that repeat the code: `python -m tests.book.reference_pages`.

A page holds such a part between the lines `% made: NAME` and `% end of NAME`; the text around it is typed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from audiossl_lite.experiments.records import recorded
from tests.book.bad_inputs import bad_rows
from tests.book.library_index import (
    ROOT,
    all_definitions,
    best_test,
    places,
    relative,
)
from tests.data.bad_sounds import KINDS as BAD_FILES
from tests.faults.kinds import KINDS

COMMAND = "python -m tests.book.reference_pages"
PART = re.compile(r"^% made: (\w+)\n.*?^% end of \1$", re.MULTILINE | re.DOTALL)
TABLE_OF_PAPERS = ("ATST", "BYOL-A", "AudioMAE", "uaMix-MAE", "NNCLR", "data2vec", "EAT")
EQUATIONS = re.compile(r"^\| (.+?) \| .+ \| `(audiossl_lite/[^`]+)`<br>`([^`]+)` \|$", re.MULTILINE)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def papers() -> str:
    """Place in a paper, the code that says it implements it, and the test that names that code."""
    rows: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for item in all_definitions():
        for place in places(item.where):
            if place.split(" ")[0] in TABLE_OF_PAPERS:
                test = _code(best_test(item) or "") or "through its callers"
                rows[place].append((place, f"{_code(f'{item.file}: {item.name}')}<br>{test}"))
    in_order = sorted(rows, key=lambda p: (TABLE_OF_PAPERS.index(p.split(" ")[0]), p))
    return _table(("place", "code and test"), [row for place in in_order for row in rows[place]])


def by_code() -> str:
    """The functions of the table of equations in the order of the library: where their equations stand, their test."""
    text = (ROOT / "book" / "appendix_equations.md").read_text()
    typed = text.split("## From the code back")[0]
    rows: dict[str, tuple[list[str], str]] = {}
    for place, code, test in EQUATIONS.findall(typed):
        rows.setdefault(code, ([], test))[0].append(place)
    return _table(
        ("code", "equations", "test"),
        [(_code(c), ", ".join(where), _code(test)) for c, (where, test) in sorted(rows.items())],
    )


def skips() -> str:
    """Files, rows and names that are left out, with the reason that `Clips.report()` counts."""
    files = [(f"file: {kind}", reason) for kind, (_, reason, _) in BAD_FILES.items()]
    with tempfile.TemporaryDirectory() as folder:
        rows = list(bad_rows(Path(folder).resolve()))
    return _table(
        ("what is wrong", "reason in the report"),
        [(what, _code(reason)) for what, reason in [*files, *rows]],
    )


def fault_kinds() -> str:
    """Kinds of fault: what happens, the tests, and how many of them passed in the last full sweep."""
    rows = {row["name"]: row["outcome"] for row in _faults() if row["part"] == "tests"}
    return _table(
        ("what goes wrong", "what happens", "tests", "last sweep"),
        [
            (
                kind.name,
                kind.happens,
                "<br>".join(map(_code, kind.tests)),
                rows.get(kind.name, "not run"),
            )
            for kind in KINDS
        ],
    )


def fault_sweeps() -> str:
    """Faults that were injected by the hundred, and how the record says they ended."""
    rows = [row for row in _faults() if row["part"] != "tests"]
    return _table(
        ("what was damaged", "how it ended", "seconds of its part", "commit"),
        [
            (row["name"], row["outcome"], f"{row['seconds']:.0f}", _code(row["commit"]))
            for row in rows
        ],
    )


def fault_circumstances() -> str:
    """When and where the sweeps ran."""
    entry = recorded("faults")
    if entry is None:
        return "The sweeps were not run in this checkout."
    return f"Last sweep: {entry['date']}, {entry['device']}, {entry['seconds']:.0f} s in all."


def _faults() -> list[dict[str, Any]]:
    entry = recorded("faults")
    return entry["values"] if entry else []


PARTS = {
    "papers": papers,
    "by_code": by_code,
    "skips": skips,
    "fault_kinds": fault_kinds,
    "fault_sweeps": fault_sweeps,
    "fault_circumstances": fault_circumstances,
}


def renewed(text: str) -> str:
    """The text of a page with its made parts written anew."""

    def part(match: re.Match[str]) -> str:
        name = match[1]
        return f"% made: {name}\n\n{PARTS[name]()}\n\n% end of {name}"

    return PART.sub(part, text)


def pages() -> list[Path]:
    """Pages that hold a made part."""
    return [path for path in sorted((ROOT / "book").glob("*.md")) if PART.search(path.read_text())]


def main() -> None:
    os.environ["AUDIOSSL_PROGRESS"] = "off"
    for path in pages():
        path.write_text(renewed(path.read_text()))
        print(f"{relative(path)} written")


if __name__ == "__main__":
    main()
