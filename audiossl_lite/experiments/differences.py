"""What the differences between paper, official code and this project do to a score: one setting changed at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiossl_lite.evaluation.statistics import Scores, as_text, mean_interval
from audiossl_lite.experiments.records import or_none, record_row, recorded
from audiossl_lite.experiments.settings.presets import override
from audiossl_lite.experiments.studies import by_seed, named, record_study
from audiossl_lite.experiments.workshop import RECORD as STUDY
from audiossl_lite.experiments.workshop import on_common_seeds
from audiossl_lite.experiments.zoo import EncoderSet

BASE = "as it is"
TOKEN = re.compile(r"measured\(([^()]+)\)")  # how the appendix asks for an effect: FAMILY: NAME
NOT_RUN = "not run"


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
        "student kept": Change(network="student"),
        "linear features, own mean": Change(features="chunk"),
        "linear features, the code's mean": Change(
            features="official", against="linear features, own mean"
        ),
    },
    "BYOL-A": {
        "two memories of mixup": Change({"shared_memory": False}),
        "student kept": Change(network="student"),
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


def effect(label: str, folder: str | Path | None = None) -> tuple[float, float | None] | None:
    """Effect in points with its 95 % half width, of `"ATST: drop path"`, or of `"uaMix-MAE: ROW minus ROW"`.

    The first is read from the record `differences_workshop`, or `_lite`; the second from the study of real sounds, over
    the seeds of both rows. None when there is no such record. The column is that of events never heard, or the
    first. Raises KeyError for a label that no job measures.
    """
    family, _, name = label.partition(": ")
    if " minus " in name:
        return _between(*name.split(" minus "), folder)
    if name not in CHANGES.get(family, {}):
        raise KeyError(
            f"no job measures {label!r}; see audiossl_lite.experiments.differences.CHANGES"
        )
    for scale in ("workshop", "lite"):
        entry = recorded(f"differences_{scale}", folder)
        for row in entry["values"] if entry else ():
            if row["name"] == label:
                cell = row["columns"].get("events, never heard") or next(
                    iter(row["columns"].values())
                )
                return cell["gain"], cell["gain_ci95"]
    return None


def _between(a: str, b: str, folder: str | Path | None) -> tuple[float, float | None] | None:
    entry = recorded(STUDY, folder)
    if entry is None or not {a, b} <= {row["name"] for row in entry["values"]}:
        return None
    scores, column = on_common_seeds(entry, a, b), "events, never heard"
    mean, half = mean_interval(scores[a][column] - scores[b][column])
    return mean, or_none(half)


def fill_effects(text: str, folder: str | Path | None = None) -> str:
    """A page with every `measured(LABEL)` replaced by the recorded effect in points, or by "not run"."""

    def shown(match: re.Match) -> str:
        found = effect(match.group(1), folder)
        if found is None:
            return NOT_RUN
        mean, half = found
        return as_text(mean, math.nan if half is None else half, signed=True)

    return TOKEN.sub(shown, text)
