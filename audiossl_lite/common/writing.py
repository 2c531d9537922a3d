"""What cannot be written, in one line: the file, the word of the system, and what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

ROOM = "make room and run again"
LIMIT = "raise the limit on the size of a file (ulimit -f), or take another disk, and run again"
REMEDIES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: LIMIT,
    errno.EIO: "look at the disk",
    errno.ENAMETOOLONG: "give a shorter name",
}


@contextlib.contextmanager
def writing(path: Path, aside: Path | None = None) -> Iterator[None]:
    """While the block writes `path`, or first `aside`, an OSError of that names `path` and what to do.

    Of a full disk, a quota or a limit on files the system says no name at all. Errors of other files pass as they are.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES and str(error.filename) not in (
            str(path),
            str(aside or path),
        ):
            raise
        words = filter(None, (error.strerror, REMEDIES.get(error.errno)))
        message = f"{path} cannot be written: {'; '.join(words)}"
        raise OSError(error.errno, message) from error
