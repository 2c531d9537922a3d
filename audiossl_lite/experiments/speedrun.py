"""The shortest training to a fixed score: `python -m audiossl_lite speedrun --data SOUNDS` adds a line to a board.

The clock counts training alone, from the first step to the first look at which the score reaches the target. The score
is few-shot accuracy on events that training heard, recordings apart: the corpus's validation part. Whatever serves may
change: method, network, settings, code. A line says when, at which commit, on what, and how to repeat it.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.common.commands import CommandParser, refused
from audiossl_lite.common.ranges import ranged
from audiossl_lite.data.corpus import Sound, tasks
from audiossl_lite.data.joined import waveforms_of
from audiossl_lite.evaluation.grids import Column, draw_column
from audiossl_lite.evaluation.statistics import as_text, mean_interval
from audiossl_lite.experiments import records
from audiossl_lite.experiments.real_sounds import sounds
from audiossl_lite.experiments.real_sounds.recipes import make_recipe
from audiossl_lite.experiments.real_sounds.scores import embed_network
from audiossl_lite.experiments.workshop import RUNS, locked
from audiossl_lite.training import CollapseError, Compute, NotFiniteError, train

TARGET = 60.0  # per cent, five-way one-shot, events heard
N_EPISODES = 2000
LOOKS = 20  # along the run


def speedrun(
    out: Path, data: str | None, name: str, *, seed: int = 0, device: str = "cpu", told: str = ""
) -> dict[str, Any]:
    """Train the row `name` of the study until its score reaches `TARGET`; a line of the board.

    `data` as in `workshop.train_all`; `told`: what the line says of itself. The line's `score` is below the target
    when the run ended without reaching it. KeyError for an unknown row, ValueError for sounds without a task and as
    `lines_of`.
    """
    if name not in RUNS:
        raise KeyError(f"no run is called {name!r}; there are {', '.join(RUNS)}")
    options = RUNS[name] | {"seed": seed}
    if options["method"] == "uamix":
        raise KeyError(f"{name} starts from an encoder that was trained before; take another row")
    place = torch.device(device)
    corpus, _ = sounds.decoded(out, Path(data) if data else None)
    lines_of(board_of(out, device), corpus.key)  # met before training
    column, clips = events_heard(list(corpus.sounds))
    waveforms = waveforms_of(corpus, place, clips)
    recipe = make_recipe(options, corpus, out, place, toy=False)
    parts = recipe.parts(recipe.config)
    every = max(recipe.config.steps // LOOKS, 1)
    seconds, score = 0.0, (0.0, 0.0)
    with tempfile.TemporaryDirectory(dir=out) as run:
        for step in range(every, recipe.config.steps + 1, every):
            result = train(
                parts.method, parts.views, recipe.source, parts.config,
                device=place.type, output_dir=run, description=name, stop_after=step,
                compute=Compute(prefetch=0),
            )  # fmt: skip
            features = embed_network(
                parts.encoder.to(place), recipe.frontend, waveforms, recipe.chunk_frames
            )
            seconds, score = result.seconds, mean_interval(column.score([features])[None])
            print(f"step {step}: {seconds:.0f} s, {as_text(*score)} %", flush=True)
            if score[0] >= TARGET:
                break
    return {
        "name": told or name,
        "mean": score[0],
        "ci95": score[1],
        "seconds": round(seconds, 3),
        "steps": step,
        "clips": len(recipe.source),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": records.current_commit(),
        "device": records.device_name(place),
        "run": name,
        "seed": seed,
        "fingerprint": corpus.key,
        "data": sounds.described(corpus),
    }


def events_heard(listed: list[Sound]) -> tuple[Column, torch.Tensor]:
    """The validation score's episodes, drawn once, and the clips `(n,)` of the corpus that they number.

    ValueError when the first task of the sounds allows no episodes.
    """
    if not (known := tasks(listed)):
        raise ValueError(
            "these sounds have no labels to score on; add ESC-50 or folders of classes"
        )
    task = known[0]
    rows = (~task.never).nonzero().flatten()
    labels, groups = task.labels[rows], task.groups[rows]
    column = draw_column(f"{task.name}, heard", 0, labels, groups, N_EPISODES)
    if not isinstance(column, Column):
        raise ValueError(f"{task.name} allow no episodes: {column}")
    return column, task.clips[rows]


def board_of(out: Path, device: str) -> Path:
    """The file of a folder's board; boards of other devices are other files."""
    return out / "records" / f"speedrun_{'gpu' if device == 'cuda' else 'cpu'}.json"


def lines_of(path: Path, key: str) -> list[dict[str, Any]]:
    """The lines of the board in `path`, none without a file; ValueError for what is no board of these sounds."""
    entry = records.load(path)
    lines = entry["values"] if entry else []
    if not all({"seconds", "seed"} <= line.keys() for line in lines):
        raise ValueError(f"{path} is no board of a speedrun; move it away")
    if entry and entry.get("data_fingerprint") != key:
        raise ValueError(f"{path} is of other sounds; choose another --out")
    return lines


def add_line(path: Path, line: dict[str, Any]) -> dict[str, Any]:
    """Add a line to the board in `path`, the fastest first; raises as `lines_of`."""
    lines = [*lines_of(path, line["fingerprint"]), line]
    lines.sort(key=lambda each: each["seconds"])
    return records.record(
        path,
        experiment=path.stem,
        scale="gpu" if path.stem.endswith("gpu") else "workshop",
        data=line["data"],
        data_fingerprint=line["fingerprint"],
        device=line["device"],
        seeds=sorted({each["seed"] for each in lines}),
        seconds=sum(each["seconds"] for each in lines),
        config={"target": TARGET, "n_episodes": N_EPISODES},
        values=lines,
        note="Seconds of training alone; whoever is faster adds a line.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once and add a line; status 1 when the target was not reached, 2 for a wrong request."""
    parser = CommandParser(
        prog="python -m audiossl_lite speedrun",
        description=f"Train until few-shot accuracy on events heard is {TARGET:g} %, and add a line to a board.",
    )
    parser.add_argument("--data", default="", help="a folder of sounds; without it, built-in ones")
    parser.add_argument("--out", default="runs/speedrun", help="sounds, runs and the board")
    parser.add_argument("--run", default="CNN, InfoNCE", help="a row of workshop --list")
    parser.add_argument("--say", default="", help="what the line says of itself")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--threads", type=ranged("threads", int), default=2, help="default: 2")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = Path(asked.out).expanduser().resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            line = speedrun(
                out, asked.data or None, asked.run, seed=asked.seed, device=device, told=asked.say
            )
            own = ["--run", asked.run, "--seed", str(asked.seed), "--threads", str(asked.threads)]
            line["command"] = shlex.join(
                ["python", "-m", "audiossl_lite", "speedrun", "--data", "FOLDER", *own]
            )
            if line["mean"] < TARGET:
                print(f"{line['mean']:.1f} % after all {line['steps']} steps: no line is added")
                return 1
            board = board_of(out, device)
            add_line(board, line)
    except (KeyError, ValueError, OSError, CollapseError, NotFiniteError) as error:
        return refused("speedrun", error)
    print(f"{line['seconds']:.0f} s; recorded in {board}")
    return 0
