"""Pin: what executes a chapter again, and what does not; each execution is counted by the chapter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from audiossl_lite.book import chapters
from audiossl_lite.book.chapters import (
    BUILD_FILES,
    Project,
    data_hash,
    library_hash,
    read_record,
    refresh_chapters,
    this_project,
)
from audiossl_lite.book.execute import RunRecord
from audiossl_lite.book.gate import cell_source, code_cells, read_notebook
from audiossl_lite.common.parameters import ParameterError
from tests.tiny import tiny_project

pytestmark = pytest.mark.notebook


def edit_notebook(path: Path, cell: int, source: str) -> None:
    """Replace the source of one cell."""
    notebook = json.loads(path.read_text())
    notebook["cells"][cell]["source"] = source
    path.write_text(json.dumps(notebook))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chapters run in this process, without a kernel: `test_execute.py` holds how one runs in its own."""

    def run(source: Path, output: Path, parameters: dict, **limits: object) -> RunRecord:
        notebook, names = read_notebook(source), {}
        for cell in code_cells(notebook):
            exec(cell_source(cell), names)
            cell["execution_count"] = 1
        notebook["metadata"]["papermill"] = {"end_time": "now"}
        output.write_text(json.dumps(notebook))
        return RunRecord(source.stem, "ok", 0.0, None, "", str(output), "")

    monkeypatch.setattr(chapters, "run_notebook", run)


class Counted:
    """A tiny project whose only chapter leaves a mark each time that it runs."""

    def __init__(self, root: Path) -> None:
        self.marks = root / "marks.txt"
        self.code = f"with open({str(self.marks)!r}, 'a') as file:\n    _ = file.write('x')"
        self.project = tiny_project(root / "project", [self.code, "print(seed)"], check="pass")
        self.chapter = self.project.notebooks / "01_tiny.ipynb"

    def runs_after(self, change: Callable[[], object] = lambda: None, **options: object) -> int:
        """How many executions a refresh needs after a change."""
        before = self.marks.stat().st_size if self.marks.exists() else 0
        change()
        records = refresh_chapters(self.project, say=lambda line: None, **options)  # type: ignore[arg-type]
        assert all(record.ok for record in records), records
        return self.marks.stat().st_size - before


@pytest.mark.usefixtures("at_once")
def test_only_what_can_change_a_result_executes_again(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    project = counted.project
    assert counted.runs_after() == 1, "first time"
    assert counted.runs_after() == 0, "nothing changed"
    assert counted.runs_after(lambda: edit_notebook(counted.chapter, 0, "# New prose")) == 0
    assert (
        counted.runs_after(lambda: (project.library / "book" / "build.py").write_text("# new\n"))
        == 0
    )
    assert counted.runs_after(lambda: (project.book / "intro.md").write_text("# New\n")) == 0
    assert counted.runs_after(lambda: os.utime(counted.chapter)) == 0, "touched, not changed"
    assert counted.runs_after(lambda: edit_notebook(counted.chapter, 4, "print('new')")) == 1
    assert counted.runs_after(lambda: (project.library / "losses.py").write_text("SCALE = 2\n"))
    assert counted.runs_after(lambda: project.lock.write_text("numpy==2\n")) == 1
    assert counted.runs_after(texts={"seed": "3"}) == 1
    assert counted.runs_after(texts={"seed": "3"}) == 0


@pytest.mark.usefixtures("at_once")
def test_a_new_record_runs_the_chapters_that_show_records_and_no_other(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    results = counted.project.book / "results"
    results.mkdir()

    def write(text: str) -> Callable[[], object]:
        return lambda: (results / "run.json").write_text(text)

    assert counted.runs_after() == 1
    assert counted.runs_after(write("{}")) == 0, "this chapter shows no record"
    shows = counted.code + "\n# results.recorded('run')"
    assert counted.runs_after(lambda: edit_notebook(counted.chapter, 3, shows)) == 1
    assert counted.runs_after() == 0
    assert counted.runs_after(write('{"values": 1}')) == 1
    assert counted.runs_after((results / "run.json").unlink) == 1


@pytest.mark.usefixtures("at_once")
def test_data_of_a_folder_counts_and_has_its_own_results(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    folder = tmp_path / "audio"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"one")
    assert counted.runs_after() == 1
    assert counted.runs_after(data_root=str(folder)) == 1
    assert counted.runs_after(data_root=str(folder)) == 0
    assert counted.runs_after() == 0, "the embedded results were kept"
    assert counted.runs_after(lambda: (folder / "b.wav").touch(), data_root=str(folder)) == 1
    record = read_record(counted.project.executed(str(folder)) / "01_tiny.ipynb")
    assert record["parameters"]["data_root"] == str(folder.resolve())


def test_a_failure_runs_again_and_a_damaged_result_too(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    project: Project = counted.project
    executed = project.executed() / "01_tiny.ipynb"
    assert counted.runs_after() == 1
    assert counted.runs_after(lambda: executed.write_text("{")) == 1
    edit_notebook(counted.chapter, 4, "raise SystemError('no')")
    for _ in range(2):
        records = refresh_chapters(project, say=lambda line: None)
        assert [record.status for record in records] == ["failed"]
        assert read_record(executed) == {}
    assert (project.executed() / "01_tiny.failed.ipynb").exists()


def test_a_wrong_parameter_stops_before_anything_runs(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    with pytest.raises(ParameterError, match="did you mean 'seed'"):
        refresh_chapters(counted.project, texts={"sed": "1"})
    assert not counted.marks.exists()


def test_chapters_are_chosen_by_name_or_number(tmp_path: Path) -> None:
    project = Counted(tmp_path).project
    assert project.chosen_chapters() == project.chosen_chapters(["01"]) == project.chapter_paths()
    assert project.chosen_chapters(["01_tiny"]) == project.chapter_paths()
    with pytest.raises(ParameterError, match="no chapter '01_tinny'; did you mean '01_tiny'"):
        project.chosen_chapters(["01_tinny"])


def test_every_build_file_exists_and_no_other_file_is_left_out(tmp_path: Path) -> None:
    library = this_project().library
    assert all((library / name).is_file() for name in BUILD_FILES)
    (tmp_path / "sub").mkdir()
    hashes = {library_hash(tmp_path)}
    for name in ("sub/run.py", "sound.js", "run.py"):
        (tmp_path / name).write_text("1")
        hashes.add(library_hash(tmp_path))
    assert len(hashes) == 3, (
        "a script counts, and of two files of that name only the one that runs chapters does not"
    )


def test_a_manifest_counts_with_the_files_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"one")
    manifest = tmp_path / "clips.csv"
    manifest.write_text("path,label\na.wav,dog\n")
    first = data_hash(str(manifest))
    (tmp_path / "other.wav").write_bytes(b"not named")
    assert data_hash(str(manifest)) == first
    (tmp_path / "a.wav").write_bytes(b"longer")
    assert data_hash(str(manifest)) != first


def test_names_and_tables_that_cannot_be_read_have_a_hash_too(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    os.close(os.open(os.fsencode(tmp_path / "sounds") + b"/\xff.wav", os.O_CREAT))
    assert data_hash(str(tmp_path / "sounds"))
    manifest = tmp_path / "clips.csv"
    manifest.write_text(f"path,label,about\na.wav,dog,{'w' * 200_000}\n")
    first = data_hash(str(manifest))
    manifest.write_text(manifest.read_text() + "b.wav,cat,\n")
    assert data_hash(str(manifest)) != first


@pytest.mark.usefixtures("at_once")
def test_chapters_run_side_by_side_and_are_reported_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two chapters that wait for each other's mark: one after the other neither would end."""
    waits = (
        "import time\nfrom pathlib import Path\n"
        f"Path({str(tmp_path)!r}, '{{own}}').touch()\n"
        f"limit = time.monotonic() + 60\n"
        f"while not Path({str(tmp_path)!r}, '{{other}}').exists():\n"
        "    assert time.monotonic() < limit\n    time.sleep(0.01)"
    )
    project = tiny_project(tmp_path / "project", [waits.format(own="a", other="b")], check="pass")
    first = project.notebooks / "01_tiny.ipynb"
    second = first.with_name("02_tiny.ipynb")
    second.write_text(
        first.read_text().replace("'a'", "'c'").replace("'b'", "'a'").replace("'c'", "'b'")
    )
    monkeypatch.setattr(chapters, "lanes", lambda: (2, 1))
    records = refresh_chapters(project, say=lambda line: None)
    assert [(record.name, record.ok) for record in records] == [
        ("01_tiny", True),
        ("02_tiny", True),
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_chapters_side_by_side_end_with_what_runs_them(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Two run, a third waits: none is begun after the signal, and no worker or kernel stays."""
    sleep = (
        "import os, time\nfrom pathlib import Path\n"
        f"Path({str(tmp_path)!r}, f'{{os.getpid()}}.kernel').touch()\ntime.sleep(120)"
    )
    project = tiny_project(tmp_path / "project", [sleep], check="pass")
    first = project.notebooks / "01_tiny.ipynb"
    for name in ("02_tiny.ipynb", "03_tiny.ipynb"):
        first.with_name(name).write_text(first.read_text())
    run = (
        "import signal, sys; from pathlib import Path\n"
        "from audiossl_lite.book import chapters, execute\n"
        # What a shell starts in the background ignores an interrupt, and so does all that it starts.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "chapters.lanes = lambda: (2, 1)\nexecute.exit_on_terminate()\n"
        "chapters.refresh_chapters(chapters.Project(Path(sys.argv[1])))"
    )
    # In a session of its own: a signal reaches this process alone, not what it started.
    runner = subprocess.Popen(
        [sys.executable, "-c", run, str(project.root)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    )  # fmt: skip
    while len(list(tmp_path.glob("*.kernel"))) < 2:
        assert runner.poll() is None
        time.sleep(0.1)
    family = psutil.Process(runner.pid).children(recursive=True)
    os.kill(runner.pid, number)
    assert runner.wait(timeout=60) != 0
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert runner.stdout.read().count("running") == 2
    assert not list(project.executed().glob("*_tiny.ipynb"))


def test_what_trains_shared_encoders_starts_first_and_others_of_other_code_are_removed(
    tmp_path: Path,
) -> None:
    started = chapters.in_order_of_work(this_project().chapter_paths())
    assert [path.stem[:2] for path in started[:3]] == ["10", "01", "02"]
    assert sorted(started) == this_project().chapter_paths()
    project = Project(tmp_path)
    old = chapters.shared_encoders(project, "code", "lock")
    old.mkdir(parents=True)
    assert chapters.shared_encoders(project, "code", "lock") == old and old.is_dir()
    new = chapters.shared_encoders(project, "other code", "lock")
    assert new.parent == old.parent and not old.exists()
