"""`python -m audiossl_lite pack DATA_ROOT STORE`: decode a data set once and keep it as a packed store."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from audiossl_lite.common.commands import CommandParser, printable, refused
from audiossl_lite.common.ranges import ranged
from audiossl_lite.data.packing import pack
from audiossl_lite.data.recipes import KINDS
from audiossl_lite.data.sounds import POOLS
from audiossl_lite.data.store_format import verify_store


def parser() -> CommandParser:
    """The arguments of the command."""
    arguments = CommandParser(
        prog="python -m audiossl_lite pack",
        description="Decode a data set once and keep it as a packed store. Started again, it goes on where it was"
        " interrupted, and adds what is new.",
    )
    arguments.add_argument("data_root", help="folder or CSV manifest")
    arguments.add_argument("store", help="folder of the store, made if missing")
    arguments.add_argument("--kind", choices=KINDS, default="waveform")
    arguments.add_argument("--pool", choices=tuple(POOLS), default="event")
    arguments.add_argument(
        "--workers", type=ranged("workers", int), help="decoding processes; default: one a core"
    )
    arguments.add_argument(
        "--max-s", type=ranged("max_s", float), help="central seconds that are kept of each clip"
    )
    arguments.add_argument("--clips-per-part", type=ranged("clips_per_part", int), default=4096)
    arguments.add_argument("--verify", action="store_true", help="read all back and compare sums")
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack and say what came out; 0 when all is well, 1 for a damaged store, 2 when nothing could be done."""
    asked = parser().parse_args(arguments)
    try:
        store = pack(
            asked.data_root,
            asked.store,
            kind=asked.kind,
            pool=asked.pool,
            workers=asked.workers,
            max_s=asked.max_s,
            clips_per_part=asked.clips_per_part,
            say=lambda line: print(printable(line), flush=True),
        )
    except (ValueError, OSError) as error:
        return refused("pack", error)
    print(f"{store.source}; {store.nbytes / 1e6:.1f} MB, digest {store.digest()}")
    for reason, count in Counter(skip.reason for skip in store.skipped).most_common():
        print(printable(f"  {count} x {reason}"))
    for name in store.manifest["cut_off"]:
        print(printable(f"  has lost its end: {name}"))
    if asked.verify:
        problems = verify_store(asked.store)
        print("\n".join(map(printable, problems)) if problems else "verified: every part is whole")
        return 1 if problems else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
