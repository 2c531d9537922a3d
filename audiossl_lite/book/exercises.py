"""Exercises with a stub and a check: the stub fails it, the solution passes it, and a test sees both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PASSED, OPEN = "passed", "not solved yet"


def attempt(check: Callable[[Any], None], answer: Any) -> None:
    """Ask a check whether an answer is right, and print what it says.

    check: takes the answer (a function, a number) and raises AssertionError, with a reason, when it is wrong. A stub
    raises NotImplementedError. Other errors of the answer come through, with their line.
    """
    try:
        check(answer)
    except NotImplementedError:
        print(f"{OPEN}: replace the line that raises, and run this cell again")
        return
    except AssertionError as error:
        print(f"not right yet: {error}")
        return
    print(PASSED)
