"""The appendix of differences: every `measured(LABEL)` on it becomes what a record found, or "not run"."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from audiossl_lite.evaluation.statistics import as_text, mean_interval, verdict
from audiossl_lite.experiments.differences import AVERAGE, CHANGES, RECORD
from audiossl_lite.experiments.records import recorded, recorded_scores
from audiossl_lite.experiments.workshop import RECORD as STUDY
from audiossl_lite.experiments.workshop import WEAKER, gain_by_seed

# How the page asks for an effect: FAMILY: NAME, or RECORD: ROW minus ROW; and for how the first were measured.
TOKEN = re.compile(r"measured\(([^()]+)\)")
ABOUT = "% build: circumstances"
NEVER = ", never heard"
NOT_RUN, NOT_MEASURED = "not run", "not measured"
WIDE = 5.0  # points: a mean with a half width above this is not printed
SMALL = "lite"  # said beside what only the page's own small runs have measured


def effect(label: str, folder: str | Path | None = None) -> tuple[float, float, str] | None:
    """Effect in points of `"ATST: drop path"`, its 95 % half width (NaN: none) and the scale it was measured at.

    Of the record of real sounds, the average of all tasks; where that lacks the row, of the small one, events never
    heard, or its first column. None when neither has it. Raises KeyError for a label that no job measures.
    """
    family, _, name = label.partition(": ")
    if name not in CHANGES.get(family, {}):
        raise KeyError(
            f"no job measures {label!r}; see audiossl_lite.experiments.differences.CHANGES"
        )
    for entry in _records(folder):
        if row := next((row for row in entry["values"] if row["name"] == label), None):
            return *_cell(row), entry["scale"]
    return None


def _records(folder: str | Path | None) -> list[dict[str, Any]]:
    """The records of single changes, the one of real sounds first."""
    found = (recorded(name, folder) for name in (RECORD, f"differences_{SMALL}"))
    return [entry for entry in found if entry]


def _cell(row: dict[str, Any]) -> tuple[float, float]:
    """Gain and half width of the column that the page shows."""
    columns = row["columns"]
    known = (name for name in (AVERAGE, f"events{NEVER}", *columns) if name in columns)
    cell = columns[next(known)]
    return cell["gain"], math.nan if cell["gain_ci95"] is None else cell["gain_ci95"]


def between(record: str, a: str, b: str, folder: str | Path | None = None) -> np.ndarray | None:
    """Row a minus row b of a record, in points `(seeds,)`, on the average of all tasks never heard.

    Paired by the seeds that both rows have. None without the record, one of the rows, or a common seed.
    """
    entry = recorded(record, folder)
    if entry and record in (STUDY, WEAKER):
        gain = gain_by_seed(entry, a, b)
        return gain if len(gain) else None
    rows = {row["name"]: row for row in entry["values"]} if entry else {}
    if not {a, b} <= set(rows):
        return None
    scores = recorded_scores(entry)
    first, second = (
        np.mean([v for c, v in scores[name].items() if c.endswith(NEVER)], axis=0)
        for name in (a, b)
    )
    return first - second


def circumstances(folder: str | Path | None = None) -> str:
    """What the effects of single changes were measured on, and how many leave zero out beside what luck gives."""
    labels = [f"{family}: {name}" for family, changes in CHANGES.items() for name in changes]
    effects = [found for label in labels if (found := effect(label, folder))]
    if not effects:
        return f"The effects of single settings: {NOT_RUN}."
    measured = []
    for entry in _records(folder):
        n = sum(scale == entry["scale"] for *_, scale in effects)
        small = entry["scale"] == SMALL
        data = entry["data"].partition(":")[0].partition(" (")[0]
        column = f"events{NEVER}" if small else "the average of all tasks never heard"
        about = f"{data}, {len(entry['seeds'])} seeds, 5-way 1-shot accuracy, {column}"
        marked = " and marked so" if small and n < len(effects) else ""
        measured += [f"{n} at scale `{entry['scale']}`{marked} ({about})"] if n else []
    outside = sum(verdict(mean, half) != "unclear" for mean, half, _ in effects)
    return (
        "An effect without a name is that of one setting changed, paired by seed, in points with a 95 % interval over "
        f"seeds: {', '.join(measured)}. Where the interval is wider than ± {WIDE:g}, it stands alone. {outside} of "
        f"these effects leave{'s' * (outside == 1)} zero out, and luck alone gives about {0.05 * len(effects):.0f}."
    )


def fill_effects(text: str, folder: str | Path | None = None) -> str:
    """A page with every `measured(LABEL)` replaced by the recorded effect in points, or by "not run".

    `RECORD: ROW minus ROW` names both rows, the record and how many seeds stand behind the difference.
    """

    def shown(match: re.Match) -> str:
        label = match.group(1)
        if " minus " not in label:
            found = effect(label, folder)
            if found is None:
                return NOT_RUN
            mean, half, scale = found
            told = _as_effect(mean, half)
            return f"{told} ({SMALL})" if scale == SMALL and told != NOT_MEASURED else told
        record, rows = label.split(": ", 1)
        gap = between(record, *rows.split(" minus "), folder)
        rows = f"*{rows.replace(' minus ', '* − *')}*"
        if gap is None:
            return f"{rows}: {NOT_RUN}"
        runs = f"{len(gap)} seeds" if len(gap) > 1 else "one run"
        return f"{rows}: {_as_effect(*mean_interval(gap))} (`{record}`, {runs})"

    return TOKEN.sub(shown, text).replace(ABOUT, circumstances(folder))


def _as_effect(mean: float, half: float) -> str:
    """An effect as text; one that changed no score to the last digit was not tested, and a wide one has no mean."""
    if mean == 0 and half == 0:
        return NOT_MEASURED
    if half > WIDE and verdict(mean, half) == "unclear":
        return f"unclear (± {half:.0f})"
    return as_text(mean, half, signed=True)
