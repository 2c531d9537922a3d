"""Recorded runs: numbers with the circumstances that they were measured under, as JSON files under book/results/."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import subprocess
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiossl_lite._version import __version__
from audiossl_lite.data.store_format import write_whole
from audiossl_lite.evaluation.statistics import Scores, as_text, mean_interval

REQUIRED = {
    "experiment": str,
    "scale": str,
    "data": str,
    "device": str,
    "seeds": list,
    "seconds": (int, float),
    "config_hash": str,
    "commit": str,
    "values": list,
}
LIBRARY_FOLDER = Path(__file__).resolve().parents[1]
ROOT = LIBRARY_FOLDER.parent


def config_hash(config: Any) -> str:
    """Twelve hex digits that change with any field of a dataclass or entry of a dictionary."""
    plain = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]


def current_commit() -> str:
    """Short git commit of the library, with `+` after it when files have changed since.

    Without git or a repository it is what AUDIOSSL_COMMIT says, else the version of the library.
    """
    elsewhere = os.environ.get("AUDIOSSL_COMMIT") or f"version {__version__}"

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(LIBRARY_FOLDER), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):
            return elsewhere
        changed = "+" if git("status", "--porcelain", "--untracked-files=no", ".") else ""
        return git("rev-parse", "--short=9", "HEAD") + changed
    except (OSError, subprocess.SubprocessError):
        return elsewhere


def device_name(device: str | torch.device = "auto") -> str:
    """The name of the GPU that a run with this `device` uses, or the CPU with its number of threads."""
    kind = str(device).split(":")[0]
    if kind in ("cuda", "gpu", "auto") and torch.cuda.is_available():
        return torch.cuda.get_device_name(device if kind == "cuda" else None)
    if kind in ("mps", "gpu", "auto") and torch.backends.mps.is_available():
        return "mps"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def record(
    path: str | Path,
    *,
    experiment: str,
    scale: str,
    data: str,
    data_fingerprint: str,
    device: str,
    seeds: list[int],
    seconds: float,
    config: Any,
    values: list[dict[str, Any]],
    note: str = "",
    more: dict[str, Any] | None = None,
    earlier: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write one recorded run; `values` are the rows of its table, each with a name, a mean and an interval.

    The commit, library version and date are added, and `more`: entries that only some records have. `earlier`: the
    record whose rows are among these; its seconds and commits count too. Raises ValueError for an empty table.
    """
    if not values:
        raise ValueError(f"nothing to record in {path}: the table of values is empty")
    commits = [*(earlier["commit"].split(", ") if earlier else ()), current_commit()]
    entry = {
        "experiment": experiment,
        "scale": scale,
        "data": data,
        "data_fingerprint": data_fingerprint,
        "device": device,
        "seeds": list(seeds),
        "seconds": round(seconds + (earlier["seconds"] if earlier else 0), 1),
        "config": dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config,
        "config_hash": config_hash(config),
        "commit": ", ".join(dict.fromkeys(commits)),
        "version": __version__,
        "date": datetime.now(UTC).date().isoformat(),
        "note": note,
        **(more or {}),
        "values": values,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(entry, indent=1, ensure_ascii=False) + "\n").encode())
    return entry


def load(path: str | Path) -> dict[str, Any] | None:
    """A recorded run, or None when it was not run (no such file); ValueError names what a file lacks or has wrong."""
    path = Path(path)
    if not path.is_file():
        return None
    try:
        entry = json.loads(path.read_bytes())
        if not isinstance(entry, dict):
            raise TypeError(f"it holds a {type(entry).__name__}")
        if missing := [name for name in REQUIRED if name not in entry]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if wrong := [name for name, kind in REQUIRED.items() if not isinstance(entry[name], kind)]:
            raise TypeError(f"{wrong[0]} is {entry[wrong[0]]!r}")
        if not all(isinstance(row, dict) and "name" in row for row in entry["values"]):
            raise TypeError("values are not rows with names")
    except (ValueError, TypeError, RecursionError) as error:
        what, remedy = textwrap.shorten(str(error), 200), "move it away and record it again"
        raise ValueError(f"{path} is not a recorded run: {what}; {remedy}") from error
    return entry


def recorded(name: str, folder: str | Path | None = None) -> dict[str, Any] | None:
    """The recorded run `book/results/NAME.json` of this checkout, or None when it was not run."""
    return load(Path(folder or ROOT / "book" / "results") / f"{name}.json")


def said_once(data: str) -> str:
    """What a record says of its sets of clips, `set; about` or `set, about` each: what all share once, behind them."""
    parts = data.split("; ")
    for n in (*range(2, len(parts) // 2 + 1), 1):
        sets = [parts[i : i + n] for i in range(0, len(parts), n)]
        names, about = [one[0] for one in sets], sets[0][1:]
        ends = [names[0][comma.start() :] for comma in re.finditer(", ", names[0])]
        end = next((e for e in ends if all(name.endswith(e) for name in names)), "")
        if len(sets) > 1 and (about or end) and all(one[1:] == about for one in sets):
            sets_alone = dict.fromkeys(name.removesuffix(end) for name in names)
            return "; ".join([*sets_alone, *filter(None, [end.removeprefix(", ")]), *about])
    return data


# --- rows of a record, from scores by features and column: `(seeds, episodes)`, or `(seeds,)` of a record ---------


def record_row(name: str, row: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> dict:
    """One line of a record: by column the mean, its interval, the mean of every seed, the gain over `start`.

    `mean` and `ci95` of the line itself are those of the first column. Intervals that do not exist are None.
    """
    columns = {}
    for column, values in row.items():
        mean, half_width = mean_interval(values)
        gain, gain_half_width = mean_interval(values - start[column])
        columns[column] = {
            "mean": mean,
            "ci95": or_none(half_width),
            "by_seed": np.asarray(values).reshape(len(values), -1).mean(1).tolist(),
            "gain": gain,
            "gain_ci95": or_none(gain_half_width),
        }
    first = next(iter(columns.values()))
    return {"name": name, "mean": first["mean"], "ci95": first["ci95"], "columns": columns}


def recorded_scores(entry: dict[str, Any]) -> Scores:
    """The scores of a record, `(seeds,)` by features and column."""
    return {
        row["name"]: {c: np.asarray(v["by_seed"]) for c, v in row["columns"].items()}
        for row in entry["values"]
    }


def table_rows(scores: Scores) -> list[dict[str, Any]]:
    """One row for each kind of features: mean and interval of every column, as text."""
    return [
        {"features": name, "seeds": max(len(v) for v in row.values())}
        | {column: as_text(*mean_interval(values)) for column, values in row.items()}
        for name, row in scores.items()
    ]


def mean_curve(histories: list[list[dict]], columns: list[str]) -> list[dict[str, float]]:
    """The probes of several runs, averaged step by step."""
    probes = [[line for line in lines if columns[0] in line] for lines in histories]
    return [
        {"step": lines[0]["step"]}
        | {c: float(np.mean([line[c] for line in lines])) for c in columns}
        for lines in zip(*probes, strict=True)
    ]


def or_none(value: float) -> float | None:
    """A number, or None for an interval that does not exist."""
    return None if math.isnan(value) else value
