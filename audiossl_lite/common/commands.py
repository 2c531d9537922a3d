"""Commands as people type them: a strict parser, lists of names, and what a refused request says."""

from __future__ import annotations

import argparse
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from audiossl_lite.common.parameters import nearest


class CommandParser(argparse.ArgumentParser):
    """The arguments of a command: no option may be shortened, and a misspelt one is refused with the nearest name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse, after a look at every word that starts with two dashes; what follows may print any name."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal of few letters ends no command
                stream.reconfigure(errors="backslashreplace")
        args = sys.argv[1:] if args is None else list(args)
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for word in args:
            name = word.partition("=")[0]
            if word.startswith("--") and word != "--" and name not in known:
                self.error(f"unknown option {name}; did you mean {nearest(name, known)}?")
        return super().parse_args(args, namespace)


def listed(text: str) -> list[str]:
    """Names with semicolons between; names themselves hold commas."""
    return [name.strip() for name in text.split(";") if name.strip()]


def printable(name: str) -> str:
    """A name as a terminal may get it: control characters, ends of lines and bytes that are no text are escaped."""
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") else ascii(c)[1:-1]
        for c in name
    )


def sentence(error: Exception) -> str:
    """The message of an error; a KeyError would show it in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def refused(command: str, error: Exception) -> int:
    """Say on standard error, in one line, why a request was refused; returns 2, the status of a wrong request."""
    print(printable(f"{command}: {sentence(error)}"), file=sys.stderr)
    return 2
