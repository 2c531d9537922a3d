"""`python -m audiossl_lite embed RECORDINGS --model NAME_OR_FILE --out FILE`: a folder to a table of embeddings."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from audiossl_lite.common.commands import CommandParser, printable, refused
from audiossl_lite.common.parameters import make_parameters
from audiossl_lite.common.ranges import ranged
from audiossl_lite.data.audio import LOUD_PEAK
from audiossl_lite.pretrained.embedding import embed_folder
from audiossl_lite.pretrained.parts import kept_parts
from audiossl_lite.pretrained.recognise import load_any
from audiossl_lite.pretrained.tables import Embeddings, check_table, write_table

MODEL_HELP = (
    "a shipped encoder (cnn_events), log-mel, mfcc, a file of this project or of ATST, AudioMAE or BYOL-A, a folder "
    "of save_pretrained or hf:owner/name, package.module:attribute, or hear:package.module"
)
REFUSED = (ValueError, OSError, KeyError)  # what a wrong request ends in


def parser() -> CommandParser:
    """The arguments of the command."""
    arguments = CommandParser(
        prog="python -m audiossl_lite embed",
        description="Embed every sound of a folder or manifest. Killed and started again, it goes on where it was.",
        epilog="example: python -m audiossl_lite embed RECORDINGS --model cnn_events --out embeddings.npz. "
        "Exit status: 0 done, 1 done but files were left out, 2 a wrong request.",
    )
    arguments.add_argument(
        "sounds", help="a folder, or a CSV manifest (path, and if you like label and group)"
    )
    arguments.add_argument("--model", required=True, help=MODEL_HELP)
    arguments.add_argument("--out", required=True, help="the table: .npz, .csv or .parquet")
    arguments.add_argument(
        "--chunk-s",
        type=ranged("chunk_s", float),
        default=10.0,
        help="longer files are cut into chunks of so many seconds",
    )
    arguments.add_argument(
        "--keep-chunks", action="store_true", help="a row for each chunk instead of their average"
    )
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0 or mps")
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Embed and say what came out; 0 done, 1 done but files were left out, 2 a wrong request."""
    asked = parser().parse_args(arguments)
    try:
        out = check_table(asked.out)
        device = make_parameters({"device": asked.device}).torch_device
        parts = out.with_name(f"{out.name}.parts")
        model = load_any(asked.model)
        with kept_parts(parts):
            rows = embed_folder(
                asked.sounds,
                model,
                chunk_s=asked.chunk_s,
                keep_chunks=asked.keep_chunks,
                device=device,
                parts=parts,
            )
            write_table(out, rows)
    except REFUSED as error:
        return refused("embed", error)
    n_files, width = len(set(rows.files)), rows.vectors.shape[1]
    line = (
        f"{len(rows)} rows of {width} numbers, from {n_files} files, {len(rows.skipped)} left out"
    )
    print(printable(f"{out}: {line}"))
    report_files(rows)
    return 1 if rows.skipped else 0


def report_files(*tables: Embeddings) -> None:
    """Name every file that was left out, and why, and every one that is used and remarkable, on standard error."""
    lines = [f"left out: {skip.name}: {skip.reason}" for rows in tables for skip in rows.skipped]
    for rows in tables:
        lines += [f"has lost its end: {name}" for name in rows.cut_off]
        lines += [f"peak above {LOUD_PEAK:g} where full scale is 1: {name}" for name in rows.loud]
    for line in dict.fromkeys(lines):
        print(f"  {printable(line)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
