"""Progress that reads well in a live notebook, in a log file and on a built page: tqdm, told where it writes.

The environment variable AUDIOSSL_PROGRESS chooses: `auto` draws a bar for a person, `log` writes
a line to standard error every few seconds (the runner sets it; the book leaves standard error
out), and `off` prints nothing.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import auto, std

LOG_EVERY_S = 10.0
LOG_FORMAT = "{desc} {n_fmt}/{total_fmt} {elapsed}{postfix}"
Item = TypeVar("Item")


class _Values:
    def update(self, n: float = 1, **values: float | str) -> bool | None:
        """Count `n` steps as done and show `values` beside the bar."""
        if values:
            self.set_postfix(values, refresh=False)
        return super().update(n)


class LiveBar(_Values, auto.tqdm):
    """A bar that disappears when done, so that a saved notebook keeps no half-drawn one."""


class LogBar(_Values, std.tqdm):
    """One line on standard error every ten seconds and one at the end."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write the line, once there is something to say."""
        if self.n:
            print(msg or str(self), file=sys.stderr, flush=True)
        return True


def progress_bar(total: int | None = None, description: str = "") -> LiveBar | LogBar:
    """Return a context manager around a bar of `total` steps (None when unknown).

    Use: `with progress_bar(100, "pretraining") as bar: bar.update(1, loss=0.4)`; the values are shown beside the bar.
    Errors: ValueError when AUDIOSSL_PROGRESS is none of auto, log, off.
    """
    mode = os.environ.get("AUDIOSSL_PROGRESS") or "auto"
    how: dict[str, dict[str, Any]] = {
        "auto": {"leave": False},
        "log": {
            "mininterval": LOG_EVERY_S, "miniters": 1, "bar_format": LOG_FORMAT,
            "file": io.StringIO(),  # what tqdm itself writes moves the cursor
        },
        "off": {"disable": True},
    }  # fmt: skip
    if mode not in how:
        raise ValueError(f"AUDIOSSL_PROGRESS is {mode!r}; use one of {', '.join(how)}.")
    kind = LogBar if mode == "log" else LiveBar
    return kind(total=total, desc=description or "progress", **how[mode])


def progress(
    iterable: Iterable[Item], description: str = "", total: int | None = None
) -> Iterator[Item]:
    """Yield the items of `iterable` and show how many are done; total defaults to its length."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    with progress_bar(total, description) as bar:
        for item in iterable:
            yield item
            bar.update(1)
