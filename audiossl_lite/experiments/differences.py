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

from audiossl_lite.evaluation.statistics import Scores, as_text, mean_interval, verdict
from audiossl_lite.experiments.records import record_row, recorded, recorded_scores
from audiossl_lite.experiments.settings.presets import override
from audiossl_lite.experiments.studies import by_seed, named, record_study
from audiossl_lite.experiments.zoo import EncoderSet

BASE = "as it is"
# How the appendix asks for an effect: FAMILY: NAME, or RECORD: ROW minus ROW; and for how the first were measured.
TOKEN = re.compile(r"measured\(([^()]+)\)")
ABOUT = "% build: circumstances"
NEVER = ", never heard"
NOT_RUN, NOT_MEASURED = "not run", "not measured"
WIDE = 5.0  # points: a mean with a half width above this is not printed


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


def effect(label: str, folder: str | Path | None = None) -> tuple[float, float] | None:
    """Effect in points of `"ATST: drop path"` with its 95 % half width (NaN: none), from the record of differences.

    The column is that of events never heard, or the first. None when there is no such record. Raises KeyError for a
    label that no job measures.
    """
    family, _, name = label.partition(": ")
    if name not in CHANGES.get(family, {}):
        raise KeyError(
            f"no job measures {label!r}; see audiossl_lite.experiments.differences.CHANGES"
        )
    entry = _differences(folder)
    row = next((r for r in entry["values"] if r["name"] == label), None) if entry else None
    return _cell(row) if row else None


def _differences(folder: str | Path | None) -> dict[str, Any] | None:
    return recorded("differences_workshop", folder) or recorded("differences_lite", folder)


def _cell(row: dict[str, Any]) -> tuple[float, float]:
    """Gain and half width of the column that the page shows."""
    cell = row["columns"].get(f"events{NEVER}") or next(iter(row["columns"].values()))
    return cell["gain"], math.nan if cell["gain_ci95"] is None else cell["gain_ci95"]


def between(record: str, a: str, b: str, folder: str | Path | None = None) -> np.ndarray | None:
    """Row a minus row b of a record, in points `(seeds,)`, on the average of all tasks never heard.

    Paired by the seeds that both rows have. None without the record, one of the rows, or a common seed.
    """
    entry = recorded(record, folder)
    rows = {row["name"]: row for row in entry["values"]} if entry else {}
    if not {a, b} <= set(rows):
        return None
    seeds = [rows[name].get("seeds", entry["seeds"]) for name in (a, b)]
    common = [seed for seed in seeds[0] if seed in seeds[1]]
    scores = recorded_scores(entry)
    first, second = (
        np.mean([v for c, v in scores[name].items() if c.endswith(NEVER)], axis=0)[
            [of.index(seed) for seed in common]
        ]
        for name, of in zip((a, b), seeds, strict=True)
    )
    return first - second if common else None


def circumstances(folder: str | Path | None = None) -> str:
    """What the effects of single changes were measured on, and how many leave zero out beside what luck gives."""
    entry = _differences(folder)
    if entry is None:
        return f"The effects of single settings: {NOT_RUN}."
    changed = [row for row in entry["values"] if not row["name"].endswith(f": {BASE}")]
    outside = sum(verdict(*_cell(row)) != "unclear" for row in changed)
    column = f"events{NEVER}"
    return (
        f"An effect without a name was measured at scale `{entry['scale']}`: one setting changed, paired by seed, "
        f"{len(entry['seeds'])} seeds, {entry['data'].partition(':')[0]}, 5-way 1-shot accuracy on {column}, in points "
        f"with a 95 % interval over seeds. Where the interval is wider than ± {WIDE:g}, it stands alone. {outside} of "
        f"these effects leave{'s' * (outside == 1)} zero out, and luck alone gives about {0.05 * len(changed):.0f}."
    )


def fill_effects(text: str, folder: str | Path | None = None) -> str:
    """A page with every `measured(LABEL)` replaced by the recorded effect in points, or by "not run".

    `RECORD: ROW minus ROW` names both rows, the record and how many runs stand behind the difference.
    """

    def shown(match: re.Match) -> str:
        label = match.group(1)
        if " minus " not in label:
            found = effect(label, folder)
            return NOT_RUN if found is None else _as_effect(*found)
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
