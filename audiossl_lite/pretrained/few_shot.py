"""`python -m audiossl_lite few-shot RECORDINGS --model A [--model B]`: an honest number on your own classes.

Log-mel and MFCC statistics, which no learning made, stand beside; all rows are scored on the same episodes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiossl_lite.common.commands import CommandParser, printable, refused
from audiossl_lite.common.parameters import make_parameters
from audiossl_lite.common.ranges import ranged
from audiossl_lite.data.clips import Skip
from audiossl_lite.data.corpus import Sound, Task, data_set, list_sounds, tasks
from audiossl_lite.evaluation.grids import Column, draw_column
from audiossl_lite.evaluation.statistics import as_text, judged, mean_interval
from audiossl_lite.pretrained.embed import MODEL_HELP, REFUSED, report_files
from audiossl_lite.pretrained.embedding import embed_folder
from audiossl_lite.pretrained.recognise import BASELINES, load_any
from audiossl_lite.pretrained.tables import Embeddings
from audiossl_lite.pretrained.weights import PretrainedEncoder


@dataclass(frozen=True)
class FolderScores:
    """What a folder tests: accuracies in percent, `scores[features][task] (episodes,)`, and what to know of them.

    `heads`: what a table calls each task.
    """

    heads: dict[str, str]
    scores: dict[str, dict[str, np.ndarray]]
    notes: tuple[str, ...]
    skipped: tuple[Skip, ...]

    def table(self) -> str:
        """Rows of features in Markdown: mean and 95 % interval over episodes, and the paired gain over log-mel."""
        first = next(iter(self.scores))
        heads = " | ".join(f"{_cell(head)} | over {first}" for head in self.heads.values())
        lines = [f"| features | {heads} |"]
        lines.append("|---|" + "---|" * (2 * len(self.heads)))
        for name, row in self.scores.items():
            cells = []
            for task in self.heads:
                gain = judged((row[task] - self.scores[first][task])[None])
                known = gain if name != first else ""
                cells += [as_text(*mean_interval(row[task][None])), known]
            lines.append(f"| {_cell(name)} | {' | '.join(cells)} |")
        return "\n".join(lines)


def _cell(name: str) -> str:
    """A name as a cell of a table in Markdown holds it."""
    return printable(name).replace("|", r"\|")


def embed_beside_baselines(
    root: str | Path,
    models: Sequence[PretrainedEncoder],
    *,
    sounds: Sequence[Sound] | None = None,
    left_out: Sequence[Skip] = (),
    device: str | torch.device = "cpu",
) -> dict[str, Embeddings]:
    """A folder embedded by log-mel and MFCC statistics and by `models`, by name: a row a file.

    `sounds`, `left_out`: as for `embed_folder`. Raises ValueError when two encoders have one name, and as it does.
    """
    encoders = [*map(load_any, BASELINES), *models]
    names = [model.name for model in encoders]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two encoders are called {twice[0]!r}; give one file another name")
    if sounds is None:
        left_out = list(left_out)
        sounds = list_sounds(root, skipped=left_out)
    return {
        model.name: embed_folder(root, model, sounds=sounds, left_out=left_out, device=device)
        for model in encoders
    }


def shared_rows(embedded: Mapping[str, Embeddings]) -> tuple[list[Sound], dict[str, Tensor]]:
    """The n sounds that every encoder could embed, and their features `(n, D)` by encoder."""
    places = [rows.places.tolist() for rows in embedded.values()]
    usable = set(places[0]).intersection(*places)
    features = {
        name: torch.from_numpy(rows.vectors[[place in usable for place in rows.places.tolist()]])
        for name, rows in embedded.items()
    }
    first = next(iter(embedded.values()))
    return [s for s, place in zip(first.sounds, places[0]) if place in usable], features


def draw_columns(
    sounds: Sequence[Sound], *, n_way: int | None, k_shot: int, n_episodes: int, seed: int
) -> tuple[list[tuple[Task, Column]], list[str]]:
    """The episodes of every task of these sounds, and what to know of them; see `score_embedded`."""
    drawn, notes = [], []
    for task in tasks(sounds):
        key = f"{task.source}, {task.name}"
        column = draw_column(
            key, 0, task.labels, task.groups, n_episodes, n_way=n_way, k_shot=k_shot, seed=seed
        )
        if isinstance(column, str):
            notes.append(f"{key} was left out: {column}")
            continue
        drawn.append((task, column))
        if len(task.groups.unique()) == len(task.groups):
            notes.append(
                f"WARNING: {key} names no groups. Clips of one recording or speaker may stand on both sides of an "
                "episode, and the accuracy is then too high; a manifest.csv with a column group keeps them apart"
            )
    if drawn:
        return drawn, notes
    sources = ", ".join(sorted({sound.source for sound in sounds}))
    if notes:
        raise ValueError(f"{sources}: no episodes of {len(sounds)} sounds. {'; '.join(notes)}")
    if one := _one_group(sounds):
        raise ValueError(f"{sources}: {one}, and an episode tests on other groups than it shows; "
                         "name a group for each recording or speaker")  # fmt: skip
    raise ValueError(
        f"{sources}: no classes to tell apart among {len(sounds)} sounds; give folders of class/clip.wav, or a "
        "manifest.csv with the columns path, label and group"
    )


def _one_group(sounds: Sequence[Sound]) -> str:
    """Which group all clips of a task with two classes or more are in; "" when there is no such task."""
    for source in sorted({sound.source for sound in sounds}):
        for _, label, group in data_set(source).tasks:
            clips = [sound for sound in sounds if sound.source == source and sound.value(label)]
            apart = {sound.value(group) for sound in clips}
            if len(apart) == 1 and len({sound.value(label) for sound in clips}) > 1:
                return f"all {len(clips)} clips with a {label} have one {group}, {apart.pop()!r}"
    return ""


def score_embedded(
    embedded: Mapping[str, Embeddings],
    *,
    n_way: int | None = None,
    k_shot: int = 1,
    n_episodes: int = 600,
    seed: int = 0,
) -> FolderScores:
    """Few-shot accuracy of embeddings of one folder by several encoders, on every task of it (`data.corpus.tasks`).

    Groups of a manifest (recording, speaker) never stand on both sides of an episode. `n_way`: five by default, or as
    many classes as can be drawn. Raises ValueError, with the counts, when no episode can be drawn.
    """
    sounds, features = shared_rows(embedded)
    drawn, notes = draw_columns(
        sounds, n_way=n_way, k_shot=k_shot, n_episodes=n_episodes, seed=seed
    )
    heads = {c.name: f"{c.name}, {c.n_way}-way {k_shot}-shot" for _, c in drawn}
    scores = {
        name: {column.name: column.score([x[task.clips]]) for task, column in drawn}
        for name, x in features.items()
    }
    skipped = {skip.name: skip for rows in embedded.values() for skip in rows.skipped}
    return FolderScores(heads, scores, tuple(notes), tuple(skipped.values()))


def parser() -> CommandParser:
    """The arguments of the command."""
    arguments = CommandParser(
        prog="python -m audiossl_lite few-shot",
        description="Few-shot accuracy with frozen features on the classes of a folder, beside what no learning gives.",
        epilog="example: python -m audiossl_lite few-shot RECORDINGS --model cnn_events. "
        "Exit status: 0 done, 1 done but files were left out, 2 a wrong request.",
    )
    arguments.add_argument(
        "sounds", help="class/clip.wav, a data set, or a CSV manifest (path, label, group)"
    )
    arguments.add_argument(
        "--model", action="append", required=True, help=f"{MODEL_HELP}; may be repeated"
    )
    arguments.add_argument(
        "--ways",
        type=ranged("ways", int),
        help="classes of an episode; default 5, or as many as there are",
    )
    arguments.add_argument(
        "--shots", type=ranged("shots", int), default=1, help="examples of each class"
    )
    arguments.add_argument("--episodes", type=ranged("episodes", int), default=600)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0 or mps")
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and what to know of it; 0 done, 1 done but files were left out, 2 a wrong request."""
    asked = parser().parse_args(arguments)
    try:
        device = make_parameters({"device": asked.device}).torch_device
        models = [load_any(name) for name in dict.fromkeys(asked.model) if name not in BASELINES]
        drawn = {"n_way": asked.ways, "k_shot": asked.shots, "n_episodes": asked.episodes}
        drawn["seed"] = asked.seed
        if asked.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {asked.seed}")
        left_out: list[Skip] = []
        sounds = list_sounds(asked.sounds, skipped=left_out)
        draw_columns(sounds, **drawn)  # refuses before the work
        embedded = embed_beside_baselines(
            asked.sounds, models, sounds=sounds, left_out=left_out, device=device
        )
        result = score_embedded(embedded, **drawn)
    except REFUSED as error:
        return refused("few-shot", error)
    print(result.table())
    print(f"\n± is the 95 % interval over {asked.episodes} episodes, the same for every row.")
    data = [f"{m.name} was trained on: {m.about['data']}" for m in models if "data" in m.about]
    for note in (*result.notes, *data):
        print(printable(note))
    report_files(*embedded.values())
    return 1 if result.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
