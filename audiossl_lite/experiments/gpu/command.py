"""The command `python -m audiossl_lite gpu`: what `make gpu` calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from audiossl_lite.common.commands import CommandParser, refused
from audiossl_lite.common.ranges import ranged
from audiossl_lite.experiments.gpu.runner import (
    FAILED,
    OVERRAN,
    GPURunError,
    choose_device,
    run_stages,
    table,
)
from audiossl_lite.experiments.gpu.stages import FIRST, STAGES, TOGETHER, toy_stages
from audiossl_lite.experiments.real_sounds.task import Stage

TOY_OVERTIME = 1.5  # every stage shall have its turn on a CPU, too
EXAMPLE = "example: python -m audiossl_lite gpu --data path/to/sounds --minutes 9 --out runs/gpu"


def parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog="python -m audiossl_lite gpu",
        description="Measure and train everything that needs a GPU, in order of worth, within some minutes. A second "
        "call goes on where the first ended.",
        epilog=EXAMPLE,
    )
    parser.add_argument(
        "--data", default="", help="a folder of sounds; without it, built-in sounds"
    )
    parser.add_argument(
        "--minutes", type=ranged("minutes", float), default=9.0, help="for everything (default: 9)"
    )
    parser.add_argument("--out", default="", help="records, logs, encoders (default: runs/gpu)")
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cuda:N, or cpu: toy sizes, in up to half as much again",
    )
    parser.add_argument("--only", default="", help="names of stages, with commas between")
    parser.add_argument("--list", action="store_true", help="name the stages and stop")
    return parser


def chosen_stages(only: str, *, toy: bool = False) -> list[Stage]:
    """The stages that were asked for, in their order; GPURunError names what does not exist.

    At toy sizes, without names, only the first of a kind: more seeds would show nothing new.
    """
    stages = list(FIRST if toy and not only else STAGES)
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := sorted(set(names) - {stage.name for stage in stages}):
        known = ", ".join(stage.name for stage in stages)
        raise GPURunError(f"no stage is called {', '.join(unknown)}; there are {known}")
    if names:
        stages = [stage for stage in stages if stage.name in names]
    return toy_stages(stages) if toy else stages


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages and print the table; status 0, 1 when a stage failed or overran, 2 for an impossible request."""
    asked = parser().parse_args(arguments)
    began = time.monotonic()
    try:
        toy = asked.device == "cpu"
        stages = chosen_stages(asked.only, toy=toy)
        if asked.list:
            print("\n".join(f"{stage.name:<24} {stage.title}" for stage in stages))
            return 0
        data = Path(asked.data).expanduser() if asked.data else None
        if data is not None and not (data.is_dir() or data.is_file()):
            raise GPURunError(f"no sounds at {data}; --data names a folder of sounds")
        device = choose_device(asked.device)
        out = (
            Path(asked.out).expanduser()
            if asked.out
            else Path("runs/gpu-toy" if toy else "runs/gpu")
        )
        minutes = (TOY_OVERTIME if toy else 1.0) * asked.minutes
        together = 1 if toy else TOGETHER
        outcomes = run_stages(
            stages, out, minutes=minutes, device=device, data=data, toy=toy, together=together
        )
    except (ValueError, OSError) as error:
        return refused("gpu", error)
    print(f"\n{table(outcomes)}\n\n{time.monotonic() - began:.0f} s; records in {out / 'records'}")
    if toy:
        print("Toy sizes on a CPU: they show that the stages work, and say nothing about a GPU.")
    return int(any(outcome.status in (FAILED, OVERRAN) for outcome in outcomes))
