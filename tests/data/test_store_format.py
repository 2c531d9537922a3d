"""A file of a store is whole or as it was, and one that cannot be written is named."""

from __future__ import annotations

import pytest

from audiossl_lite.data.store_format import write_whole
from tests.common.limits import file_limit


def test_a_disk_that_takes_no_more_is_named_with_the_file_and_what_to_do(tmp_path):
    """The system's own words are `[Errno 27] File too large`."""
    path = tmp_path / "table.npz"
    write_whole(path, b"before")
    expected = pytest.raises(OSError, match=r"table\.npz cannot be written: File too large; raise")
    with file_limit(1000), expected:
        write_whole(path, bytes(100_000))
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["table.npz"]


def test_a_folder_that_is_none_is_told_by_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "file").write_text("")
    for place, words in (("gone", "No such file"), ("file", "Not a directory")):
        path = tmp_path / place / "table.npz"
        with pytest.raises(OSError, match=rf"{place}/table\.npz cannot be written: {words}"):
            write_whole(path, b"content")
