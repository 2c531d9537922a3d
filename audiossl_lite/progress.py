"""Progress that reads well in a live notebook, in a log file and on a built page.

The environment variable AUDIOSSL_PROGRESS chooses: `auto` draws a bar for a person, `log` writes
a line to standard error every few seconds (the runner sets it; the book leaves standard error
out), and `off` prints nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol, TypeVar

MODES = ("auto", "log", "off")
LOG_EVERY_S = 10.0
Item = TypeVar("Item")


class Bar(Protocol):
    """What every kind of progress bar can do."""

    def update(self, steps: int = 1, **values: float | str) -> None:
        """Count `steps` as done and show `values` beside the bar."""

    def close(self) -> None:
        """Take the bar away, or write its last line."""


def progress_mode() -> str:
    """Return the mode named by AUDIOSSL_PROGRESS, `auto` when unset.

    Errors: ValueError for any other value.
    """
    mode = os.environ.get("AUDIOSSL_PROGRESS", "auto") or "auto"
    if mode not in MODES:
        raise ValueError(f"AUDIOSSL_PROGRESS is {mode!r}; use one of {', '.join(MODES)}.")
    return mode


def format_value(value: float | str) -> str:
    """Write a number with four significant digits, and text as it is."""
    return value if isinstance(value, str) else f"{float(value):.4g}"


class LiveBar:
    """A tqdm bar that disappears when done, so that a saved notebook keeps no half-drawn bar."""

    def __init__(self, total: int | None, description: str) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, desc=description, leave=False)

    def update(self, steps: int = 1, **values: float | str) -> None:
        """Count `steps` as done and show `values`."""
        if values:
            shown = {name: format_value(value) for name, value in values.items()}
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(steps)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


class LogBar:
    """One line on standard error every `every_s` seconds and one at the end."""

    def __init__(self, total: int | None, description: str, every_s: float = LOG_EVERY_S) -> None:
        self.total = total
        self.description = description or "progress"
        self.every_s = every_s
        self.done = 0
        self.values: dict[str, float | str] = {}
        self._start = self._last_line = time.monotonic()
        self._closed = False

    def update(self, steps: int = 1, **values: float | str) -> None:
        """Count `steps` as done and show `values`."""
        self.done += steps
        self.values.update(values)
        if time.monotonic() - self._last_line >= self.every_s:
            self._write()

    def close(self) -> None:
        """End the bar."""
        if not self._closed:
            self._closed = True
            self._write()

    def _write(self) -> None:
        self._last_line = time.monotonic()
        elapsed_s = self._last_line - self._start
        count = f"{self.done}/{self.total}" if self.total is not None else str(self.done)
        shown = " ".join(f"{name}={format_value(value)}" for name, value in self.values.items())
        line = f"{self.description} {count} {elapsed_s:.1f} s {shown}".rstrip()
        print(line, file=sys.stderr, flush=True)


class SilentBar:
    """Counts steps and shows nothing."""

    def __init__(self) -> None:
        self.done = 0

    def update(self, steps: int = 1, **values: float | str) -> None:
        """Count `steps` as done and show `values`."""
        self.done += steps

    def close(self) -> None:
        """End the bar."""
        self.done = 0


class progress_bar:
    """Context manager around a bar of `total` steps (None when unknown).

    Use: `with progress_bar(100, "pretraining") as bar: bar.update(1, loss=0.4)`.
    The values given to `update` are shown beside the bar.
    """

    def __init__(self, total: int | None = None, description: str = "") -> None:
        mode = progress_mode()
        self._bar: Bar
        if mode == "auto":
            self._bar = LiveBar(total, description)
        elif mode == "log":
            self._bar = LogBar(total, description)
        else:
            self._bar = SilentBar()

    def __enter__(self) -> Bar:
        return self._bar

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()


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
