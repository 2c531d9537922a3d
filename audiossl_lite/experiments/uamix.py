"""The table of uaMix-MAE: every variant of step 2 over seeds, and the paper's questions as paired differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from audiossl_lite.evaluation.statistics import Scores, difference, judged
from audiossl_lite.experiments.networks import UNTRAINED
from audiossl_lite.experiments.records import mean_curve, record_row
from audiossl_lite.experiments.settings.uamix import START
from audiossl_lite.experiments.studies import by_seed, named, record_study
from audiossl_lite.experiments.zoo import MAE, TUNED_AS, UAMIX, EncoderSet

PAPER_RULE, BOTH = "T-CutMix, rule paper", "T-CutMix, both directions"
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
    ("Are both directions, in both steps, better than one?", BOTH, PAPER_RULE),
    ("Mixing, when both directions have a gradient?", BOTH, "No Mixing, both directions"),
    ("And against a plain spectrogram?", PAPER_RULE, "log-mel statistics"),
    ("... of which every number is standardised?", PAPER_RULE, "log-mel statistics, standardised"),
)  # fmt: skip
# The paper's claim in parts: two rows, and what to say when the first is better, worse, or neither is sure.
CLAIMS: tuple[tuple[str, str, str, str, str], ...] = (
    ("No Mixing", START, "Tuning lifts the encoder, without mixtures too",
     "Tuning without mixtures lowers the encoder", "Whether tuning alone lifts the encoder stays open"),
    (PAPER_RULE, START, "With T-CutMix the tuned encoder is above its start",
     "With T-CutMix the tuned encoder is below its start", "Whether T-CutMix lifts the encoder stays open"),
    (PAPER_RULE, "No Mixing", "Mixing adds to it",
     "Mixing is not what does it: without it the encoder is better", "Whether mixing adds anything stays open"),
    (BOTH, PAPER_RULE, "Both directions are better than one",
     "Both directions are worse than one", "Whether both directions are better than one stays open"),
)  # fmt: skip
# Rows of the table that no variant is.
UNTUNED = {"untrained encoder": f"{MAE}{UNTRAINED}", START: MAE}


def start_summary(encoders: EncoderSet, seed: int) -> str:
    """One line about the encoder that tuning starts from."""
    if checkpoint := encoders.configs[UAMIX].checkpoint:
        return f"read from {Path(checkpoint).name}"
    return encoders.trained(MAE, seed).result.summary()


def uamix_scores(encoders: EncoderSet, variants: Sequence[str], seeds: Sequence[int]) -> Scores:
    """Accuracy `(seeds, episodes)` by features and column: baselines, untrained, pretrained, every variant.

    A variant whose training fails with some seed is left out and named in `encoders.failures`; the others go on.

    Where: uaMix-MAE Tables 2 and 3; chapter 09
    """

    def score(name: str, seed: int) -> dict[str, np.ndarray]:
        return encoders.score(UNTUNED.get(name, f"{TUNED_AS}{name}"), seed)

    names = [*UNTUNED, *variants]
    return encoders.baselines | by_seed(
        score, names, seeds, failures=encoders.failures, needed=list(UNTUNED)
    )


def record_uamix(
    encoders: EncoderSet,
    path: str | Path,
    variants: Sequence[str],
    seeds: Sequence[int],
    scale: str,
) -> dict[str, Any]:
    """Run the table, or read what was run, and write it as a recorded run (`records.record`).

    Each row has `columns`: mean, interval, the mean of every seed, and the gain over the pretrained encoder.
    """
    began = time.perf_counter()
    scores = uamix_scores(encoders, variants, seeds)
    rows = [record_row(name, row, scores[START]) for name, row in scores.items()]
    config, columns = encoders.configs[UAMIX], encoders.scoring.names(0)
    for row in rows:
        runs = [
            encoders.trained(f"{TUNED_AS}{row['name']}", s)
            for s in seeds
            if row["name"] in variants
        ]
        if runs and config.probe_every:
            row["curve"] = mean_curve([run.result.history for run in runs], columns)
    return record_study(
        path,
        scale,
        encoders.scored,
        about=[pool.note for pool in encoders.pools],
        device=encoders.device,
        seeds=seeds,
        seconds=max(encoders.seconds, time.perf_counter() - began),
        config={
            "audiomae": asdict(encoders.configs[MAE]),
            "uamix": asdict(config),
            "ways": encoders.scoring.ways(),
        },
        values=rows,
        notes=named("failed", encoders.failures),
    )


def answers(scores: Scores) -> list[dict[str, str]]:
    """One row for each question that these scores can answer: the paired difference by column, and what it says.

    A difference is called better or worse when its interval leaves zero out. The pairing is by seed, and by episode
    where there is one seed.
    """
    rows = []
    for question, a, b in QUESTIONS:
        if a in scores and b in scores:
            row = {"question": question, "a minus b": f"{a} − {b}"}
            rows.append(row | {c: judged(difference(scores, a, b, c)) for c in scores[a]})
    return rows


def conclusion(gains: Callable[[str, str], np.ndarray]) -> list[str]:
    """One sentence for each part of the paper's claim; `gains(a, b)`: row a minus row b in points, a number a seed.

    A part with fewer than two seeds has no interval and is left out.
    """
    lines = []
    for a, b, *said in CLAIMS:
        gain = gains(a, b)
        if len(gain) > 1:
            text, _, word = judged(gain).partition(": ")
            sentence = dict(zip(("better", "worse", "unclear"), said, strict=True))[word]
            lines.append(f"**{sentence}**: {a} − {b} {text}, {len(gain)} seeds.")
    return lines


def in_words(rows: list[dict[str, str]]) -> list[str]:
    """The rows of `answers` as one line each, where an interval allows a word: the question, the columns by word.

    What all columns end with (", never heard") is said once.
    """
    lines = []
    for row in rows:
        said: dict[str, list[str]] = {"better": [], "worse": [], "unclear": []}
        for column, text in row.items():
            if (word := text.rpartition(": ")[2]) in said:
                said[word].append(column)
        columns = [column for where in said.values() for column in where]
        end = next((f",{c.rpartition(',')[2]}" for c in columns[:1] if "," in c), "")
        end = end if all(column.endswith(end) for column in columns) else ""
        parts = [
            f"{word} on {_listed([column.removesuffix(end) for column in where])}"
            for word, where in said.items()
            if where
        ]
        if parts:
            sentence = "; ".join(parts) + end
            lines.append(f"**{row['question']}** {sentence[0].upper()}{sentence[1:]}.")
    return lines


def _listed(names: list[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])
