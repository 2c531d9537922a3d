"""Execute only the chapters whose result can have changed since they last ran.

A chapter's fingerprint covers its code cells, the library, the parameters, the data, the lock file
and, where it shows them, recorded runs. Its prose is left out: editing a sentence executes nothing,
the known outputs are put onto the new text.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiossl_lite.book.execute import RunRecord, end_running, run_notebook
from audiossl_lite.book.gate import cell_source, code_cells, problems, read_notebook
from audiossl_lite.book.run import collect_parameters, default_limits
from audiossl_lite.common.parameters import SHARED_ENCODERS, ParameterError, nearest

# Files of the library that no chapter's result depends on: they run and build, they do not compute.
BUILD_FILES = frozenset(
    {"__main__.py", "run.py", "book/search.js"}
    | {f"book/{x}.py" for x in ("__main__", "api", "build", "chapters", "execute", "gate", "run", "search", "slides")}
    | {"book/staging.py", "book/theme.py"}
)  # fmt: skip
# A chapter whose code holds one of these shows recorded runs or the papers' own numbers.
READS_RECORDS = ("recorded", "paper_table")
# And one that holds this evaluates encoders which chapters before or after it evaluate too.
TRAINS_ENCODERS = "zoo = encoder_set("
RECORD = "audiossl_lite"  # where the metadata of an executed notebook say how it was made


@dataclass(frozen=True)
class Project:
    """Where a project keeps its parts; tests have a small one in a temporary folder."""

    root: Path

    notebooks = property(lambda self: self.root / "notebooks", doc="Folder of the chapters.")
    book = property(lambda self: self.root / "book", doc="Folder of the prose pages and settings.")
    library = property(lambda self: self.root / "audiossl_lite", doc="Folder of the library.")
    lock = property(lambda self: self.root / "constraints.txt", doc="File that pins the packages.")
    build = property(lambda self: self.root / "_build", doc="Folder of everything that is made.")

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
        return [path for path in chapters if not only or {path.stem, path.stem[:2]} & set(only)]

    def executed(self, data_root: str = "") -> Path:
        """The folder of executed chapters: one for the embedded sounds, one for each data folder."""
        name = "embedded"
        if data_root:
            name = f"{Path(data_root).name}-{_hash([str(Path(data_root).resolve())])[:8]}"
        return self.build / "executed" / name


def this_project() -> Project:
    """Return the project that this file belongs to (an editable installation)."""
    return Project(Path(__file__).resolve().parents[2])


def _hash(parts: Iterable[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # a file's name need not be UTF-8
        digest.update((os.fsencode(part) if isinstance(part, str) else part) + b"\0")
    return digest.hexdigest()


def _hash_of_files(paths: Iterable[Path], root: Path) -> str:
    files = sorted(paths)
    return _hash(x for p in files for x in (p.relative_to(root).as_posix(), p.read_bytes()))


def library_hash(library: Path) -> str:
    """Return a hash over every file of the library that a result can depend on."""
    build = {library / name for name in BUILD_FILES}
    files = (path for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return _hash_of_files((path for path in files if path not in build), library)


def _cells(table: Path) -> list[str]:
    """All cells of a CSV file, up to the first that cannot be read: the chapters say what is wrong with it."""
    cells: list[str] = []
    with contextlib.suppress(csv.Error):
        for row in csv.reader(table.read_text("utf-8", errors="replace").splitlines()):
            cells += row
    return cells


def data_hash(data_root: str) -> str:
    """Return a hash over names, sizes and times of all files under a folder, or of a CSV manifest.

    Embedded sounds (an empty name) need none: the library's hash covers them.
    """
    if not data_root:
        return "embedded"
    root = Path(data_root).resolve()
    parts: list[str | bytes] = [str(root)]
    if root.is_file():
        parts.append(root.read_bytes())
        names = [os.path.join(root.parent, text) for text in _cells(root) if text]
    else:
        names = [os.fspath(path) for path in sorted(root.rglob("*"))]
    for name in filter(os.path.isfile, names):
        status = os.stat(name)
        parts.append(f"{os.path.relpath(name, root)} {status.st_size} {status.st_mtime_ns}")
    return _hash(parts)


def records_hash(notebook: dict[str, Any], book: Path) -> str:
    """Return a hash over recorded runs and the papers' numbers, for a notebook that shows some; else "none"."""
    code = "\n".join(cell_source(cell) for cell in code_cells(notebook))
    if not any(word in code for word in READS_RECORDS):
        return "none"
    return _hash_of_files([*book.glob("results/*.json"), *book.glob("papers/*.json")], book)


def fingerprint(
    notebook: Path, parameters: dict[str, Any], *, library: str, lock: str, data: str, book: Path
) -> dict[str, str]:
    """Return what the result of a chapter depends on, part by part; of the notebook, its code cells in order."""
    cells = read_notebook(notebook)
    return {
        "code": _hash(cell_source(cell) for cell in code_cells(cells)),
        "records": records_hash(cells, book),
        "library": library,
        "parameters": json.dumps(parameters, sort_keys=True),
        "data": data,
        "lock": lock,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def read_record(executed: Path) -> dict[str, Any]:
    """Return how an executed chapter was made, empty when no complete run of it can be read."""
    try:
        notebook = read_notebook(executed)
    except ValueError:
        return {}
    return {} if problems(notebook) else notebook["metadata"].get(RECORD, {})


def _write_record(executed: Path, record: RunRecord, wanted: dict[str, str]) -> None:
    notebook = read_notebook(executed)
    notebook["metadata"][RECORD] = record.as_dict() | {
        "fingerprint": wanted,
        "parameters": json.loads(wanted["parameters"]),
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
    aside = executed.with_suffix(".part")
    aside.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(executed)


def changed_parts(executed: Path, wanted: dict[str, str]) -> list[str]:
    """Return which parts of the fingerprint differ from the last complete run; none if it holds."""
    record = read_record(executed)
    if not record:
        return ["no complete run"]
    return [part for part, value in wanted.items() if record["fingerprint"].get(part) != value]


def lanes() -> tuple[int, int]:
    """How many chapters run side by side, for each a core and 4 GiB of memory and 4 at most; and threads of each."""
    cores = os.cpu_count() or 1
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    side_by_side = max(1, min(4, cores, int(memory_gib / 4)))
    return side_by_side, max(1, cores // side_by_side)


def say_line(line: str) -> None:
    """Print a line as one piece: chapters that run side by side speak at the same time."""
    print(f"{line}\n", end="", flush=True)


def refresh_chapters(
    project: Project,
    *,
    data_root: str = "",
    only: Sequence[str] = (),
    texts: dict[str, str] | None = None,
    say: Callable[[str], None] = say_line,
) -> list[RunRecord]:
    """Bring the executed chapters up to date, some side by side; one record for each that had to run, in their order.

    only: chapter names or their numbers. A chapter that fails leaves its partial output beside the
    folder's complete ones and no valid record, so that it runs again next time. A second process waits until the
    first is done with a chapter, and finds it unchanged. Errors: ParameterError, before anything runs.
    """
    texts = {"preset": "lite", **(texts or {})}
    if data_root:
        texts["data_root"] = str(Path(data_root).resolve())
    folder = project.executed(data_root)
    chapters = project.chosen_chapters(only)
    parameters = {path: collect_parameters(path, {}, texts) for path in chapters}
    circumstances = {
        "library": library_hash(project.library),
        "lock": _hash([project.lock.read_bytes()]),
        "data": data_hash(data_root),
        "book": project.book,
    }
    wanted = {path: fingerprint(path, parameters[path], **circumstances) for path in chapters}
    folder.mkdir(parents=True, exist_ok=True)
    encoders = shared_encoders(project, circumstances["library"], circumstances["lock"])
    n_lanes, n_threads = lanes()

    def refresh(path: Path) -> RunRecord | None:
        executed = folder / path.name
        with (folder / f".{path.stem}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (changed := changed_parts(executed, wanted[path])):
                say(f"{path.stem}: unchanged")
                return None
            say(f"{path.stem}: running ({', '.join(changed)})")
            executed.unlink(missing_ok=True)
            cell_s, whole_s = default_limits(parameters[path]["preset"], None, None)
            record = run_notebook(
                path, executed, parameters[path], cell_timeout_s=cell_s, timeout_s=whole_s,
                n_threads=n_threads, environment={SHARED_ENCODERS: str(encoders)},
            )  # fmt: skip
            say(f"{path.stem}: {record.status}, {record.seconds:.1f} s {record.reason}".rstrip())
            if record.ok:
                _write_record(executed, record, wanted[path])
            return record

    with ThreadPoolExecutor(n_lanes) as pool:
        runs = {path: pool.submit(refresh, path) for path in in_order_of_work(chapters)}
        try:
            records = [runs[path].result() for path in chapters]
        except BaseException:
            for run in runs.values():
                run.cancel()  # what has not begun stays as it was
            while not all(run.done() for run in runs.values()):
                end_running()
                time.sleep(0.1)
            raise
    return [record for record in records if record]


def in_order_of_work(chapters: Sequence[Path]) -> list[Path]:
    """The chapters with the first one foremost that trains the encoders which others read afterwards."""
    training = (path for path in chapters if TRAINS_ENCODERS in path.read_text("utf-8"))
    first = list(itertools.islice(training, 1))
    return first + [path for path in chapters if path not in first]


def shared_encoders(project: Project, *made_by: str) -> Path:
    """The folder of encoders that several chapters evaluate, made by this code; those of other code are removed."""
    folder = project.build / "encoders" / _hash(made_by)[:12]
    for other in folder.parent.glob("*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder
