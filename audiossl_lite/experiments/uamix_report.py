"""The tables of uaMix-MAE from scores: rows with intervals, and the paper's questions answered by paired differences.

Scores are `{features: {column: array}}`, the array `(seeds, episodes)` from a job or `(seeds,)` from a record.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from audiossl_lite.evaluation.statistics import (
    Scores,
    as_text,
    difference,
    mean_interval,
    verdict,
)

START = "AudioMAE, as pretrained"
PAPER_RULE = "T-CutMix, rule paper"
QUESTIONS: tuple[tuple[str, str, str], ...] = (
    ("Did masked pretraining teach anything?", START, "untrained encoder"),
    ("Does tuning beat the pretrained encoder?", "No Mixing", START),
    ("... with T-CutMix?", PAPER_RULE, START),
    ("Does mixing beat no mixing?", PAPER_RULE, "No Mixing"),
    ("Does T-CutMix beat MixUp + LS?", PAPER_RULE, "MixUp + LS"),
    ("Does T-CutMix beat TF-CutMix?", PAPER_RULE, "TF-CutMix"),
    ("Does the label rule matter? (effective)", "T-CutMix, rule effective", PAPER_RULE),
    ("Does the label rule matter? (linear)", "T-CutMix, rule linear", PAPER_RULE),
    ("Do neighbours help?", "No Mixing", "InfoNCE, no neighbours"),
    ("Does a gradient for mixtures help?", "T-CutMix, both directions", PAPER_RULE),
    ("Mixing, when both directions have a gradient?", "T-CutMix, both directions",
     "No Mixing, both directions"),
    ("And against a plain spectrogram?", PAPER_RULE, "log-mel statistics"),
)  # fmt: skip


def table_rows(scores: Scores) -> list[dict[str, Any]]:
    """One row for each kind of features: mean and interval of every column, as text.

    Where: uaMix-MAE Tables 2 and 3; chapter 09
    """
    return [
        {"features": name, "seeds": max(len(v) for v in found.values())}
        | {column: as_text(*mean_interval(values)) for column, values in found.items()}
        for name, found in scores.items()
    ]


def answers(scores: Scores) -> list[dict[str, str]]:
    """One row for each question that these scores can answer: the paired difference by column, and what it says.

    A difference is called better or worse when its interval leaves zero out. The pairing is by seed, and by episode
    where there is one seed.

    Where: uaMix-MAE Sec. 4; chapter 09
    """
    rows = []
    for question, a, b in QUESTIONS:
        if a in scores and b in scores:
            row = {"question": question, "a minus b": f"{a} − {b}"}
            for column in scores[a]:
                gap, half_width = mean_interval(difference(scores, a, b, column))
                row[column] = f"{as_text(gap, half_width, signed=True)}: {verdict(gap, half_width)}"
            rows.append(row)
    return rows


def in_words(rows: list[dict[str, str]]) -> list[str]:
    """The rows of `answers` as one line each: the question, then the columns by what they say.

    Where: uaMix-MAE Sec. 4; chapter 09
    """
    lines = []
    for row in rows:
        said: dict[str, list[str]] = {"better": [], "worse": [], "unclear": []}
        for column, text in row.items():
            if column not in ("question", "a minus b"):
                said[text.rsplit(": ", 1)[1]].append(column)
        parts = [f"{word} on {' and '.join(where)}" for word, where in said.items() if where]
        lines.append(f"**{row['question']}** {'; '.join(parts).capitalize()}.")
    return lines


def record_row(name: str, found: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> dict:
    """One line of a record: by column the mean, its interval, the mean of every seed, the gain over `start`.

    `mean` and `ci95` of the line itself are those of the first column. Intervals that do not exist are None.

    Where: uaMix-MAE Tables 2 and 3; chapter 09
    """
    columns = {}
    for column, values in found.items():
        mean, half_width = mean_interval(values)
        gain, gain_half_width = mean_interval(values - start[column])
        columns[column] = {
            "mean": mean,
            "ci95": _or_none(half_width),
            "by_seed": np.asarray(values).reshape(len(values), -1).mean(1).tolist(),
            "gain": gain,
            "gain_ci95": _or_none(gain_half_width),
        }
    first = next(iter(columns.values()))
    return {"name": name, "mean": first["mean"], "ci95": first["ci95"], "columns": columns}


def recorded_scores(entry: dict[str, Any]) -> Scores:
    """The scores of a record, `(seeds,)` by features and column.

    Where: uaMix-MAE Tables 2 and 3; chapter 09
    """
    return {
        row["name"]: {c: np.asarray(v["by_seed"]) for c, v in row["columns"].items()}
        for row in entry["values"]
    }


def mean_curve(histories: list[list[dict]], columns: list[str]) -> list[dict[str, float]]:
    """The probes of several runs, averaged step by step."""
    probes = [[line for line in lines if columns[0] in line] for lines in histories]
    return [
        {"step": lines[0]["step"]}
        | {c: float(np.mean([line[c] for line in lines])) for c in columns}
        for lines in zip(*probes, strict=True)
    ]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
