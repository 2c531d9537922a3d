"""The reproduction report: every table and figure of both papers, and what this project has run of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiossl_lite.book.gpu_report import at_a_glance
from audiossl_lite.book.paper_tables import PaperTable, paper_tables
from audiossl_lite.evaluation.statistics import as_text
from audiossl_lite.experiments.records import recorded, said_once
from audiossl_lite.experiments.workshop import RECORD as STUDY

SCALES = ("lite", "workshop", "gpu", "paper")
NOT_RUN = "not run"
DRAWING = "a drawing"  # it shows no result, so there is nothing to run
STUDY_FOLDER = "runs/workshop"
# What was changed when the record was made.
OVERRIDES = {"few_shot": "n_seeds=1"} | dict.fromkeys(
    ("linear", "finetune"), "n_seeds=1,tuned=events"
)
LONG_S = 7200  # seconds that are told in hours
# Records say so of all clips of a study; how many of them training hears follows.
HOLDS = re.compile(r"training heard (\d+ clips, [\d.]+ h .*training hears)")
OF_THE_STUDY = ("10_few_shot", "11_probes", "12_tsne")  # they evaluate the encoders that it left


@dataclass(frozen=True)
class Item:
    """Where a table or figure is regenerated: the chapter, the stem of its records, what differs from the paper.

    `gpu`: the stages of `make gpu` that train what it is about; their records are those of the scale `gpu`.

    At scale `lite` its chapter computes it whenever the book is built. `beside`: rows of the same record that say what
    the number is worth: the start of the training, a baseline without learning. `paper`: row and column of the paper's
    number that stands for the item; `ours`: row and column (empty: the row's mean) of the first record.
    `study`: at `workshop` its record is that of the study of real sounds, which trains every method over seeds.
    """

    chapter: str = ""
    records: tuple[str, ...] = ()
    differs: str = ""
    paper: tuple[str, str] | None = None
    ours: tuple[str, str] | None = None
    gpu: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    study: bool = False

    @property
    def command(self) -> str:
        """The command that regenerates it at the scale `workshop`."""
        if not self.records:
            return "–"
        if self.study:
            return f"python -m audiossl_lite workshop --data FOLDER --out {STUDY_FOLDER}"
        folder = STUDY_FOLDER if self.chapter in OF_THE_STUDY else "FOLDER"
        settings = "".join(f" -p overrides={OVERRIDES[r]}" for r in self.records if r in OVERRIDES)
        return (
            f"python -m audiossl_lite.run notebooks/{self.chapter}.ipynb --preset workshop "
            f"--data-root {folder} -p output_dir=runs{settings}"
        )


CORPUS = (
    "hours of real sounds in place of AudioSet, eight tasks of what training never heard in place of the paper's "
    "five data sets; small encoders"
)
FEW_SHOT = (
    "real sounds, by classes heard and never heard in training, in place of the paper's five data sets; small encoders "
    "pretrained here in place of the published ones"
)
SPEAKERS = (
    "speakers of our sounds in place of VoxCeleb1; the paper prints no values to compare with"
)
# Made before `workshop` had the settings of the study.
INFONCE = "InfoNCE on a few hundred clips for a few hundred steps, scored on the clips of training"
LENGTHS = f"few-shot accuracy in place of linear evaluation; the record is of {INFONCE}"
PROBES = "real sounds in place of the paper's data sets, recordings and speakers apart; small encoders pretrained here"
NEVER = "events, never heard, 5-way 1-shot"
MAPS = (
    "numbers beside the pictures, which the paper does not print; small encoders; four of the eight classes are our "
    "choice, half of the eight are never heard in training"
)
ONE_DIVISION = f"{PROBES}; its linear probes are of one division, so other numbers than those of linear evaluation"
COUNTS = "the counts that `data_scripts/` checks a download against, beside the paper's"
OF_ALL = ("learnt_uamix", "learnt_audiomae", "learnt_atst", "learnt_byola", "learnt_cnn")
ITEMS: dict[tuple[str, str], Item] = {
    ("ATST", "Table 1"): Item(
        "05_atst", ("atst_table1", "atst_views_contrastive"), f"{CORPUS}; the views' record is of {INFONCE}",
        ("Small, two, 6 s", "average"), ("ATST", "events, never heard"), ("learnt_atst", "learnt_byola"),
        ("ATST, untrained", "log-mel statistics, standardised"), study=True),
    ("ATST", "Table 2"): Item(
        "11_probes", ("linear",), PROBES, ("Small", "us8k"), ("ATST", "events"),
        beside=("ATST, untrained", "MFCC statistics")),
    ("ATST", "Table 3"): Item(
        "11_probes", ("finetune",), ONE_DIVISION, ("Small", "spcv2"), ("ATST, fine-tuned", "events"),
        beside=("ATST, from scratch", "log-mel statistics, linear probe")),
    ("ATST", "Figure 2"): Item("05_atst", ("atst_sweep_contrastive",), LENGTHS),
    ("uaMix-MAE", "Table 1"): Item("14_report", (), COUNTS),
    ("uaMix-MAE", "Table 2"): Item(
        "10_few_shot", ("few_shot",), FEW_SHOT,
        ("uaMix-MAE", "esc50"), ("uaMix-MAE", NEVER), OF_ALL, ("AudioMAE", "MFCC statistics")),
    ("uaMix-MAE", "Table 3"): Item(
        "09_uamix", ("uamix",), CORPUS,
        ("uaMix-MAE", "esc50"), ("T-CutMix, rule paper", "events, never heard"),
        ("learnt_uamix", "learnt_uamix_mixup", "learnt_uamix_none"),
        ("No Mixing", "AudioMAE", "log-mel statistics, standardised"), study=True),
    ("uaMix-MAE", "Table 4"): Item(
        "11_probes", ("finetune",), ONE_DIVISION, ("uaMix-MAE", "esc50"), ("uaMix-MAE, fine-tuned", "events"),
        beside=("uaMix-MAE, from scratch", "log-mel statistics, linear probe")),
    ("uaMix-MAE", "Figure 3"): Item("10_few_shot", ("few_shot",), SPEAKERS),
    ("uaMix-MAE", "Figure 4"): Item("10_few_shot", ("few_shot",), SPEAKERS),
    ("uaMix-MAE", "Figure 5"): Item("10_few_shot", ("few_shot",), SPEAKERS),
    ("uaMix-MAE", "Figure 6"): Item("12_tsne", ("tsne",), MAPS),
}  # fmt: skip


# The chapters that show a paper's rows of the study; records of a card stand in chapter 13.
STUDY_SHOWN = {"ATST": "05", "uaMix-MAE": "09"}


def place(paper: str, experiment: str) -> str:
    """The number of the chapter that shows a record beside a paper's table."""
    return STUDY_SHOWN[paper] if experiment == STUDY else "13"


def item_of(table: PaperTable) -> Item:
    """Where this table or figure is regenerated; an empty item when nowhere yet."""
    return ITEMS.get((table.paper, table.id), Item())


def entries(item: Item, scale: str, folder: str | Path | None = None) -> list[dict[str, Any]]:
    """The recorded runs of an item at a scale that exist."""
    names = [f"{stem}_{scale}" for stem in item.records]
    if scale == "gpu" and item.gpu:
        names = [f"gpu_{stage}" for stage in item.gpu]
    if scale == "workshop" and item.study:
        names = [STUDY]
    found = (recorded(name, folder) for name in names)
    return [entry for entry in found if entry is not None]


def state(item: Item, scale: str, folder: str | Path | None = None) -> str:
    """What there is at a scale: recorded (with date, seeds and device), in the page of the chapter, or "not run"."""
    found = entries(item, scale, folder)
    if found:
        entry = found[0]
        return f"recorded {entry.get('date', '')}, seeds {', '.join(map(str, entry['seeds']))}, {entry['device']}"
    if scale == "lite" and item.chapter:
        return f"in chapter {item.chapter[:2]}"
    return NOT_RUN


def headline(item: Item, scale: str, folder: str | Path | None = None) -> str:
    """The number of ours that stands for an item at a scale, with its interval; else its `state`.

    A record without the row or column that `item.ours` names is shown by its `state` too: the full table says more.
    Of a card it is the score of what the first of the stages trained, by name.
    """
    found = entries(item, scale, folder)
    if not found or item.ours is None:
        return state(item, scale, folder)
    if scale == "gpu":
        return at_a_glance(found[0], _on_the_card(item))[0]
    return _score(found[0]["values"], *item.ours) or state(item, scale, folder)


def beside(item: Item, scale: str, folder: str | Path | None = None) -> str:
    """What stands beside that number in the same record: the start of the training, a baseline; or nothing."""
    found = entries(item, scale, folder)
    if not found or item.ours is None:
        return "–"
    if scale == "gpu":
        return at_a_glance(found[0], _on_the_card(item))[1]
    name, column = item.ours
    scores = {other: _score(found[0]["values"], other, column) for other in item.beside}
    start = _row(found[0]["values"], name).get("untrained")  # where a row holds its own start
    if start is not None:
        scores["untrained"] = _text(start, None)
    return "; ".join(f"{other} {text}" for other, text in scores.items() if text) or "–"


def _on_the_card(item: Item) -> str:
    """What a stage calls the column of an item: all of its episodes are 5-way and 1-shot."""
    return item.ours[1].removesuffix(", 5-way 1-shot")


def _row(values: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The row of a name; of several that only begin so (segments of several lengths), the last: the longest."""
    rows = [row for row in values if row["name"] == name]
    return (rows or [row for row in values if row["name"].startswith(name)] or [{}])[-1]


def _score(values: list[dict[str, Any]], name: str, column: str) -> str:
    """A number with its interval, or nothing where the row or the column is missing."""
    row = _row(values, name)
    cell = row.get("columns", {}).get(column) if column else row
    return _text(cell["mean"], cell["ci95"]) if cell and "mean" in cell else ""


def what_is_shown(item: Item) -> str:
    """In words, which row and column of ours stands for an item."""
    return (
        "the tables below" if item.ours is None else ", ".join(part for part in item.ours if part)
    )


def status_rows(paper: str | None = None, folder: str | Path | None = None) -> list[dict[str, str]]:
    """One row for every table and figure of the papers: the paper's number, and ours at each scale."""
    rows = []
    for table in paper_tables(paper):
        item, drawn = item_of(table), table.kind == "diagram"
        printed = "prints no number"
        if item.paper:
            row, key = item.paper
            printed = f"{table.text(row, key)} ({row}, {table.column(key).name})"
        elif table.has_numbers:
            printed = "see below"
        rows.append(
            {"item": f"{table.paper}, {table.id}", "about": table.title}
            | {"the paper": DRAWING if drawn else printed}
            | {"ours is": "–" if drawn else what_is_shown(item)}
        )
        for scale in SCALES:
            rows[-1][scale] = "–" if drawn else headline(item, scale, folder)
            if scale in ("workshop", "gpu"):
                rows[-1][f"beside it, at {scale}"] = "–" if drawn else beside(item, scale, folder)
    return rows


def how_rows(paper: str | None = None) -> list[dict[str, str]]:
    """One row for every table and figure with results: the command that regenerates it, and what differs."""
    return [
        {"item": f"{table.paper}, {table.id}"}
        | {"chapter": item_of(table).chapter[:2] or "none yet", "command": item_of(table).command}
        | {"what differs": item_of(table).differs or "–"}
        for table in paper_tables(paper)
        if table.kind != "diagram"
    ]


def recorded_rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of a recorded run, as text with intervals, whatever the experiment.

    Of a record with many columns, those that its settings name as `shown`.
    """
    if not all("columns" in row for row in entry["values"]):
        return [
            {"features": row["name"], "accuracy": _text(row["mean"], row["ci95"])}
            for row in entry["values"]
        ]
    rows = []
    for row in entry["values"]:
        shown = entry.get("config", {}).get("shown") or row["columns"]
        cells = {name: row["columns"][name] for name in shown if name in row["columns"]}
        rows.append(
            {"features": row["name"], "seeds": max(len(c["by_seed"]) for c in cells.values())}
            | {name: _text(cell["mean"], cell["ci95"]) for name, cell in cells.items()}
        )
    return rows


def _text(mean: float, ci95: float | None) -> str:
    return as_text(mean, math.nan if ci95 is None else ci95)


def circumstances(entry: dict[str, Any]) -> str:
    """One line about a recorded run: scale, data, device, seeds, seconds, commit, date."""
    told = entry | {"data": HOLDS.sub(r"the study holds \1", said_once(entry["data"]))}
    parts = [f"{k} {told[k]}" for k in ("scale", "data", "device", "seeds", "commit")]
    ways = entry.get("config", {}).get("ways", {})
    chances = {name: f"{n}-way (chance {100 / n:.0f} %)" for name, n in ways.items()}
    if len(set(chances.values())) == 1 < len(chances):
        parts[:0] = [f"every task {next(iter(chances.values()))}"]
    else:
        parts[:0] = [f"{name} {chance}" for name, chance in chances.items()]
    seconds = entry["seconds"]
    spent = f"{seconds:.0f} s" if seconds < LONG_S else f"{seconds / 3600:.1f} h"
    return "; ".join([*parts, spent, str(entry.get("date", ""))])
