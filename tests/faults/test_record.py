"""Pin: the record of the sweeps is what its parts said, and every kind of fault has tests that exist."""

from __future__ import annotations

import ast
from xml.etree import ElementTree

import pytest

from audiossl_lite.experiments.records import load, recorded
from tests.book.library_index import ROOT
from tests.faults import __main__ as command
from tests.faults.kinds import KINDS


def test_every_kind_names_tests_that_exist() -> None:
    for kind in KINDS:
        assert kind.tests and kind.happens.endswith("."), kind.name
        for test in kind.tests:
            path, _, name = test.partition("::")
            tree = ast.parse((ROOT / path).read_text())
            names = [x.name for x in ast.walk(tree) if isinstance(x, ast.FunctionDef)]
            assert (name in names) if name else any(n.startswith("test_") for n in names), test


def test_a_case_of_the_report_belongs_to_its_file_and_test() -> None:
    case = ElementTree.fromstring('<testcase classname="tests.a.test_b" name="test_c[1-x]"/>')
    assert command.is_of(case, "tests/a/test_b.py")
    assert command.is_of(case, "tests/a/test_b.py::test_c")
    assert not command.is_of(case, "tests/a/test_b.py::test_c_d")
    assert not command.is_of(case, "tests/a/test_bb.py")


def test_a_part_replaces_its_rows_and_leaves_the_others(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(command, "RECORD", tmp_path / "faults.json")
    ends = {"stores": 0, "files": 3}
    for part in ends:
        monkeypatch.setitem(
            command.PARTS,
            part,
            lambda p=part: iter([command.row(p, 9, ends[p], f"{ends[p]} wrong")]),
        )
    assert command.main(["stores"]) == 0
    assert command.main(["files"]) == 1
    ends["files"] = 0
    assert command.main(["files"]) == 0
    entry = load(tmp_path / "faults.json")
    assert [(r["part"], r["outcome"]) for r in entry["values"]] == [
        ("files", "0 wrong"), ("stores", "0 wrong"),
    ]  # fmt: skip
    assert all(r["commit"] and r["seconds"] >= 0 for r in entry["values"])
    with pytest.raises(SystemExit):
        command.main(["store"])


def test_nothing_went_wrong_in_the_recorded_sweep() -> None:
    entry = recorded("faults")
    assert entry is not None
    assert {row["part"] for row in entry["values"]} == set(command.PARTS)
    assert [row["name"] for row in entry["values"] if row["wrong"]] == []
