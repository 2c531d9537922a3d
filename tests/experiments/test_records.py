"""A file that is no record is named, with what to do."""

from __future__ import annotations

import json

import pytest

from audiossl_lite.experiments.records import REQUIRED, load, record

WHOLE = {
    "experiment": "toy", "scale": "lite", "data": "sounds", "data_fingerprint": "", "device": "CPU",
    "seeds": [0], "seconds": 1.0, "config": {}, "values": [{"name": "a", "mean": 1.0}],
}  # fmt: skip


def test_what_was_recorded_is_read_again(tmp_path):
    path = tmp_path / "toy.json"
    assert load(path) is None
    entry = record(path, **WHOLE)
    assert load(path) == entry


@pytest.mark.parametrize(
    "content", [b"5", b"null", b'"text"', b"[]", b"{", b"", b"\xff\xfe\xfd", b"[" * 100_000]
)
def test_a_file_that_is_no_record_is_named(tmp_path, content):
    (tmp_path / "toy.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"toy\.json is not a recorded run: .*; move it away"):
        load(tmp_path / "toy.json")


@pytest.mark.parametrize("name", REQUIRED)
def test_an_entry_that_is_missing_or_of_another_kind_is_named(tmp_path, name):
    path = tmp_path / "toy.json"
    entry = record(path, **WHOLE)
    rest = {key: value for key, value in entry.items() if key != name}
    for wrong, words in ((rest, f"it lacks {name}"), (rest | {name: None}, f"{name} is None")):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=rf"toy\.json is not a recorded run: {words}; move"):
            load(path)
    path.write_text(json.dumps(entry | {"values": [5]}))
    with pytest.raises(ValueError, match=r"toy\.json is not a recorded run: values"):
        load(path)
