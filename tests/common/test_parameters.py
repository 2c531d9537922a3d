"""Pin: a misspelt name or a wrong type never passes, and the message says what to write instead."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from audiossl_lite.book.notebook import check_parameters
from audiossl_lite.common.parameters import (
    DEFAULTS,
    ParameterError,
    Parameters,
    make_parameters,
    parameter_file,
    parse_overrides,
    typed_value,
    user_path,
)
from tests.tiny import CHECK_CELL, PARAMETERS_CELL


def namespace_after(*cells: str) -> dict[str, object]:
    """What `globals()` holds in a notebook after these cells."""
    names: dict[str, object] = {"In": ["", *cells], "Out": {}, "_i1": "text", "__name__": "x"}
    for cell in cells:
        exec(cell, names)
    names.pop("__builtins__", None)
    return names


def test_defaults_pass_and_are_frozen() -> None:
    parameters = check_parameters(namespace_after(PARAMETERS_CELL))
    assert parameters == Parameters()
    assert set(DEFAULTS) == {field.name for field in dataclasses.fields(Parameters)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        parameters.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("extra", "nearest"),
    [
        ('# Parameters\nprest = "lite"\n', "'prest'; did you mean 'preset'"),
        ("sed = 1", "'sed'; did you mean 'seed'"),
        ('overide = "a=1"', "'overide'; did you mean 'overrides'"),
        ("devise = None", "'devise'; did you mean 'device'"),
    ],
)
def test_a_misspelt_name_is_an_error_that_names_the_nearest(extra: str, nearest: str) -> None:
    with pytest.raises(ParameterError, match=f"unknown parameter {nearest}"):
        check_parameters(namespace_after(PARAMETERS_CELL, extra))


def test_the_check_can_be_run_again_after_the_rest_of_the_chapter() -> None:
    later = "n_epochs = 5\nfor step in range(3):\n    loss = 0.5"
    imports = "import math\nfrom math import floor"
    namespace = namespace_after(imports, PARAMETERS_CELL, CHECK_CELL, later, "seed = 4")
    assert check_parameters(namespace).seed == 4
    with pytest.raises(ParameterError, match="seed must be"):
        check_parameters(namespace | {"seed": "x"})


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("true", False, True),
        ("1e-3", 0.5, 1e-3),
        ("05", 1, 5),
        ("7", "", "7"),
        ("[1]", [], [1]),
        (1, 0.5, 1.0),
        (["No Mixing"], ("x", "y"), ("No Mixing",)),
        ("[1, 2]", (5,), (1, 2)),
    ],
)
def test_a_value_is_read_as_the_type_of_its_default(
    text: object, default: object, value: object
) -> None:
    typed = typed_value("name", text, default)
    assert typed == value and type(typed) is type(default)


@pytest.mark.parametrize(
    ("value", "default", "message"),
    [
        ("1.5", 1, "'name' must be a whole number, got '1.5'"),
        (True, 1, "a whole number"),
        (True, 0.5, "a number"),
        ("yes", False, "true or false"),
        ("1", False, "true or false"),
        (3, "", "text"),
        ("{", [1], r"a list such as \[1\]"),
    ],
)
def test_a_value_of_another_type_is_an_error(value: object, default: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        typed_value("name", value, default)


def test_a_missing_parameter_says_to_run_its_cell() -> None:
    with pytest.raises(ParameterError, match="'seed' is not set"):
        check_parameters({name: value for name, value in DEFAULTS.items() if name != "seed"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("preset", "lit", "did you mean 'lite'"),
        ("preset", 3, "preset must be text"),
        ("seed", "1", "seed must be a whole number"),
        ("seed", True, "seed must be a whole number"),
        ("seed", 1.0, "seed must be a whole number"),
        ("seed", -1, "between 0"),
        ("device", "gpu", "unknown device 'gpu'"),
        ("device", "cuda:x", "must be auto, cpu, cuda, cuda:N or mps"),
        ("data_root", "no/such/folder", "does not exist"),
        ("data_root", 7, "must be a path"),
        ("output_dir", 7, "must be a path"),
        ("overrides", "epochs", "has no value"),
        ("overrides", "a=1,a=2", "twice"),
        ("overrides", "{not json", "not valid JSON"),
        ("overrides", 5, "overrides must be text"),
    ],
)
def test_bad_values_are_errors(name: str, value: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make_parameters({name: value})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", {}),
        (None, {}),
        ("epochs=3,lr=0.1", {"epochs": 3, "lr": 0.1}),
        (" epochs = 3 , name = short ", {"epochs": 3, "name": "short"}),
        ("sizes=[1,2],pair=(3,4),on=true,off=False,no=none", None),
        ('{"epochs": 3, "nested": [1, 2]}', {"epochs": 3, "nested": [1, 2]}),
        ({"lr": 1e-3}, {"lr": 1e-3}),
        ("lr=1e-3", {"lr": 1e-3}),
        ("expression=a=b", {"expression": "a=b"}),
    ],
)
def test_overrides_forms(given: object, expected: dict[str, object] | None) -> None:
    if expected is None:
        expected = {"sizes": [1, 2], "pair": (3, 4), "on": True, "off": False, "no": None}
    assert parse_overrides(given) == expected


def test_data_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "audio").mkdir()
    monkeypatch.chdir(tmp_path)
    parameters = make_parameters({"data_root": "audio"})
    assert parameters.data_root == str((tmp_path / "audio").resolve())
    assert parameters.data_name == "audio"
    assert make_parameters({"data_root": "synthetic"}).data_name == "embedded sounds"


def test_device_auto_is_resolved_and_a_named_one_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert make_parameters({"device": "cuda:1"}).torch_device == "cuda:1"
    assert make_parameters({}).torch_device in {"cuda", "mps", "cpu"}


def test_output_folder_is_made(tmp_path: Path) -> None:
    folder = make_parameters({"output_dir": str(tmp_path / "out")}).output_folder("run", "a")
    assert folder == (tmp_path / "out" / "run" / "a").resolve()
    assert folder.is_dir()
    first, second = Parameters().output_folder(), Parameters().output_folder()
    assert first != second
    first.rmdir()
    second.rmdir()


def test_a_name_that_begins_with_a_tilde_is_a_home_or_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~old sounds").mkdir()
    assert user_path("~/x") == tmp_path / "x"
    assert user_path("~old sounds") == Path("~old sounds")
    given = make_parameters({"data_root": "~old sounds", "output_dir": "~no one/runs"})
    assert given.data_root == str(tmp_path / "~old sounds")
    assert given.output_dir == str(tmp_path / "~no one" / "runs")
    with pytest.raises(ParameterError, match="data_root '~nowhere' does not exist"):
        make_parameters({"data_root": "~nowhere"})


@pytest.mark.parametrize(("folder", "why"), [("a" * 300, "File name too long"), ("a\0b", "null")])
def test_a_folder_that_no_system_takes_is_named(folder: str, why: str) -> None:
    with pytest.raises(ParameterError, match=rf"(?s)a+.* cannot be used: .*{why}.*another folder"):
        make_parameters({"output_dir": folder})


@pytest.mark.parametrize(
    "text", ["seed: 1\nseed: 2\n", "overrides:\n  steps: 5\n  lr: 1\n  steps: 500\n"]
)
def test_a_file_that_names_a_setting_twice_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    name = text.split(":")[-2].split()[-1]
    with pytest.raises(ParameterError, match=rf"a\.yaml cannot be read: it names '{name}' twice"):
        parameter_file(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("x: &x {steps: 1}\ny: {<<: *x, steps: 2}\nz: {steps: 3}\n")
    assert parameter_file(tmp_path / "b.yaml")["y"] == {"steps": 2}
