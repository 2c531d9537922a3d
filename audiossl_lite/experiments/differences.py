"""What the differences between paper, official code and this project do to a score: one setting changed at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from audiossl_lite.evaluation.embed import embed_clips
from audiossl_lite.evaluation.grids import Scoring
from audiossl_lite.evaluation.statistics import as_text, mean_interval
from audiossl_lite.experiments.build import Prepared, prepare, pretrain
from audiossl_lite.experiments.records import config_hash, recorded
from audiossl_lite.experiments.settings.presets import override
from audiossl_lite.experiments.studies import Finished, named, record_study
from audiossl_lite.experiments.uamix_report import record_row, recorded_scores
from audiossl_lite.experiments.zoo import EncoderSet, Network
from audiossl_lite.training.loop import CollapseError, NotFiniteError

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


@dataclass
class DifferencesJob:
    """Trains every family once as it is and once for each change, and scores the difference, seed by seed.

    The encoders are those of an `EncoderSet`, so both sides of a difference share clips, random start and order of
    batches. With an `output_dir` finished scores are kept: an interrupted job goes on.
    """

    zoo: EncoderSet
    output_dir: str | Path | None = None
    n_episodes: int = 600
    failures: dict[str, str] = field(default_factory=dict)
    _ready: dict[tuple[str, str], Prepared] = field(default_factory=dict, repr=False)
    _runs: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def scoring(self) -> Scoring:
        """The episodes that everything is scored on."""
        return Scoring([pool.test for pool in self.zoo.pools], self.n_episodes)

    @cached_property
    def finished(self) -> Finished:
        """The scores so far."""
        return Finished(Path(self.output_dir) / "differences" if self.output_dir else None)

    def score(self, family: str, name: str, seed: int) -> dict[str, float]:
        """Mean accuracy in percent by column, of a family as it is (`BASE`) or with one change.

        Raises KeyError for an unknown family or change; see `train` for other errors.
        """
        change = Change() if name == BASE else CHANGES[family][name]
        config = self._config(family, change)
        settings = [family, asdict(config), asdict(change), asdict(self.zoo.runs), seed]
        settings += [self.n_episodes, *(pool.test.fingerprint() for pool in self.zoo.pools)]

        def compute(_: Path | None) -> dict[str, Any]:
            scores = self.scoring.score(self._features(family, change, config, seed))
            return {"scores": {column: float(v.mean()) for column, v in scores.items()}}

        return self.finished("difference", settings, compute)["scores"]

    def _config(self, family: str, change: Change) -> Any:
        if family in ("ATST", "BYOL-A"):
            config = self.zoo.config(family)
        else:
            job = self.zoo.job
            config = job.mae_config if family == "AudioMAE" else job.config
        scaled = {name: getattr(config, name) * by for name, by in change.scaled.items()}
        return override(config, change.settings | scaled)

    def _features(self, family: str, change: Change, config: Any, seed: int) -> list[torch.Tensor]:
        clips = [pool.test for pool in self.zoo.pools]
        if family in ("ATST", "BYOL-A"):
            network = self._byol(family, change, config, seed)
        else:
            network = self._mae(family, config, seed)
        if change.features == "embedding":
            return [network.embed(part) for part in clips]

        def compute(spec, lengths):
            return network.encoder.linear_features(
                spec, lengths, chunk_frames=network.chunk_frames, mean_over=change.features
            )

        return [
            embed_clips(network.encoder, network.frontend, p.waveforms, p.lengths, features=compute)
            for p in clips
        ]

    def _byol(self, family: str, change: Change, config: Any, seed: int) -> Network:
        where = (config.frontend, config.crop_from)
        if where not in self._ready:
            self._ready[where] = prepare(self.zoo.unlabelled, config)
        key = config_hash([asdict(config), seed])
        if key not in self._runs:  # the last one: its networks are read in several ways
            self._runs = {
                key: pretrain(
                    self.zoo.unlabelled,
                    config,
                    prepared=self._ready[where],
                    seed=seed,
                    device=self.zoo.device,
                    description=f"{family}, seed {seed}",
                )
            }
        trained = self._runs[key]
        encoder = trained.method.encoders[change.network].cpu().eval()
        chunk = round(config.segment_s / trained.frontend.hop_s) + 1 if family == "ATST" else 0
        return Network(family, encoder, trained.frontend, chunk)

    def _mae(self, family: str, config: Any, seed: int) -> Network:
        part = "mae_config" if family == "AudioMAE" else "config"
        job = self.zoo.job.changed(**{part: config})
        if family == "AudioMAE":
            return Network(family, job.pretrained(seed), job.frontend)
        return Network(family, job.tuned(self.zoo.runs.variant, seed).encoder, job.frontend)

    def run(self, seeds: Sequence[int], families: Sequence[str] | None = None) -> dict[str, dict]:
        """Scores `(seeds,)` by name (`"ATST: drop path"`) and column; a change that fails is named in `failures`."""
        rows: dict[str, dict[str, list[float]]] = {}
        for seed in seeds:
            for family in families or CHANGES:
                # Readings of one run stand together, so that it is trained once.
                changes = CHANGES[family]
                order = sorted(
                    changes, key=lambda n: bool(changes[n].settings or changes[n].scaled)
                )
                for name in [BASE, *order]:
                    label = f"{family}: {name}"
                    if label in self.failures:
                        continue
                    try:
                        found = self.score(family, name, seed)
                    except (NotFiniteError, CollapseError) as error:
                        if name == BASE:
                            raise
                        self.failures[label] = f"seed {seed}: {error}"
                        rows.pop(label, None)
                        continue
                    for column, value in found.items():
                        rows.setdefault(label, {}).setdefault(column, []).append(value)
        return rows

    def record(self, path: str | Path, seeds: Sequence[int], scale: str) -> dict[str, Any]:
        """Run everything, or read what was run, and write it as a recorded run: `gain` is the effect of a change."""
        rows = {
            label: {column: torch.tensor(v)[:, None].numpy() for column, v in found.items()}
            for label, found in self.run(seeds).items()
        }
        values = [record_row(label, found, rows[_against(label)]) for label, found in rows.items()]
        pools = self.zoo.pools
        return record_study(
            path,
            scale,
            [pool.test for pool in pools],
            about=[pool.note for pool in pools],
            device=self.zoo.device,
            seeds=seeds,
            seconds=self.finished.seconds,
            config=self.zoo.settings() | {"ways": self.scoring.ways()},
            values=values,
            notes=named("failed", self.failures),
        )


def _against(label: str) -> str:
    """The row that a row is compared with."""
    family, name = label.split(": ", 1)
    return f"{family}: {BASE if name == BASE else CHANGES[family][name].against}"


def effect(label: str, folder: str | Path | None = None) -> tuple[float, float | None] | None:
    """Effect in points with its 95 % half width, of `"ATST: drop path"`, or of `"uaMix-MAE: ROW minus ROW"`.

    The first is read from the record `differences_workshop`, or `_lite`; the second from the table of chapter 09. None
    when there is no such record. The column is that of events never heard, or the first. Raises KeyError for a
    label that no job measures.
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
    entry = recorded("uamix_workshop", folder)
    if entry is None:
        return None
    scores = recorded_scores(entry)
    column = "events, never heard"
    mean, half = mean_interval(scores[a][column] - scores[b][column])
    return mean, None if math.isnan(half) else half


def fill_effects(text: str, folder: str | Path | None = None) -> str:
    """A page with every `measured(LABEL)` replaced by the recorded effect in points, or by "not run"."""

    def shown(match: re.Match) -> str:
        found = effect(match.group(1), folder)
        if found is None:
            return NOT_RUN
        mean, half = found
        return as_text(mean, math.nan if half is None else half, signed=True)

    return TOKEN.sub(shown, text)
