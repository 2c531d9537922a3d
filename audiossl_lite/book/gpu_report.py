"""What `make gpu` recorded, as tables for the pages; what was not run says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiossl_lite.evaluation.statistics import as_text
from audiossl_lite.experiments import records
from audiossl_lite.experiments.gpu.runner import headline
from audiossl_lite.experiments.gpu.stages import FIRST, STAGES, TIMED
from audiossl_lite.experiments.settings.uamix import START

NOT_RUN = "not run"
STARTS_OF_TUNING = ("untrained encoder", START)
NEVER = ", never heard"  # what scores on unheard classes or speakers are called after their task
# What others say of the GPU-hours of a pretraining run.
PUBLISHED = (
    {"run": "EAT-B, 10 epochs of AudioSet-2M", "gpu_hours": 232.0, "how": "4 RTX 3090 for 58 h",
     "source": "EAT, its authors"},
    {"run": "M2D-AS", "gpu_hours": 192.0, "how": "4 GPUs of 48 GB, about two days",
     "source": "M2D, public repository, audioset/README"},
    {"run": "AudioMAE, 33 epochs of AudioSet-2M", "gpu_hours": None, "how": "64 GPUs, no hours",
     "source": "AudioMAE, official code"},
    {"run": "ATST-Small and -Base", "gpu_hours": None, "how": "4 and 6 GPUs, no hours",
     "source": "ATST, official code"},
    {"run": "uaMix-MAE", "gpu_hours": None, "how": "no hours", "source": "uaMix-MAE, Sec. 4"},
)  # fmt: skip
Entries = dict[str, dict[str, Any]]


def gpu_entries(folder: str | Path | None = None) -> Entries:
    """The records of the stages that a folder holds (default: `book/results`), by name of the stage."""
    found = ((s.name, records.recorded(f"gpu_{s.name}", folder)) for s in STAGES)
    return {name: entry for name, entry in found if entry is not None}


def stage_rows(entries: Entries) -> list[dict[str, Any]]:
    """One row a stage: what came out, on which card, in how many seconds, at which commit; or "not run".

    Of the later stages (more seeds, compact encoders) those that were run.
    """
    rows = []
    for stage in STAGES:
        entry = entries.get(stage.name)
        if entry is None and stage not in FIRST:
            continue
        row = {"stage": stage.title, "what came out": NOT_RUN}
        row |= {"card": "–", "seconds": "–", "commit": "–", "date": "–"}
        if entry:
            row["what came out"] = _named(entry) + ("" if entry["complete"] else " (cut off)")
            row |= {"card": entry["device"], "seconds": f"{entry['seconds']:.0f}"}
            row |= {"commit": entry["commit"], "date": entry["date"]}
        rows.append(row)
    return rows


def speed_rows(entries: Entries) -> list[dict[str, Any]]:
    """One row for each job whose step was timed: rate, share of the card, memory, and the whole run of the paper."""
    columns = {
        "clips/s": ("clips per second", "{:,.0f}", 1.0),
        "of the measured rate (%)": ("model FLOPs utilisation", "{:.0f}", 100.0),
        "of the data sheet (%)": ("the same of the data sheet", "{:.0f}", 100.0),
        "times plain": ("times plain", "{:.1f}", 1.0),
        "memory (GiB)": ("peak memory", "{:.0f}", 1.0),
        "in the views (%)": ("share of the step in the views", "{:.0f}", 100.0),
        "GPU-hours of the paper's run": ("hours of the paper's run", "{:.1f}", 1.0),
        "kWh": ("energy of the paper's run", "{:.1f}", 1.0),
    }
    rows = []
    for job, title in TIMED.items():
        entry = entries.get(f"fast_{job}")
        if entry is None:
            continue
        by_name = {row["name"]: row for row in entry["values"]}
        row = {"job": title}
        for column, (name, form, factor) in columns.items():
            cell = by_name.get(name, {})
            value = cell.get("mean")
            row[column] = "–" if value is None else form.format(factor * value)
            if value is not None and cell.get("target") is not None:
                row[column] += f" (aim {form.format(factor * cell['target'])})"
        rows.append(row)
    return rows


def kernel_rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The longest kernels of a timed step in its fastest profiled form, and the share of the step without any."""
    if not entry.get("profile"):
        return []
    form, profile = list(entry["profile"].items())[-1]  # the fastest form comes last
    rows = [
        {
            "kernel": _short(kernel["name"]),
            "share of the busy time (%)": f"{100 * kernel['share']:.0f}",
        }
        | {"calls a step": f"{kernel['calls']:.0f}"}
        for kernel in profile["longest"][:5]
    ]
    if profile["idle_share"] is None:  # the driver showed no kernels
        return rows
    idle = f"no kernel runs ({form}): {100 * profile['idle_share']:.0f} % of the step"
    return [*rows, {"kernel": idle, "share of the busy time (%)": "–", "calls a step": "–"}]


def _short(kernel: str) -> str:
    """The name of a kernel without namespaces and template arguments."""
    return kernel.removeprefix("void ").split("<")[0].rsplit("::", 1)[-1]


def learnt_rows(entries: Entries) -> list[dict[str, Any]]:
    """Few-shot accuracy of what was trained on real sounds: baselines once, then each run's start and end.

    The columns are those of classes or speakers never heard; their average comes last. A start that is another run's
    end has no row of its own, and no student beside its teacher.
    """
    rows: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        entry = entries.get(stage.name, {"values": []})
        if not stage.name.startswith("learnt_"):
            continue
        seed = stage.options.get("seed", 0)
        for row in entry["values"]:
            name = _title(entry, row, seed)
            if name in rows or name.endswith(", student") or (seed and "statistics" in name):
                continue
            cells = {c: row["columns"][c] for c in _never_heard(row)}
            shown = {
                c.removesuffix(NEVER): as_text(
                    v["mean"], float("nan") if v["ci95"] is None else v["ci95"]
                )
                for c, v in cells.items()
            }
            if len(shown) > 1:
                average = sum(v["mean"] for v in cells.values()) / len(cells)
                shown["average"] = f"{average:.1f}"
            known = any(shown.items() <= other.items() for other in rows.values())
            if not (known and row["name"] in STARTS_OF_TUNING):
                rows[name] = {"features": name} | shown
    return list(rows.values())


def _named(entry: dict[str, Any]) -> str:
    """The headline of a record, what it trained called as everywhere."""
    trained = next((row for row in entry["values"] if row.get("curve")), None)
    told = headline(entry)
    return told.replace(trained["name"], _title(entry, trained)) if trained else told


def _title(entry: dict[str, Any], row: dict[str, Any], seed: int = 0) -> str:
    """What a row of a stage is called: as the study calls it, both directions of uaMix-MAE told from one."""
    name = row["name"]
    if entry.get("config", {}).get("symmetric") and name.startswith("uaMix-MAE: "):
        name = f"{name.removesuffix(', rule paper')}, both directions"
    return f"{name}, seed {seed}" if seed else name


def at_a_glance(entry: dict[str, Any], column: str) -> tuple[str, str]:
    """The score of what a stage trained, by name; the start that it began from and the statistics beside it."""
    rows = entry["values"]
    trained = next(row for row in rows if row.get("curve"))
    start = rows[rows.index(trained) - 1]
    others = [start, *(row for row in rows if "statistics" in row["name"])]

    def told(row: dict[str, Any]) -> str:
        cell = row["columns"][column]
        half = math.nan if cell["ci95"] is None else cell["ci95"]
        return f"{_title(entry, row)} {as_text(cell['mean'], half)}"

    return told(trained), "; ".join(map(told, others))


def learnt_averages(entries: Entries) -> dict[str, float]:
    """The average of all tasks by row of `learnt_rows`, without the method's name before a way of tuning."""
    rows = [row for row in learnt_rows(entries) if "average" in row]
    return {row["features"].rpartition(": ")[2]: float(row["average"]) for row in rows}


def verdicts(entries: Entries) -> list[str]:
    """One sentence a run: on how many tasks, never heard, it is above and below its start and every baseline.

    Above and below: the 95 % interval of the difference, of two independent means, leaves zero out.
    """
    sentences = []
    for stage in STAGES:
        trained = _trained(entries, stage.name)
        if trained is None:
            continue
        rows = {row["name"]: row for row in entries[stage.name]["values"]}
        names = list(rows)
        start = names[names.index(trained["name"]) - 1]
        baselines = [name for name in names if "statistics" in name]
        columns = _never_heard(trained)
        title = _title(entries[stage.name], trained, stage.options.get("seed", 0))
        up, down = _above_and_below(trained, rows[start])
        over = _apart(trained, [rows[name] for name in baselines], columns, 1)
        sentences.append(
            f"**{title}** is above its start ({start}) on {up} of {len(columns)} tasks and below on "
            f"{down}; above each baseline of the table on {over}."
        )
    return sentences


def tally(entries: Entries, stage: str, other: str = "") -> tuple[int, int, int] | None:
    """On how many tasks, never heard, what a stage trained is above and below what another one did, and of how many.

    Without `other` its own start is meant. None where one of them was not run.
    """
    trained, against = _trained(entries, stage), _trained(entries, other or stage)
    if not (trained and against):
        return None
    if not other:
        rows = entries[stage]["values"]
        against = rows[rows.index(trained) - 1]
    return (*_above_and_below(trained, against), len(_never_heard(trained)))


def against(entries: Entries, a: str, b: str) -> str:
    """One sentence: on how many tasks, never heard, what stage `a` trained is above and below what `b` did, or none."""
    if not (found := tally(entries, a, b)):
        return ""
    first, second = (_title(entries[name], _trained(entries, name)) for name in (a, b))
    up, down, n = found
    return f"{first} is above {second} on {up} of {n} tasks and below on {down}."


def _trained(entries: Entries, stage: str) -> dict[str, Any] | None:
    """The row of what a stage trained."""
    rows = entries.get(stage, {"values": []})["values"]
    return next((row for row in rows if row.get("curve")), None)


def moved_rows(entries: Entries) -> list[dict[str, Any]]:
    """One row a task, never heard: how many runs ended surely above and below their start."""
    pairs = []
    for stage in STAGES:
        if trained := _trained(entries, stage.name):
            rows = entries[stage.name]["values"]
            pairs.append((trained, rows[rows.index(trained) - 1]))
    tasks = dict.fromkeys(column for trained, _ in pairs for column in _never_heard(trained))
    rows = []
    for task in tasks:
        of = [(trained, start) for trained, start in pairs if task in trained["columns"]]
        up, down = (sum(_apart(a, [b], [task], sign) for a, b in of) for sign in (1, -1))
        rows.append(
            {"task": task.removesuffix(NEVER), "runs above": up, "runs below": down, "of": len(of)}
        )
    return rows


def _never_heard(row: dict[str, Any]) -> list[str]:
    return [column for column in row["columns"] if column.endswith(NEVER)]


def _above_and_below(row: dict, other: dict) -> tuple[int, int]:
    """On how many tasks, never heard, `row` is surely above `other`, and on how many below."""
    return tuple(_apart(row, [other], _never_heard(row), sign) for sign in (1, -1))


def _apart(row: dict, others: Sequence[dict], columns: Sequence[str], sign: int) -> int:
    """In how many columns `row` is surely above (1) or below (-1) all `others`."""

    def far(column: str, other: dict[str, Any]) -> bool:
        a, b = row["columns"][column], other["columns"][column]
        if a["ci95"] is None or b["ci95"] is None:
            return False
        return sign * (a["mean"] - b["mean"]) > math.hypot(a["ci95"], b["ci95"])

    return sum(all(far(column, other) for other in others) for column in columns)


def curves(entries: Entries, column: str) -> dict[str, list[tuple[float, float]]]:
    """Accuracy against seconds of training, by title of the stage: points `(seconds, per cent)`, the start at 0 s."""
    lines = {}
    for stage in STAGES:
        trained = _trained(entries, stage.name)
        if trained and column in trained["columns"]:
            rows = entries[stage.name]["values"]
            start = rows[rows.index(trained) - 1]["columns"][column]["mean"]
            points = [(point["seconds"], point[column]) for point in trained["curve"]]
            lines[stage.title.removeprefix("Learnt: ")] = [(0.0, start), *points]
    return lines
