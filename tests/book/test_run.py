"""Pin: the command line refuses what papermill lets pass, before anything runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from audiossl_lite.book import __main__ as command_line
from audiossl_lite.book.execute import RunRecord
from audiossl_lite.book.run import (
    collect_parameters,
    declared_parameters,
    default_limits,
    main,
    summary,
)
from audiossl_lite.common.parameters import ParameterError
from tests.tiny import write_notebook


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    return write_notebook(tmp_path / "01_a.ipynb", ["print('seed', parameters.seed)"])


WRONG = {
    "-p prest=lite": "unknown parameter 'prest'; did you mean 'preset'?",
    "-p seed=x": "'seed' must be a whole number, got 'x'",
    "-p seed=1.5": "'seed' must be a whole number, got '1.5'",
    "--preset pper": "did you mean 'paper'",
    "-p preset=lite --preset paper": "given twice",
    "-p seed=1 -p seed=2": "given twice",
    "-p seed": "write -p name=value",
    "-p data_root=no/such": "does not exist",
    "-f missing.yml": "cannot be read",
}


def test_wrong_requests_end_with_status_2_and_run_nothing(
    chapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.ipynb"
    said = {}
    for arguments in WRONG:
        status = main([str(chapter), "-o", str(output), *arguments.split()])
        said[arguments] = (status, capsys.readouterr().err, output.exists())
    wrong = [
        a for a, (status, err, ran) in said.items() if status != 2 or WRONG[a] not in err or ran
    ]
    assert wrong == [], said


def test_a_missing_notebook_and_an_output_on_itself(
    chapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nowhere.ipynb"]) == 2
    assert "there is no notebook nowhere.ipynb" in capsys.readouterr().err
    assert main([str(chapter), "-o", str(chapter)]) == 2
    assert main([str(chapter), str(chapter), "-o", "one.ipynb"]) == 2


def test_a_parameter_file_is_typed_and_the_command_line_wins(chapter: Path, tmp_path: Path) -> None:
    given = collect_parameters(
        chapter, {"seed": 3, "overrides": {"lr": 0.1}}, {"seed": "4", "overrides": "a=b=c"}
    )
    assert given == {"seed": 4, "overrides": {"lr": 0.1, "a": "b=c"}}
    given = collect_parameters(chapter, {"overrides": "lr=0.1,b=2"}, {"overrides": "lr=1.5"})
    assert given == {"overrides": {"lr": 1.5, "b": 2}}
    assert collect_parameters(chapter, {}, {"overrides": "a=1"}) == {"overrides": "a=1"}
    with pytest.raises(ParameterError, match="seed must be a whole number"):
        collect_parameters(chapter, {"seed": "3"}, {})
    with pytest.raises(ParameterError, match="did you mean 'device'"):
        collect_parameters(chapter, {"devise": "cpu"}, {})


def test_paths_are_made_absolute_for_the_kernel(
    chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "audio").mkdir()
    monkeypatch.chdir(tmp_path)
    given = collect_parameters(chapter, {}, {"data_root": "audio"})
    assert given["data_root"] == str((tmp_path / "audio").resolve())


def test_declared_parameters_need_one_tagged_cell_with_plain_values(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "a.ipynb", parameters="seed: int = 1\nrate = [1, 2]")
    assert declared_parameters(path) == {"seed": 1, "rate": [1, 2]}
    path = write_notebook(tmp_path / "b.ipynb", parameters="seed = 1 + int('2')")
    with pytest.raises(ParameterError, match="must be a plain value"):
        declared_parameters(path)
    text = path.read_text().replace('"parameters"\n', '"other"\n')
    path.write_text(text)
    with pytest.raises(ParameterError, match="0 cells tagged"):
        declared_parameters(path)


def test_only_lite_has_limits_by_default() -> None:
    cell_s, total_s = default_limits("lite", None, None)
    assert cell_s and total_s and cell_s <= total_s
    assert default_limits("paper", None, None) == (None, None)
    assert default_limits("lite", 0, 5.0) == (None, 5.0)


def test_the_summary_names_what_failed_and_where_its_parts_are(tmp_path: Path) -> None:
    log = str(tmp_path / "b.log")
    records = [
        RunRecord("01_a", "ok", 3.21, 512, "", "a.ipynb", "a.log"),
        RunRecord("02_b", "killed", 9.0, None, "the kernel died", "missing.ipynb", log),
    ]
    lines = summary(records).splitlines()
    assert lines[1].split() == ["01_a", "ok", "3.2", "512", "0"]
    assert lines[2].split()[:4] == ["02_b", "killed", "9.0", "-"]
    assert lines[3] == "02_b: killed: the kernel died"
    assert lines[4:] == ["  partial output: none was written", f"  log: {log}"]


@pytest.mark.notebook
def test_the_command_runs_a_chapter_and_reports_a_failure(chapter: Path, tmp_path: Path) -> None:
    bad = write_notebook(tmp_path / "02_b.ipynb", ["raise ValueError('no')"], check="pass")
    command = [sys.executable, "-m", "audiossl_lite.run", str(chapter), str(bad)]
    done = subprocess.run(
        [*command, "-o", "out", "--preset", "lite", "-p", "seed=5"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "02_b: failed: ValueError: no" in done.stdout
    assert "seed 5" in (tmp_path / "out" / "01_a.ipynb").read_text()
    assert (tmp_path / "out" / "02_b.failed.ipynb").exists()
    assert not (tmp_path / "out" / "02_b.ipynb").exists()


@pytest.mark.notebook
def test_plain_papermill_refuses_a_misspelt_name_too(chapter: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PapermillExecutionError, match="unknown parameter 'prest'; did you mean 'preset'?"
    ):
        papermill.execute_notebook(
            chapter, tmp_path / "out.ipynb", {"prest": "lite"}, progress_bar=False
        )


def test_data_in_the_home_folder_is_looked_for_in_the_home_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(command_line, "exit_on_terminate", lambda: None)
    monkeypatch.setattr(command_line, "make_book", lambda project, **wanted: asked.append(wanted))
    assert command_line.main(["build", "--data", "~/sounds"]) == 0
    assert asked[0]["data_root"] == str(tmp_path / "sounds")
