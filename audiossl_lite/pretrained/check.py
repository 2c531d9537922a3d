"""`python -m audiossl_lite check NAME_OR_FILE`: a table of what an encoder passes and fails, ours or anyone's."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from audiossl_lite.common.commands import CommandParser, printable, refused
from audiossl_lite.pretrained.checks import Finding, check_encoder
from audiossl_lite.pretrained.embed import MODEL_HELP, REFUSED
from audiossl_lite.pretrained.recognise import load_any

WORDS = {True: "pass", False: "FAIL", None: "-"}


def table(findings: Sequence[Finding]) -> str:
    """One line a check: its name, pass or FAIL (or - for a figure alone), and what was measured."""
    width = max(len(finding.name) for finding in findings)
    return "\n".join(
        printable(f"{f.name:<{width}}  {WORDS[f.passed]:<4}  {f.detail}") for f in findings
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 when nothing failed, 1 when something did, 2 for a wrong request."""
    parser = CommandParser(
        prog="python -m audiossl_lite check",
        description="What an encoder does with padding, batches, silence, short and long clips, half precision.",
        epilog="example: python -m audiossl_lite check cnn_events. Exit status: 0 nothing failed, 1 something did, "
        "2 a wrong request.",
    )
    parser.add_argument("model", help=MODEL_HELP)
    asked = parser.parse_args(arguments)
    try:
        model = load_any(asked.model)
    except REFUSED as error:
        return refused("check", error)
    findings = check_encoder(model)
    n_failed = sum(finding.passed is False for finding in findings)
    print(table(findings))
    print(f"\n{printable(model.name)}: {len(findings)} checks, {n_failed} failed")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
