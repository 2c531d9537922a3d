"""Pin: the parameter files of `notebooks/jobs` hold known names and the papers' own sizes, and run by one command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from audiossl_lite.book.run import collect_parameters
from audiossl_lite.common.parameters import (
    DEFAULTS,
    ParameterError,
    make_parameters,
    parameter_file,
)
from audiossl_lite.experiments.pretrain import JobRequest, read_request
from audiossl_lite.experiments.settings.jobs import JOBS, find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.training import Compute
from tests.tiny import write_notebook

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "notebooks" / "jobs").glob("*.yaml"))


def test_every_job_has_a_file_at_both_scales() -> None:
    names = {path.stem for path in FILES}
    assert names == set(JOBS) | {f"workshop_{name}" for name in JOBS}


def test_a_file_asks_for_the_job_and_scale_of_its_name() -> None:
    options = {field.name for field in dataclasses.fields(Compute)}
    for path in FILES:
        values, request = parameter_file(path), read_request(path, needs_data=False)
        assert set(values) == set(DEFAULTS), path
        workshop = path.stem.startswith("workshop_")
        assert request.job == path.stem.removeprefix("workshop_")
        assert request.scale == ("workshop" if workshop else "paper"), path
        assert Path(values["output_dir"]) == Path("runs") / path.stem
        assert bool(request.start) == bool(find_job(request.job).after), path
        assert options <= set(values["overrides"]), path


def test_what_a_file_says_about_the_method_is_what_the_preset_says() -> None:
    for path in FILES:
        request = read_request(path, needs_data=False)
        known = preset(find_job(request.job).experiment, request.scale)
        assert len(request.overrides) >= 2, path
        other = {
            name: value for name, value in request.overrides.items()
            if value != ("bf16-mixed" if name == "precision" else getattr(known, name))
        }  # fmt: skip
        assert other == {}, path


def test_places_are_left_to_the_reader() -> None:
    for path in FILES:
        assert parameter_file(path)["data_root"].startswith("path/to/"), path
        with pytest.raises(ParameterError, match=r"data_root 'path/to/.*does not exist"):
            read_request(path)


def test_the_strict_runner_takes_the_file(tmp_path: Path) -> None:
    chapter = write_notebook(tmp_path / "13_a.ipynb")
    for path in FILES:
        values = collect_parameters(chapter, parameter_file(path), {"data_root": str(tmp_path)})
        request = JobRequest.from_parameters(make_parameters(values))
        assert request.data_root == str(tmp_path.resolve())
        assert JobRequest.from_parameters(make_parameters(request.as_parameters())) == request
        assert "-f notebooks/jobs/" + path.name in path.read_text()


SLIPS = [
    ("batch_size: 1536", "batch_sise: 1536", "unknown setting 'batch_sise'; did you mean 'batch_size'"),
    ("job: atst_small", "job: atst_smal", "unknown job 'atst_smal'; did you mean 'atst_small'"),
    ("preset: paper", "preset: pper", "did you mean 'paper'"),
    ("seed: 0", "sead: 0", "unknown parameter 'sead'"),
    ("n_parts: 1 ", "n_parts: 0 ", "n_parts must be between 1 and 65,536, got 0"),
    ("processes: 1 ", "processes: 0 ", "processes must be "),
    ("batch_size: 1536", "batch_size: many", "'batch_size' must be a whole number, got 'many'"),
    ("n_parts: 1 ", "n_parts: two ", "'n_parts' must be a whole number, got 'two'"),
    ("recompute: false", "recompute: 'no'", "'recompute' must be true or false, got 'no'"),
]  # fmt: skip


def test_a_slip_of_the_pen_is_named(tmp_path: Path) -> None:
    text = (ROOT / "notebooks" / "jobs" / "atst_small.yaml").read_text()
    for old, new, message in SLIPS:
        assert old in text
        (tmp_path / "a.yaml").write_text(text.replace(old, new))
        with pytest.raises((ParameterError, KeyError, TypeError, ValueError), match=message):
            read_request(tmp_path / "a.yaml", needs_data=False)
