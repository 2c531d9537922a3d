"""The picture and tables of results in the README, made from the records: `python -m tests.book.readme_results`."""

from __future__ import annotations

import json
import re

from matplotlib import pyplot as plt

from audiossl_lite.book import gpu_report, study_report
from audiossl_lite.book.figures import figure_style
from audiossl_lite.evaluation.statistics import judged
from audiossl_lite.experiments.records import recorded
from audiossl_lite.experiments.settings.uamix import VARIANTS
from audiossl_lite.experiments.workshop import RECORD as STUDY
from audiossl_lite.experiments.workshop import RUNS, gain_by_seed
from tests.book.library_index import ROOT

README = ROOT / "README.md"
PICTURE = ROOT / "book" / "images" / "results.svg"
BEGIN, END = "<!-- results: made from book/results -->", "<!-- end of results -->"
GPU_BEGIN, GPU_END = "<!-- results of a card: made from book/results -->", "<!-- end of them -->"
WORDS_BEGIN, WORDS_END = "<!-- in words: made from book/results -->", "<!-- end of words -->"
# Rows of the study in the README; chapters 09 and 14 have all.
SHOWN = (
    *("log-mel statistics", "MFCC statistics"),
    *("log-mel statistics, standardised", "MFCC statistics, standardised"),
    *("ATST, untrained", "ATST", "ATST, one segment of 1 s", "ATST, two segments of 0.5 s"),
    *("ATST, two segments of 3 s", "ATST, one segment of 3 s"),
    *("AudioMAE, untrained", "AudioMAE"),
    *("No Mixing", "MixUp + LS", "T-CutMix, rule paper", "T-CutMix, both directions"),
    *("EAT, untrained", "EAT", "BYOL-A, untrained", "BYOL-A", "CNN, InfoNCE, untrained", "CNN, InfoNCE"),
)  # fmt: skip


def write_picture() -> None:
    """What training did, as a picture; the numbers that it shows are its description."""
    figure_style()
    panels = study_report.what_training_did(recorded(STUDY), gpu_report.gpu_entries())
    figure = study_report.draw_what_training_did(panels)
    with plt.rc_context({"svg.hashsalt": "audiossl_lite"}):
        figure.savefig(PICTURE, metadata={"Date": None, "Description": drawn_numbers()})


def drawn_numbers() -> str:
    """The numbers of the picture, from the present records."""
    panels = study_report.what_training_did(recorded(STUDY), gpu_report.gpu_entries())
    rounded = {t: {n: round(v, 1) for n, v in row.items()} for t, row in panels.items()}
    return json.dumps(rounded, ensure_ascii=False)


def verdict_lines() -> str:
    """What the picture says, in words, as far as intervals over seeds allow."""
    entry = recorded(STUDY)
    if entry is None:
        return "Not run."
    averages = study_report.averages_of(entry)
    names = [name for name in RUNS if name in averages]

    def gap(name: str, other: str) -> str:
        return judged(gain_by_seed(entry, name, other))

    def above(name: str, other: str) -> bool:
        return gap(name, other).endswith(": better")

    names = [n for n in names if len(gain_by_seed(entry, n, study_report.start_of(n))) > 1]
    risen = [name for name in names if above(name, study_report.start_of(name))]
    over = [n for n in names if all(above(n, b) for b in study_report.PLAIN)]
    said = (
        f"Over seeds {len(risen)} of {len(names)} rows end surely above their start, "
        f"{len(over)} above all three lines ({'; '.join(map(_title, over)) or 'none'})."
    )
    pair = ("T-CutMix, rule paper", "No Mixing")
    if set(pair) <= set(averages):
        said += f" T-CutMix, the second paper's idea, minus no mixing: {gap(*pair)}, in points."
    return f"{said} [Chapter 14](notebooks/14_report.ipynb) has the verdict, claim by claim."


def study_table() -> str:
    """What two cores trained over seeds, on what was never heard."""
    entry = recorded(STUDY)
    if entry is None:
        return "Not run."
    recorded_names = {row["name"] for row in entry["values"]}
    names = [name for name in SHOWN if name in recorded_names]
    rows = study_report.study_rows(study_report.study_scores(entry, names))
    rows = [row | {"features": _title(row["features"])} for row in rows]
    said = []
    for sentence in study_report.study_verdicts(entry):
        _, name, rest = sentence.split("**")
        said += [f"**{_title(name)}**{rest}"] * (name in names)
    minutes = [row["curve"][-1]["seconds"] / 60 for row in entry["values"] if row.get("curve")]
    about = (
        f"{study_report.missing_runs(entry)} A run took {min(minutes):.0f} to {max(minutes):.0f} minutes of one core, "
        f"all of them {entry['seconds'] / 3600:.0f} h. Seeds {entry['seeds']}, {entry['device']}, {entry['date']}; "
        f"{entry['data']}. From `book/results/{STUDY}.json`."
    )
    return "\n".join([*_table(rows), "", *(f"- {line}" for line in said), "", about])


def gpu_table() -> str:
    """What a card trained, on what was never heard: the best of each column in bold, and what went down."""
    entries = gpu_report.gpu_entries()
    rows = gpu_report.learnt_rows(entries)
    if not rows:
        return "Not run."
    learnt = {name: entry for name, entry in entries.items() if name.startswith("learnt_")}
    said = gpu_report.verdicts(entries)
    names = [sentence.split("**")[1] for sentence in said]  # as the table calls them
    seconds = ", ".join(
        f"{name} {e['training']['seconds']:.0f} s"
        for name, e in zip(names, learnt.values(), strict=True)
    )
    first = next(iter(learnt.values()))
    about = f"One run each on one {first['device']}, {first['date']}, several at a time: {seconds}. {first['data']}."
    lines = [*_table(rows), "", *(f"- {sentence}" for sentence in said), ""]
    return "\n".join([*lines, f"{about} From `book/results/gpu_learnt_*.json`."])


def _table(rows: list[dict[str, str]]) -> list[str]:
    """Lines of a table in Markdown, the best score of a column in bold."""
    heads = [head for head in rows[0] if head not in ("features", "seeds")]
    first = [head for head in rows[0] if head not in heads]
    best = {h: max(_mean(row[h]) for row in rows) for h in heads}
    lines = [f"| {' | '.join([*first, *heads])} |", f"|{'---|' * len([*first, *heads])}"]
    for row in rows:
        cells = [str(row[h]) for h in first]
        cells += [f"**{row[h]}**" if _mean(row[h]) == best[h] else row[h] for h in heads]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _title(name: str) -> str:
    return f"uaMix-MAE: {name}" if name in VARIANTS else name


def _mean(cell: str) -> float:
    return float(cell.partition(" ± ")[0])


def with_results(text: str) -> str:
    """The README with the tables of the present records."""
    for begin, end, made in (
        (BEGIN, END, study_table),
        (GPU_BEGIN, GPU_END, gpu_table),
        (WORDS_BEGIN, WORDS_END, verdict_lines),
    ):
        between = f"{re.escape(begin)}.*?{re.escape(end)}"
        made_now = f"{begin}\n{made()}\n{end}"
        text = re.sub(between, lambda _, now=made_now: now, text, flags=re.S)
    return text


if __name__ == "__main__":
    README.write_text(with_results(README.read_text()))
    write_picture()
    print(f"{README.name} and {PICTURE.name} written")
