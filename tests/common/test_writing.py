"""What cannot be written is named with what to do; errors of other files are left as they are."""

from __future__ import annotations

import errno
import os

import pytest

from audiossl_lite.common.writing import writing


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device; make room and run again"),
        (errno.EFBIG, r"File too large; raise the limit .*ulimit -f"),
    ],
)
def test_the_system_s_word_gets_the_file_and_the_remedy(tmp_path, number, remedy):
    expected = pytest.raises(OSError, match=rf"a\.npz cannot be written: {remedy}")
    with expected as raised, writing(tmp_path / "a.npz"):
        raise OSError(number, os.strerror(number))
    assert raised.value.errno == number


def test_the_file_beside_it_is_not_shown_and_other_files_keep_their_errors(tmp_path):
    path, aside = tmp_path / "gone" / "a.npz", tmp_path / "gone" / ".a.npz.aside"
    expected = pytest.raises(
        FileNotFoundError, match=r"gone/a\.npz cannot be written: No such file"
    )
    with expected, writing(path, aside):
        aside.open("wb")
    for error in (FileNotFoundError(2, "No such file", "b.wav"), ConnectionError("reset")):
        with pytest.raises(OSError) as raised, writing(path, aside):
            raise error
        assert raised.value is error
