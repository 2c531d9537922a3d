"""One run at a time for one file or folder; a lock ends with its process, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audiossl_lite.common.writing import writing

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock
    fcntl = None


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock file `path` during the block; raises FileExistsError when another run holds it."""
    if fcntl is None:
        yield
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run before may have removed the file between our opening and our locking it.
            ours = os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise FileExistsError(f"{path}: another run is at work here; wait until it has ended")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
