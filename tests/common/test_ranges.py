"""Numbers out of their range are refused with name, range and value: in presets, overrides, job files and commands."""

from __future__ import annotations

import dataclasses

import pytest

from audiossl_lite import run
from audiossl_lite.common.ranges import RANGES, check_range, check_ranges
from audiossl_lite.data import pack
from audiossl_lite.experiments import cost, pretrain
from audiossl_lite.experiments.gpu import command
from audiossl_lite.experiments.settings.jobs import JOBS
from audiossl_lite.experiments.settings.presets import FAMILIES, preset
from audiossl_lite.experiments.settings.scales import Scales
from audiossl_lite.training import Compute, TrainConfig
from tests.data_scripts.script import data_set, module

SETTINGS = {type(s[scale]): s[scale] for s in FAMILIES.values() for scale in s}
SETTINGS |= {TrainConfig: TrainConfig(5, 2, 0.1), Compute: Compute()}
WRONG = {
    "batch_size": (0, 1, 10**9), "steps": (0, -3), "log_every": (0,), "save_every": (0, -1),
    "clip_s": (0.0, float("inf")),
    "learning_rate": (-1.0, float("nan"), float("inf")), "momentum": (1.5, float("nan")),
}  # fmt: skip
PAIRS = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_every_number_among_the_settings_has_a_range_and_lies_in_it(kind):
    numbers = {
        item.name
        for item in dataclasses.fields(kind)
        if type(getattr(SETTINGS[kind], item.name)) in (int, float) and item.name != "seed"
    }
    assert numbers <= RANGES.keys()
    check_ranges(SETTINGS[kind])


@pytest.mark.parametrize(("name", "value"), PAIRS)
def test_presets_overrides_and_runs_refuse_it(name, value):
    message = rf"{name} must be between [\d.,]+ and [\d.,]+, got {value}"
    with pytest.raises(ValueError, match=message):
        preset("atst", "lite", {name: value})
    with pytest.raises(ValueError, match=message):
        preset("atst", "lite", {name: str(value)})
    atst = FAMILIES["atst"]
    values = dataclasses.asdict(atst["paper"]) | {name: value}
    with pytest.raises(ValueError, match=message):
        Scales(type(atst["paper"]), paper={key: (item, "here") for key, item in values.items()})
    if name != "clip_s":
        with pytest.raises(ValueError, match=message):
            TrainConfig(**{"steps": 5, "batch_size": 2, "learning_rate": 0.1} | {name: value})


@pytest.mark.parametrize(("name", "value"), [*PAIRS, ("processes", 0), ("n_parts", 0)])
def test_job_files_refuse_it_before_anything_is_read(name, value, tmp_path, capsys):
    text = {"nan": ".nan", "inf": ".inf"}.get(str(value), value)
    (tmp_path / "job.yaml").write_text(f"overrides: {{job: atst_small, {name}: {text}}}\n")
    assert pretrain.main([str(tmp_path / "job.yaml"), "--no-estimate"]) == 2
    assert f"{name} must be between" in capsys.readouterr().err
    (tmp_path / "job.yaml").write_text("overrides: {job: atst_small}\n")
    changes = ["-p", f"overrides={name}={value}"]
    assert pretrain.main([str(tmp_path / "job.yaml"), "--no-estimate", *changes]) == 2
    assert f"{name} must be " in capsys.readouterr().err


@pytest.mark.parametrize("job", JOBS)
def test_a_warm_up_as_long_as_the_run_is_refused_for_every_job(job, tmp_path, capsys):
    tuned = JOBS[job].step > 0
    wrong = "warmup_share: 1" if tuned else "steps: 5, warmup_steps: 50"
    (tmp_path / "job.yaml").write_text(f"overrides: {{job: {job}, {wrong}}}\n")
    assert pretrain.main([str(tmp_path / "job.yaml"), "--no-estimate"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    message = "warmup_share must be between 0 and 0.9999, got 1"
    assert (message if tuned else "got warmup_steps=50 of steps=5") in line
    for schedule in ("cosine", "constant"):
        with pytest.raises(ValueError, match="got warmup_steps=5 of steps=5"):
            TrainConfig(5, 2, 0.1, warmup_steps=5, schedule=schedule)


COMMANDS = [
    (run.main, ["x.ipynb", "--timeout", "nan"], "timeout"),
    (run.main, ["x.ipynb", "--cell-timeout", "-1"], "cell_timeout"),
    (run.main, ["x.ipynb", "--threads", "0"], "threads"),
    (pack.main, ["a", "b", "--max-s", "inf"], "max_s"),
    (pack.main, ["a", "b", "--workers", "-1"], "workers"),
    (pack.main, ["a", "b", "--clips-per-part", "0"], "clips_per_part"),
    (cost.main, ["a.yaml", "--batch", "1"], "batch"),
    (cost.main, ["a.yaml", "--steps", "0"], "steps"),
    (command.main, ["--minutes", "nan"], "minutes"),
    (lambda words: module("common").run(data_set("esc50"), words), ["fetch", "--timeout", "nan"], "patience"),
]  # fmt: skip


@pytest.mark.parametrize(("main", "arguments", "name"), COMMANDS)
def test_commands_refuse_it_before_anything_is_read(main, arguments, name, capsys):
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    assert f"argument {arguments[-2]}: {name} must be between" in capsys.readouterr().err


def test_what_is_no_number_and_a_number_without_a_range():
    for value in ("text", True, None, (1, 2)):
        assert check_range("batch_size", value) is value
    assert check_range("nobody_knows", 10**400) == 10**400
    with pytest.raises(ValueError, match="nobody_knows must be a finite number, got nan"):
        check_range("nobody_knows", float("nan"))
