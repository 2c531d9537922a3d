"""Execute only the chapters whose result can have changed since they last ran.

A chapter's fingerprint covers its code cells, the library, the parameters, the data, the lock file
and, where it shows them, recorded runs. Its prose is left out: editing a sentence executes nothing,
the known outputs are put onto the new text.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiossl_lite.execution import RunRecord, run_notebook
from audiossl_lite.gate import cell_source, code_cells, problems, read_notebook
from audiossl_lite.parameters import ParameterError, nearest
from audiossl_lite.run import collect_parameters, default_limits

# Files of the library that no chapter's result depends on: they run and build, they do not compute.
BUILD_FILES = frozenset(
    {"book.py", "chapters.py", "execution.py", "gate.py", "run.py", "staging.py"}
)
# A chapter whose code holds one of these shows recorded runs or the papers' own numbers.
READS_RECORDS = ("recorded", "paper_table")


@dataclass(frozen=True)
class Project:
    """Where a project keeps its parts; tests give a small one in a temporary folder."""

    root: Path

    @property
    def notebooks(self) -> Path:
        """Folder of the chapters."""
        return self.root / "notebooks"

    @property
    def book(self) -> Path:
        """Folder of the prose pages and settings."""
        return self.root / "book"

    @property
    def library(self) -> Path:
        """Folder of the library."""
        return self.root / "audiossl_lite"

    @property
    def lock(self) -> Path:
        """File that pins the packages."""
        return self.root / "constraints.txt"

    @property
    def build(self) -> Path:
        """Folder of everything that is made."""
        return self.root / "_build"

    def chapter_paths(self) -> list[Path]:
        """The chapters in reading order."""
        return sorted(self.notebooks.glob("[0-9][0-9]_*.ipynb"))

    def chosen_chapters(self, only: Sequence[str] = ()) -> list[Path]:
        """The chapters named in `only` (by name or number), or all; an unknown one is an error."""
        chapters = self.chapter_paths()
        names = [path.stem for path in chapters]
        for name in only:
            if name not in names and name not in [known[:2] for known in names]:
                hint = f"; did you mean {nearest(name, names)!r}?" if names else ""
                raise ParameterError(f"there is no chapter {name!r}{hint}")
        return [path for path in chapters if not only or path.stem in only or path.stem[:2] in only]

    def executed(self, data_root: str = "") -> Path:
        """The folder of executed chapters: one for the embedded sounds, one for each data folder."""
        name = "embedded"
        if data_root:
            digest = hashlib.sha256(str(Path(data_root).resolve()).encode()).hexdigest()[:8]
            name = f"{Path(data_root).name}-{digest}"
        return self.build / "executed" / name


def this_project() -> Project:
    """Return the project that this file belongs to (an editable installation)."""
    return Project(Path(__file__).resolve().parent.parent)


def library_hash(library: Path) -> str:
    """Return a hash over every file of the library that a result can depend on."""
    digest = hashlib.sha256()
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library).as_posix()
        if name not in BUILD_FILES:
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _stat_line(path: Path, name: str) -> str:
    status = path.stat()
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"


def data_hash(data_root: str) -> str:
    """Return a hash over names, sizes and times of all files under a folder, or of a CSV manifest.

    Embedded sounds (an empty name) need none: the library's hash covers them.
    """
    if not data_root:
        return "embedded"
    root = Path(data_root)
    digest = hashlib.sha256(str(root.resolve()).encode())
    if root.is_file():
        digest.update(root.read_bytes())
        with root.open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.reader(stream):
                for text in row:
                    if text and (root.parent / text).is_file():
                        digest.update(_stat_line(root.parent / text, text).encode())
        return digest.hexdigest()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = Path(folder) / name
            if path.exists():
                digest.update(_stat_line(path, path.relative_to(root).as_posix()).encode())
    return digest.hexdigest()


def records_hash(notebook: dict[str, Any], book: Path) -> str:
    """Return a hash over recorded runs and the papers' numbers, for a notebook that shows some; else "none"."""
    code = "\n".join(cell_source(cell) for cell in code_cells(notebook))
    if not any(word in code for word in READS_RECORDS):
        return "none"
    digest = hashlib.sha256()
    for path in sorted([*(book / "results").glob("*.json"), *(book / "papers").glob("*.json")]):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def code_hash(notebook: dict[str, Any]) -> str:
    """Return a hash over the code cells of a notebook, in order; its prose does not count."""
    return hashlib.sha256(
        json.dumps([cell_source(cell) for cell in code_cells(notebook)]).encode()
    ).hexdigest()


def fingerprint(
    notebook: Path, parameters: dict[str, Any], *, library: str, lock: str, data: str, book: Path
) -> dict[str, str]:
    """Return what the result of a chapter depends on, part by part."""
    cells = read_notebook(notebook)
    return {
        "code": code_hash(cells),
        "records": records_hash(cells, book),
        "library": library,
        "parameters": json.dumps(parameters, sort_keys=True),
        "data": data,
        "lock": lock,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def record_path(executed: Path) -> Path:
    """Return the file that holds how an executed chapter was made."""
    return executed.with_suffix(".json")


def read_record(executed: Path) -> dict[str, Any]:
    """Return the record of an executed chapter, empty when there is none that can be read."""
    try:
        return json.loads(record_path(executed).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def changed_parts(executed: Path, wanted: dict[str, str]) -> list[str]:
    """Return which parts of the fingerprint differ from the last complete run; none if it holds."""
    record = read_record(executed)
    if not record or not executed.is_file():
        return ["never run"]
    try:
        if problems(read_notebook(executed)):
            return ["incomplete output"]
    except ValueError:
        return ["unreadable output"]
    known = record.get("fingerprint", {})
    return [part for part, value in wanted.items() if known.get(part) != value]


def _write_record(executed: Path, record: RunRecord, wanted: dict[str, str]) -> None:
    content = record.as_dict() | {
        "fingerprint": wanted,
        "parameters": json.loads(wanted["parameters"]),
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
    path = record_path(executed)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def refresh_chapters(
    project: Project,
    *,
    data_root: str = "",
    only: Sequence[str] = (),
    texts: dict[str, str] | None = None,
    cell_timeout_s: float | None = None,
    timeout_s: float | None = None,
    say: Callable[[str], None] = print,
) -> list[RunRecord]:
    """Bring the executed chapters up to date and return one record for each that had to run.

    only: chapter names or their numbers. A chapter that fails leaves its partial output beside the
    folder's complete ones and no valid record, so that it runs again next time.
    Errors: ParameterError, before anything runs.
    """
    texts = {"preset": "lite", **(texts or {})}
    if data_root:
        texts["data_root"] = str(Path(data_root).resolve())
    folder = project.executed(data_root)
    library = library_hash(project.library)
    lock = hashlib.sha256(project.lock.read_bytes()).hexdigest()
    data = data_hash(data_root)
    jobs = []
    for path in project.chosen_chapters(only):
        given = collect_parameters(path, {}, texts)
        wanted = fingerprint(path, given, library=library, lock=lock, data=data, book=project.book)
        changed = changed_parts(folder / path.name, wanted)
        if changed:
            jobs.append((path, given, wanted, changed))
        else:
            say(f"{path.stem}: unchanged")
    records = []
    for path, given, wanted, changed in jobs:
        say(f"{path.stem}: running ({', '.join(changed)})")
        executed = folder / path.name
        record_path(executed).unlink(missing_ok=True)
        limits = default_limits(given["preset"], cell_timeout_s, timeout_s)
        record = run_notebook(path, executed, given, cell_timeout_s=limits[0], timeout_s=limits[1])
        say(f"{path.stem}: {record.status}, {record.seconds:.1f} s {record.reason}".rstrip())
        if record.ok:
            _write_record(executed, record, wanted)
        records.append(record)
    return records
