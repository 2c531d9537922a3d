"""What the study of real sounds recorded (`python -m audiossl_lite workshop`), as tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from audiossl_lite.book.figures import starts_and_ends
from audiossl_lite.book.gpu_report import NEVER, STARTS_OF_TUNING, learnt_averages
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.statistics import (
    Scores,
    as_text,
    difference,
    mean_interval,
    verdict,
)
from audiossl_lite.experiments.networks import UNTRAINED
from audiossl_lite.experiments.records import recorded
from audiossl_lite.experiments.settings.uamix import VARIANTS
from audiossl_lite.experiments.workshop import RECORD as STUDY
from audiossl_lite.experiments.workshop import RUNS, on_common_seeds

MAE = "AudioMAE"
PLAIN = (*BASELINES, "log-mel statistics, standardised")  # rows without training in the picture
Entry = dict[str, Any]
Averages = dict[str, float]


def study_scores(entry: Entry, names: Iterable[str] = ()) -> Scores:
    """Scores `(seeds,)` of the rows, each on its own seeds, with the column "average"; of all rows without `names`."""
    return {
        name: on_common_seeds(entry, name)[name]
        for name in names or [row["name"] for row in entry["values"]]
    }


def study_rows(scores: Scores) -> list[dict[str, Any]]:
    """One row for each kind of features: seeds, then mean and interval of all tasks' average and of each, as text."""
    rows = []
    for name, row in scores.items():
        cells = {c.removesuffix(NEVER): as_text(*mean_interval(v)) for c, v in row.items()}
        seeds = "–" if "statistics" in name else len(row["average"])
        rows.append({"features": name, "seeds": seeds, "average": cells.pop("average")} | cells)
    return rows


def start_of(name: str) -> str:
    """The row that a run of the study starts from."""
    return MAE if name in VARIANTS else f"{name}{UNTRAINED}"


def averages_of(entry: Entry | None) -> dict[str, float]:
    """The average of all tasks by row of the study's record; of a missing one, nothing."""
    scores = study_scores(entry) if entry else {}
    return {name: float(row["average"].mean()) for name, row in scores.items()}


def what_training_did(study: Entry | None, gpu: Mapping[str, Entry]) -> dict[str, Averages]:
    """By title of a panel: the average of all tasks by row, of the study on two cores and of the runs on a card."""
    panels = {
        "two cores, mean over seeds": averages_of(study),
        "one card, one run": learnt_averages(gpu),
    }
    return {title: averages for title, averages in panels.items() if averages}


def draw_what_training_did(panels: Mapping[str, Averages]) -> Figure:
    """Start and end of every run, a panel each, beside statistics that need no training."""
    fig, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6), squeeze=False)
    for ax, (title, averages) in zip(axes[0], panels.items()):
        rows = {
            f"uaMix-MAE: {name}" if name in VARIANTS else name: (averages[start], averages[name])
            for name in RUNS
            if name in averages and (start := start_of(name)) in averages
        }
        starts_and_ends(rows, {n: averages[n] for n in PLAIN if n in averages}, ax)
        ax.set(title=title, xlabel="average accuracy (%)")
        ax.tick_params("y", labelsize="small")
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(PLAIN)
    )
    return fig


def above_and_below(entry: Entry, name: str, other: str) -> tuple[list[str], list[str]] | None:
    """The tasks on which a row is above and below another one, paired by seed; None without an interval."""
    pair = on_common_seeds(entry, name, other)
    words: dict[str, list[str]] = {"better": [], "worse": [], "unclear": []}
    for column in pair[name]:
        gap, half_width = mean_interval(difference(pair, name, other, column))
        if math.isnan(half_width):
            return None
        if column != "average":
            words[verdict(gap, half_width)].append(column.removesuffix(NEVER))
    return words["better"], words["worse"]


def study_verdicts(entry: Entry) -> list[str]:
    """One sentence a run with an interval: on how many tasks it is above and below its start, above every baseline."""
    names = [row["name"] for row in entry["values"]]
    baselines = [name for name in names if "statistics" in name]
    sentences = []
    for name in names:
        start = start_of(name)
        if name not in RUNS or start not in names:
            continue
        against = [above_and_below(entry, name, other) for other in (start, *baselines)]
        if None in against:
            continue
        (up, down), *over = against
        best = set.intersection(*(set(tasks) for tasks, _ in over))
        n = len(entry["config"]["ways"])
        sentences.append(
            f"**{name}** is above its start ({start}) on {len(up)} of {n} tasks and below on {len(down)}; above each "
            f"baseline of the table on {len(best)}."
        )
    return sentences


def study_curves(
    entry: Entry, per_step: Mapping[str, float] | None = None
) -> dict[str, list[tuple[float, float, float]]]:
    """Points `(minutes of training, average accuracy, half of its interval)` by method, its start at 0.

    per_step: what a step of a method costs; then those methods alone, and their steps times that in place of minutes.
    The half width is 0 where there is one seed. Ways of tuning are left out: they go on from AudioMAE.
    """
    curves = {}
    for row in entry["values"]:
        name = row["name"]
        if "curve" not in row or name in VARIANTS or name not in (per_step or [name]):
            continue
        average = study_scores(entry, [start_of(name)])[start_of(name)]["average"]
        points = [(0.0, *mean_interval(average))]
        for point in row["curve"]:
            spent = point["step"] * per_step[name] if per_step else point["seconds"] / 60
            points.append((spent, point["average"], point["average_ci95"] or 0.0))
        curves[name] = [(x, y, 0.0 if math.isnan(half) else half) for x, y, half in points]
    return curves


def tuning_scores(entry: Entry) -> Scores:
    """The rows of uaMix-MAE's table as chapter 09 calls them, on the seeds that all have; rows with fewer are left out.

    Baselines, the untrained encoder, the pretrained one, every variant.
    """
    rows = {row["name"]: row for row in entry["values"]}
    if MAE not in rows:
        return {}
    seeds = rows[MAE]["seeds"]
    names = [f"{MAE}{UNTRAINED}", MAE]
    names += [n for n in VARIANTS if n in rows and set(seeds) <= set(rows[n]["seeds"])]
    baselines = [name for name in rows if "statistics" in name]
    titles = dict(zip(names, STARTS_OF_TUNING))
    scores = on_common_seeds(entry, *baselines, *names)
    return {titles.get(name, name): row for name, row in scores.items()}


def which_study(entry: Entry, folder: str | Path | None = None) -> str:
    """A sentence where the AudioMAE that a record is about had other steps than the study's; else nothing."""
    steps, study = entry["config"][MAE]["steps"], recorded(STUDY, folder)
    if study is None or study["config"][MAE]["steps"] == steps:
        return ""
    return (
        f"Here AudioMAE had {steps:,} steps, and uaMix-MAE was tuned from that: the weaker start of chapter 09. The "
        f"study has given it {study['config'][MAE]['steps']:,} since."
    )


def missing_runs(entry: Entry, names: Sequence[str] = tuple(RUNS), n_seeds: int = 3) -> str:
    """A sentence: how many of the runs are recorded."""
    seeds = {row["name"]: len(row.get("seeds", [])) for row in entry["values"]}
    done, wanted = sum(min(n_seeds, seeds.get(n, 0)) for n in names), n_seeds * len(names)
    if done == wanted:
        return f"All {wanted} runs are recorded, {n_seeds} seeds of {len(names)} rows."
    return f"Of {wanted} runs, {n_seeds} seeds of {len(names)} rows, {done} are recorded so far."
