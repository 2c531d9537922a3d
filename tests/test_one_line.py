"""A wrong request ends in one line that names the file or setting, with a status, and without a traceback."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from audiossl_lite import run
from audiossl_lite.common.parameters import ParameterError, make_parameters, usable_folder
from audiossl_lite.experiments import cost, pretrain
from audiossl_lite.experiments.gpu import command
from audiossl_lite.pretrained import check
from audiossl_lite.training import NotFiniteError
from tests.tiny import PARAMETERS_CELL

LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
YAML = {
    "date": ("overrides: {steps: 2020-01-01}\n", "holds '2020-01-01', a date"),
    "set": ("overrides: {steps: !!set {1, 2}}\n", "a set; write text"),
    "bytes": ("overrides: {frontend: !!binary aGVsbG8=}\n", "a bytes; write text"),
    "aliases without end": (f"a0: &a0 [x]\n{LAUGHS}overrides: {{x: *a11}}\n", "more than 10000 parts"),
    "an alias of itself": ("overrides: {x: &a [*a]}\n", "aliases without end"),
    "brackets": (f"overrides: {'[' * 3000}{']' * 3000}", "cannot be read"),
    "a tab": ("seed:\t1\n\tx: 2\n", "cannot be read"),
    "bytes that are no text": (b"seed: \xff\xfe\n", "cannot be read"),
    "a list": ("- 1\n", "must hold `name: value` lines"),
}  # fmt: skip


def cell(source: str, metadata: object) -> dict:
    return {
        "cell_type": "code",
        "source": source,
        "metadata": metadata,
        "outputs": [],
        "execution_count": None,
    }


def notebook(path: Path, cells: object) -> Path:
    kernel = {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    content = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def chapter(tmp_path) -> Path:
    return notebook(tmp_path / "chapter.ipynb", [cell(PARAMETERS_CELL, {"tags": ["parameters"]})])


@pytest.fixture
def refused(capsys):
    """Calls a command, and returns the only line that it wrote to standard error."""

    def call(main, *arguments, status: int = 2) -> str:
        assert main([str(item) for item in arguments]) == status
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    return call


@pytest.mark.parametrize("case", YAML)
def test_a_parameter_file_of_something_else(case, chapter, tmp_path, refused):
    content, message = YAML[case]
    file = tmp_path / "wrong.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for line in (refused(run.main, chapter, "-f", file), refused(pretrain.main, file)):
        assert "wrong.yaml" in line and message in line and len(line) < 1000


def test_a_pipe_is_refused_and_not_waited_for(chapter, tmp_path, refused):
    def give_up(*_):
        raise TimeoutError("a command waited for a pipe")

    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    (tmp_path / "job.yaml").write_text("overrides: {job: byola}\n")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        for line in (
            refused(run.main, chapter, "-f", pipe),
            refused(run.main, pipe),
            refused(pretrain.main, pipe),
            refused(cost.main, pipe),
            refused(cost.main, tmp_path / "job.yaml", "-o", pipe),
            refused(check.main, pipe),
        ):
            assert str(pipe) in line
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_parameter_file_in_utf_16_is_read(tmp_path, refused):
    (tmp_path / "wide.yaml").write_bytes("overrides: {job: byola, stepz: 3}\n".encode("utf-16"))
    assert "unknown setting 'stepz'" in refused(pretrain.main, tmp_path / "wide.yaml")


@pytest.mark.parametrize("text", ['{"a": ' + "[" * 100_000, "steps=" + "(" * 5000])
def test_overrides_nested_too_deep(text, chapter, tmp_path, refused):
    (tmp_path / "job.yaml").write_text("overrides: {job: byola}\n")
    line = refused(pretrain.main, tmp_path / "job.yaml", "-p", f"overrides={text}")
    assert "overrides is not valid JSON" in line or "'steps' must be a whole number" in line


@pytest.mark.parametrize("value", [{"x": {1, 2}}, {"x": b"ab"}, {"x": [object()]}])
def test_overrides_of_a_notebook_are_plain(value):
    with pytest.raises(ParameterError, match=r"overrides holds .*, a (set|bytes|object); write"):
        make_parameters({"overrides": value})


CELLS = {
    "no cells": (None, "it has no cells"),
    "a cell of nothing": ([None], "it has no cells"),
    "no metadata": ([cell("1", None)], "0 cells tagged `parameters`"),
    "no tags": ([cell("1", {"tags": None})], "0 cells tagged `parameters`"),
    "a syntax error": (
        [cell('preset = "lite"\nseed = = 3\n', {"tags": ["parameters"]})],
        "the cell tagged `parameters` is no Python: invalid syntax, line 2",
    ),
}


@pytest.mark.parametrize("case", CELLS)
def test_notebooks_that_are_none(case, tmp_path, refused):
    cells, message = CELLS[case]
    line = refused(run.main, notebook(tmp_path / "none.ipynb", cells))
    assert "none.ipynb" in line and message in line


@pytest.fixture
def blocked(tmp_path) -> Path:
    """A folder that cannot be made: a file stands in its place."""
    (tmp_path / "a_file").write_text("")
    return tmp_path / "a_file" / "folder"


def test_outputs_that_cannot_be_written(blocked, chapter, tmp_path, refused):
    (tmp_path / "job.yaml").write_text("overrides: {job: byola}\n")
    message = f"cannot be made: {blocked.parent} is a file"
    for line in (
        refused(run.main, chapter, "-o", blocked),
        refused(run.main, chapter, "-o", blocked / "x.ipynb"),
        refused(run.main, chapter, "-p", f"output_dir={blocked}"),
        refused(pretrain.main, tmp_path / "job.yaml", "-p", f"output_dir={blocked}"),
        refused(cost.main, tmp_path / "job.yaml", "-o", blocked / "x.json"),
    ):
        assert message in line
    line = refused(command.main, "--device", "cpu", "--only", "card", "--out", blocked)
    assert str(blocked) in line


def test_a_folder_that_its_parent_does_not_take_is_named(chapter, refused, monkeypatch):
    def refuse(self, *args, **options):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert "Read-only file system: 'far'" in refused(run.main, chapter, "-o", "far")


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    with pytest.raises(ParameterError, match=rf"x/y cannot be written: {tmp_path} is read-only"):
        usable_folder(tmp_path / "x" / "y")
    monkeypatch.undo()
    usable_folder(tmp_path / "x" / "y")
    usable_folder(Path("x/y"))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "error", [OSError(28, "last.pt cannot be written"), NotFiniteError("the loss is nan")]
)
def test_a_job_that_stops_says_why_in_one_line(error, tmp_path, refused, monkeypatch):
    def stop(self):
        raise error

    monkeypatch.setattr(pretrain.JobRequest, "run", stop)
    (tmp_path / "job.yaml").write_text("overrides: {job: byola}\n")
    line = refused(pretrain.main, tmp_path / "job.yaml", "--no-estimate", status=1)
    assert line.endswith(str(error)) and "job.yaml" in line
