"""What the differences between paper, official code and this project do to a score: one setting changed at a time.

On a chapter's page at scale `lite`, and on real sounds:
`python -m audiossl_lite.experiments.differences --data SOUNDS --out runs/workshop` goes on in the folder of the study,
whose sounds and AudioMAE it shares.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiossl_lite.common.commands import listed
from audiossl_lite.evaluation.statistics import Scores
from audiossl_lite.experiments import records, workshop
from audiossl_lite.experiments.real_sounds.recipes import settings_of
from audiossl_lite.experiments.real_sounds.scores import START, load_scores
from audiossl_lite.experiments.real_sounds.task import record_of
from audiossl_lite.experiments.records import record_row
from audiossl_lite.experiments.settings.presets import override
from audiossl_lite.experiments.settings.study import RUNS
from audiossl_lite.experiments.studies import by_seed, named, record_study, tell_record
from audiossl_lite.experiments.zoo import EncoderSet

BASE = "as it is"
RECORD = "differences_workshop"
# On real sounds: the row of the study that a family stands for, and its steps: shorter than there, since there are
# so many of them. Step 1 of tuning stays as it is.
STUDIED = {
    "ATST": ("ATST", 750),
    "BYOL-A": ("BYOL-A", 375),
    "AudioMAE": ("AudioMAE", 750),
    "uaMix-MAE": ("T-CutMix, rule paper", 300),
}
STUDENT = "student kept"
AVERAGE = "average of all tasks"


@dataclass(frozen=True)
class Change:
    """One difference: settings to change, or another network or another reading of the same run.

    `scaled`: settings multiplied instead of replaced. `network` of BYOL: "teacher" or "student". `features` of ATST:
    "embedding", or what linear evaluation sees, with the token mean "official" or "chunk". `against`: the change that
    the score is compared with, by default none at all.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    scaled: dict[str, float] = field(default_factory=dict)
    network: str = "teacher"
    features: str = "embedding"
    against: str = BASE


CHANGES: dict[str, dict[str, Change]] = {
    "ATST": {
        "window and floor of the code": Change({"frontend": "atst_official"}),
        "segments of the waveform": Change({"crop_from": "waveform"}),
        "one memory of mixup for both views": Change({"shared_memory": True}),
        "mean of both losses": Change({"reduction": "mean"}),
        "both views in one forward": Change({"joint_views": True}),
        "heads without bias": Change({"head_bias": False}),
        "drop path": Change({"drop_path": 0.1}),
        "six times the learning rate": Change(scaled={"learning_rate": 6.0}),
        "eps of 1e-6": Change({"eps": 1e-6}),
        STUDENT: Change(network="student"),
        "linear features, own mean": Change(features="chunk"),
        "linear features, the code's mean": Change(
            features="official", against="linear features, own mean"
        ),
    },
    "BYOL-A": {
        "two memories of mixup": Change({"shared_memory": False}),
        "second normalisation": Change({"normalise_views": True}),
        STUDENT: Change(network="student"),
    },
    "AudioMAE": {
        "structured masks": Change({"structured": True}),
        "targets not normalised": Change({"norm_patches": False}),
        "padding reconstructed": Change({"count_padding": True}),
        "gain as augmentation": Change({"gain_db": 2.0}),
    },
    "uaMix-MAE": {
        "both directions": Change({"symmetric": True}),
        "no neighbours": Change({"k": 0}),
        "one of five neighbours": Change({"k": 5}),
        "projector without moving average": Change({"ema_projector": False}),
        "a box for every clip": Change({"per_sample": True}),
        "alpha of 0.5": Change({"alpha": 0.5}),
        "SpecAugment": Change({"augmentation": "spec_augment"}),
        "one learning rate for all layers": Change({"layer_decay": 1.0}),
    },
}


def changed_set(encoders: EncoderSet, family: str, change: Change) -> EncoderSet:
    """The set with one method's settings changed; both share clips, random start and order of batches."""
    if not (change.settings or change.scaled):
        return encoders
    config = encoders.configs[family]
    scaled = {name: getattr(config, name) * by for name, by in change.scaled.items()}
    return encoders.changed(family, override(config, change.settings | scaled))


def changed_score(encoders: EncoderSet, family: str, name: str, seed: int) -> dict[str, np.ndarray]:
    """Mean accuracy in percent `(1,)` by column, of a family as it is (`BASE`) or with one change.

    Raises KeyError for an unknown family or change; see `train` for other errors.
    """
    change = Change() if name == BASE else CHANGES[family][name]
    other = changed_set(encoders, family, change)

    def embed() -> list[torch.Tensor]:
        network, features = other.network(family, seed), None
        if change.network == "student":
            run = other.trained(family, seed)
            network = replace(network, encoder=run.method.encoders["student"])
        if change.features != "embedding":
            how = {"chunk_frames": network.chunk_frames, "mean_over": change.features}
            features = partial(network.encoder.linear_features, **how)
        return [network.embed(part, features=features) for part in other.scored]

    read = {"network": change.network, "features": change.features}
    scores = other.score(family, seed, embed, **read)
    return {column: values.mean(axis=1) for column, values in scores.items()}


def difference_scores(encoders: EncoderSet, seeds: Sequence[int]) -> Scores:
    """Scores `(seeds,)` by name (`"ATST: drop path"`) and column.

    A change whose training fails is left out and named in `encoders.failures`.
    """
    labels = []
    for family, changes in CHANGES.items():
        # Readings of one run stand together.
        order = sorted(changes, key=lambda n: bool(changes[n].settings or changes[n].scaled))
        labels += [f"{family}: {name}" for name in (BASE, *order)]
    return by_seed(
        lambda label, seed: changed_score(encoders, *label.split(": ", 1), seed),
        labels,
        seeds,
        failures=encoders.failures,
        needed=[f"{family}: {BASE}" for family in CHANGES],
    )


def record_differences(
    encoders: EncoderSet, path: str | Path, seeds: Sequence[int], scale: str
) -> dict[str, Any]:
    """Run everything, or read what was run, and write it as a recorded run: `gain` is the effect of a change."""
    scores = difference_scores(encoders, seeds)
    rows = {
        label: {column: values[:, None] for column, values in row.items()}
        for label, row in scores.items()
    }
    return record_study(
        path,
        scale,
        encoders.scored,
        about=[pool.note for pool in encoders.pools],
        device=encoders.device,
        seeds=seeds,
        seconds=encoders.finished.seconds,
        config=encoders.settings() | {"ways": encoders.scoring.ways()},
        values=[record_row(label, row, rows[_against(label)]) for label, row in rows.items()],
        notes=named("failed", encoders.failures),
    )


def _against(label: str) -> str:
    """The row that a row is compared with."""
    family, name = label.split(": ", 1)
    return f"{family}: {BASE if name == BASE else CHANGES[family][name].against}"


def study_runs() -> workshop.Runs:
    """The runs on real sounds by label: every method as it is, and with each change of a setting."""
    runs = {}
    for family, (row, steps) in STUDIED.items():
        short = RUNS[row] | {"steps": steps, "warmup_steps": steps // 10, "points": (1.0,)}
        config = settings_of(short, torch.device("cpu"), toy=False)
        runs[f"{family}: {BASE}"] = short
        for name, change in CHANGES[family].items():
            scaled = {key: getattr(config, key) * by for key, by in change.scaled.items()}
            if settings := change.settings | scaled:
                runs[f"{family}: {name}"] = short | settings
    return runs


def collect(out: Path) -> dict[str, Any]:
    """Write the record of all finished runs on real sounds, over their seeds, and return it.

    A row's `gain` is over its method as it is, of the same seeds; the last column is the average of all tasks.
    """
    runs, scores = study_runs(), load_scores(out / "sounds" / "scores.pt")
    found: dict[str, dict[int, dict[str, float]]] = {}  # by label and seed
    entries = []
    for label in runs:
        for seed in range(workshop.MOST_SEEDS):
            stage = workshop.run_of(label, seed, runs)
            if entry := record_of(out, stage.name):
                entries.append(entry)
                end = workshop.scores_of(out, stage, entry["training"]["steps"])
                student = f"{label.removesuffix(BASE)}{STUDENT}"
                family, name = label.split(": ", 1)
                both = name == BASE and STUDENT in CHANGES[family]
                labels = [label, student] if both else [label]
                for name, by_column in zip(labels, end):
                    means = {column: float(values.mean()) for column, values in by_column.items()}
                    means[AVERAGE] = float(np.mean(list(means.values())))
                    found.setdefault(name, {})[seed] = means
    rows = [
        record_row(name, row, scores.baselines[START]) for name, row in scores.baselines.items()
    ]
    for label, by_seed_ in found.items():
        base = found.get(_against(label), {})
        seeds = [seed for seed in by_seed_ if seed in base]
        row, start = (
            {c: np.array([[part[s][c]] for s in seeds]) for c in (*scores.ways(), AVERAGE)}
            for part in (by_seed_, base)
        )
        if seeds:
            rows.append(record_row(label, row, start) | {"seeds": seeds})
    last = record_of(out, "sounds")
    stages = [workshop.run_of(r, s, runs) for r in runs for s in range(workshop.MOST_SEEDS)]
    return records.record(
        out / "records" / f"{RECORD}.json",
        experiment=RECORD,
        scale="workshop",
        data=last["data"],
        data_fingerprint=last["data_fingerprint"],
        device="CPU, 1 thread",
        seeds=sorted({seed for by_seed_ in found.values() for seed in by_seed_}),
        seconds=sum(entry["seconds"] for entry in entries),
        config={"runs": runs, "ways": scores.ways()},
        values=rows,
        note=" ".join([workshop.SHARED_CORES, *named("failed", workshop.failures_of(out, stages))]),
        more={"commit": ", ".join(sorted({entry["commit"] for entry in entries}))},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what was asked for on real sounds and say where the record is; status 2 for a wrong request."""
    what, only = "What single settings do, over seeds,", 'labels like "ATST: drop path", or "ATST"'
    parser = workshop.parser_of(".experiments.differences", what, only)
    asked = parser.parse_args(arguments)
    runs = study_runs()
    if asked.list:
        print("\n".join(runs))
        return 0
    wanted = listed(asked.only) or list(STUDIED)
    names = [
        label for name in wanted
        for label in ([n for n in runs if n.startswith(f"{name}: ")] or [name])
    ]  # fmt: skip
    where, seeds = (asked.out, asked.data or None), range(asked.seeds)
    return tell_record(
        "differences",
        Path(asked.out) / "records" / f"{RECORD}.json",
        lambda: workshop.train_all(*where, names, seeds, runs=runs, write=collect),
    )


if __name__ == "__main__":
    sys.exit(main())
