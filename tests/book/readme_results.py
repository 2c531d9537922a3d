"""The tables of results in the README, made from the records: `python -m tests.book.readme_results` writes it."""

from __future__ import annotations

import re

from audiossl_lite.book import gpu_report
from audiossl_lite.book.report import recorded_rows
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.experiments.records import recorded
from tests.book.library_index import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- results: made from book/results -->", "<!-- end of results -->"
GPU_BEGIN, GPU_END = "<!-- results of a card: made from book/results -->", "<!-- end of them -->"
# record -> columns of the README: (column of the record, its head)
SHOWN = {
    "few_shot_workshop": {
        "events, never heard, 5-way 1-shot": "few-shot, events never heard",
        "digits, speakers apart, 5-way 1-shot": "few-shot, digits",
    },
    "linear_workshop": {"events": "probe, events", "digits, speakers apart": "probe, digits"},
    "tsne_workshop": {"kNN accuracy, features": "5 neighbours, 8 event classes"},
}


def results_table() -> str:
    """The table in Markdown; a record that does not exist leaves "not run"."""
    heads = [head for columns in SHOWN.values() for head in columns.values()]
    cells: dict[str, dict[str, str]] = {}
    about = []
    for name, columns in SHOWN.items():
        entry = recorded(name)
        if entry is None:
            continue
        about.append(f"`{name}.json` (seeds {entry['seeds']}, {entry['device']}, {entry['date']})")
        everything = entry | {"config": entry["config"] | {"shown": list(columns)}}
        for row in recorded_rows(everything):
            kept = {head: row[column] for column, head in columns.items() if column in row}
            cells.setdefault(row["features"], {}).update(kept)
    most = max(len(row) for row in cells.values())
    known = [
        features for features, row in cells.items() if len(row) == most
    ]  # other mixtures: chapter 10
    lines = [f"| features | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for features in known:
        shown = [cells[features].get(head, "not run") for head in heads]
        lines.append(f"| {features} | {' | '.join(shown)} |")
    verdicts = [f"{head}: {above(head, cells, known)}" for head in heads]
    said = f"Above both rows without training, intervals apart: {'; '.join(verdicts)}."
    return "\n".join([*lines, "", said, "", f"From {'; '.join(about)}."])


def above(head: str, cells: dict[str, dict[str, str]], known: list[str]) -> str:
    """The encoders whose interval in a column lies above those of both baselines, or "none"."""

    def ends(features: str) -> tuple[float, float]:
        mean, _, half = cells[features][head].partition(" ± ")
        return float(mean) - float(half or 0), float(mean) + float(half or 0)

    rows = [features for features in known if head in cells[features]]
    bar = max((ends(b)[1] for b in rows if b in BASELINES), default=0.0)
    return ", ".join(f for f in rows if f not in BASELINES and ends(f)[0] > bar) or "none"


def gpu_table() -> str:
    """What a card trained, on what was never heard: the best of each column in bold, and what went down."""
    entries = gpu_report.gpu_entries()
    rows = gpu_report.learnt_rows(entries)
    if not rows:
        return "Not run."
    heads = list(rows[0])
    best = {h: max(_mean(row[h]) for row in rows) for h in heads[1:]}
    lines = [f"| {' | '.join(heads)} |", f"|---{'|---' * (len(heads) - 1)}|"]
    for row in rows:
        cells = [f"**{row[h]}**" if _mean(row[h]) == best[h] else row[h] for h in heads[1:]]
        lines.append(f"| {row['features']} | {' | '.join(cells)} |")
    learnt = {name: entry for name, entry in entries.items() if name.startswith("learnt_")}
    seconds = ", ".join(
        f"{e['title'].removeprefix('Learnt: ')} {e['training']['seconds']:.0f} s"
        for e in learnt.values()
    )
    first = next(iter(learnt.values()))
    about = f"One run each on one {first['device']}, {first['date']}, several at a time: {seconds}. {first['data']}."
    said = "\n".join(f"- {sentence}" for sentence in gpu_report.verdicts(entries))
    return "\n".join([*lines, "", said, "", f"{about} From `book/results/gpu_learnt_*.json`."])


def _mean(cell: str) -> float:
    return float(cell.partition(" ± ")[0])


def with_results(text: str) -> str:
    """The README with the tables of the present records."""
    for begin, end, made in ((BEGIN, END, results_table), (GPU_BEGIN, GPU_END, gpu_table)):
        between = f"{re.escape(begin)}.*?{re.escape(end)}"
        made_now = f"{begin}\n{made()}\n{end}"
        text = re.sub(between, lambda _, now=made_now: now, text, flags=re.S)
    return text


if __name__ == "__main__":
    README.write_text(with_results(README.read_text()))
    print(f"{README.name} written")
