"""The table of uaMix-MAE as one job: pretraining, step 1, every variant of step 2, several seeds, four scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.held_out import split_heard
from audiossl_lite.encoders import AudioMAEEncoder
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.evaluation.grids import Scoring
from audiossl_lite.evaluation.statistics import Scores
from audiossl_lite.experiments.build import Prepared, Trained, TrainTest
from audiossl_lite.experiments.build_mae import (
    make_mae,
    make_mae_frontend,
    prepare_mae,
    pretrain_mae,
)
from audiossl_lite.experiments.build_uamix import train_head, tune
from audiossl_lite.experiments.records import config_hash
from audiossl_lite.experiments.settings.audiomae import MaskedPretraining
from audiossl_lite.experiments.settings.uamix import Tuning
from audiossl_lite.experiments.studies import Finished, named, record_study
from audiossl_lite.experiments.uamix_report import START, mean_curve, record_row
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.pretrained.audiomae import load_audiomae
from audiossl_lite.training.loop import CollapseError, NotFiniteError

# Each variant is a change of the settings of step 2, nothing else. The table has the rows of Table 3, TF-CutMix of
# Fig. 5 and the corrected label rules; the others try what the paper leaves open.
TABLE: dict[str, dict[str, Any]] = {
    "No Mixing": {"mixing": "none"},
    "T-CutMix, rule paper": {"mixing": "t_cutmix", "rule": "paper"},
    "MixUp + LS": {"mixing": "mixup"},
    "TF-CutMix": {"mixing": "tf_cutmix"},
    "T-CutMix, rule effective": {"mixing": "t_cutmix", "rule": "effective"},
    "T-CutMix, rule linear": {"mixing": "t_cutmix", "rule": "linear"},
}
VARIANTS: dict[str, dict[str, Any]] = TABLE | {
    "InfoNCE, no neighbours": {"mixing": "none", "k": 0},
    "No Mixing, both directions": {"mixing": "none", "symmetric": True},
    "T-CutMix, both directions": {"mixing": "t_cutmix", "rule": "paper", "symmetric": True},
}


@dataclass
class TuningJob:
    """Trains what is asked for, once, and scores it; with an `output_dir` an interrupted job goes on where it was.

    `pools`: clips to train on and to score on, by pool; training hears only the classes that the fixed list of
    `data.held_out` leaves. All variants of a seed start from the same encoder and the same head.

    Where: uaMix-MAE Sec. 4, Tables 2 and 3; chapter 09
    """

    pools: Sequence[TrainTest]
    mae_config: MaskedPretraining
    config: Tuning
    device: str = "auto"
    output_dir: str | Path | None = None
    n_episodes: int = 600
    failures: dict[str, str] = field(default_factory=dict)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def heard(self) -> list[Clips]:
        """The clips of training, by pool: all classes but the held-out ones."""
        return [pool.train.subset(split_heard(pool.train)[0]) for pool in self.pools]

    @cached_property
    def finished(self) -> Finished:
        """The scores so far."""
        return Finished(Path(self.output_dir) / "scores" if self.output_dir else None)

    @cached_property
    def scoring(self) -> Scoring:
        """The episodes that everything is scored on."""
        return Scoring([pool.test for pool in self.pools], self.n_episodes)

    def changed(self, **settings: Any) -> TuningJob:
        """The same job with other settings; clips, filter banks and what was trained alike are shared."""
        job = replace(self, **settings, failures={})  # what is trained is kept by its settings
        vars(job).update(heard=self.heard, frontend=self.frontend, data=self.data)
        return job

    @cached_property
    def frontend(self) -> AudioMAEFrontend:
        """The filter bank of training and scoring, that of the published file if the settings name one.

        Where: AudioMAE Sec. 4.1; chapter 09
        """
        if self.config.checkpoint:
            return self._published.frontend
        return make_mae_frontend(self.mae_config, self.heard[0])

    @cached_property
    def _published(self):
        return load_audiomae(self.config.checkpoint, n_frames=self.config.n_frames)

    @cached_property
    def data(self) -> tuple[Tensor, Tensor]:
        """Filter banks of all training clips `(n, T, F)` and their valid frames `(n,)`.

        Where: uaMix-MAE Sec. 3; chapter 09
        """
        return self._join([spectrograms(self.frontend, c.waveforms, c.lengths) for c in self.heard])

    def _join(self, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        width = max(spec.shape[1] for spec, _ in parts)
        pad = self.frontend.pad_value
        specs = [nn.functional.pad(s, (0, 0, 0, width - s.shape[1]), value=pad) for s, _ in parts]
        return torch.cat(specs), torch.cat([frames for _, frames in parts])

    @cached_property
    def _fingerprints(self) -> list[str]:
        return [clips.fingerprint() for clips in self.heard]

    def _folder(self, kind: str, *settings: Any) -> tuple[str, Path | None]:
        """A name that changes with the settings, the seed and the data, and the folder of that name."""
        name = f"{kind}_{config_hash([settings, self._fingerprints])}"
        return name, Path(self.output_dir) / name if self.output_dir else None

    def _where(self, seed: int, folder: Path | None) -> dict[str, Any]:
        return {"seed": seed, "device": self.device, "output_dir": folder}

    def pretrained(self, seed: int) -> nn.Module:
        """The encoder that tuning starts from: pretrained here, or read from the published file.

        Where: AudioMAE Sec. 3; chapter 09
        """
        if self.config.checkpoint:
            return self._published.encoder
        return self._pretrained(seed).encoder

    def _pretrained(self, seed: int) -> Trained:
        config = self.mae_config
        name, folder = self._folder("mae", asdict(config), seed)
        if name not in self._kept:
            parts = [prepare_mae(clips, config, self.frontend) for clips in self.heard]
            data = self._join([(part.data, part.lengths) for part in parts])
            self._kept[name] = pretrain_mae(
                self.heard[0],
                config,
                prepared=Prepared(self.frontend, *data),
                **self._where(seed, folder),
                description=f"AudioMAE, seed {seed}",
            )
            self._kept[name].encoder.cpu()
        return self._kept[name]

    def mae_summary(self, seed: int) -> str:
        """One line about the pretraining of a seed.

        Where: AudioMAE Sec. 3; chapter 09
        """
        if self.config.checkpoint:
            return f"read from {Path(self.config.checkpoint).name}"
        return self._pretrained(seed).result.summary()

    def pretraining_seconds(self, seed: int) -> float:
        """Seconds that the pretraining of a seed took; 0 for a published file.

        Where: AudioMAE Sec. 3; chapter 09
        """
        return 0.0 if self.config.checkpoint else self._pretrained(seed).result.seconds

    def _start_key(self, seed: int) -> list:
        return [asdict(self.mae_config), seed, self.config.checkpoint]

    def head(self, seed: int) -> Trained:
        """Step 1: projector and predictor, on the frozen encoder.

        Where: uaMix-MAE Sec. 3; chapter 09
        """
        # Step 1 mixes nothing: the settings of the mixtures are not part of its name.
        plain = replace(self.config, mixing="none", rule="paper", symmetric=False, steps=1)
        name, folder = self._folder("head", asdict(plain), self._start_key(seed))
        if name not in self._kept:
            self._kept[name] = train_head(
                self.pretrained(seed),
                self.frontend,
                *self.data,
                plain,
                **self._where(seed, folder),
            )
        return self._kept[name]

    def tuned(self, variant: str, seed: int) -> Trained:
        """Step 2 of one variant. Raises KeyError for an unknown variant; see `train` for other errors.

        Where: uaMix-MAE Sec. 3, Eq. 4, Table 3; chapter 09
        """
        if variant not in VARIANTS:
            raise KeyError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
        config = replace(self.config, **VARIANTS[variant])
        name, folder = self._folder("tuned", asdict(config), self._start_key(seed))
        if name not in self._kept:
            self._kept[name] = tune(
                self.head(seed),
                self.frontend,
                *self.data,
                config,
                **self._where(seed, folder),
                probe=self._probe if config.probe_every else None,
            )
            self._kept[name].method.cpu()
        return self._kept[name]

    def _probe(self, encoder: nn.Module, frontend: nn.Module) -> dict[str, float]:
        """Accuracy on the first pool along the run, by column."""
        was_training = encoder.training
        found = self.scoring.score([self._embed(encoder, 0)])
        encoder.train(was_training)
        return {name: float(values.mean()) for name, values in found.items()}

    @cached_property
    def _tests(self) -> list[tuple[Tensor, Tensor]]:
        return [
            spectrograms(self.frontend, pool.test.waveforms, pool.test.lengths)
            for pool in self.pools
        ]

    @torch.no_grad()
    def _embed(self, network: nn.Module, pool: int) -> Tensor:
        device = next(network.parameters()).device
        network.eval()
        parts = zip(*(tensor.split(64) for tensor in self._tests[pool]), strict=True)
        return torch.cat([network(spec.to(device), n.to(device)).cpu() for spec, n in parts])

    def score(self, network: nn.Module) -> dict[str, np.ndarray]:
        """Accuracy of every episode `(1, episodes)` by column, from the mean patch token, heads thrown away.

        Where: uaMix-MAE Sec. 4.1; chapter 09
        """
        return self.scoring.score([self._embed(network, i) for i in range(len(self.pools))])

    def run(self, variants: Sequence[str], seeds: Sequence[int]) -> Scores:
        """Accuracy `(seeds, episodes)` by features and column: baselines, untrained, pretrained, every variant.

        A variant whose training fails with some seed is left out and named in `failures`; the others go on.

        Where: uaMix-MAE Tables 2 and 3; chapter 09
        """
        scores = dict(self._baselines)
        rows: dict[str, list] = {name: [] for name in ("untrained encoder", START, *variants)}
        for seed in seeds:  # seeds outside: what an interrupted job leaves is complete seeds
            for name in rows:
                if name not in self.failures:
                    try:
                        rows[name].append(self._score(name, seed))
                    except (NotFiniteError, CollapseError) as error:
                        if name not in variants:
                            raise
                        self.failures[name] = f"seed {seed}: {error}"
        for name, by_seed in rows.items():
            if name in self.failures:
                continue
            scores[name] = {
                column: np.concatenate([found[column] for found in by_seed])
                for column in by_seed[0]
            }
        return scores

    @cached_property
    def _baselines(self) -> Scores:
        return self.scoring.baselines()

    def _score(self, name: str, seed: int) -> dict[str, np.ndarray]:
        """The scores of a row for one seed, computed once: a record asks for what a page has shown."""
        settings = [name, asdict(self.config), *self._start_key(seed), self._fingerprints]
        settings += [self.n_episodes, [pool.test.fingerprint() for pool in self.pools]]

        def compute(_: Path | None) -> dict[str, Any]:
            if name == "untrained encoder":
                network = self.untrained(seed)
            elif name == START:
                network = self.pretrained(seed)
            else:
                network = self.tuned(name, seed).encoder
            return {"scores": {c: values.tolist() for c, values in self.score(network).items()}}

        scores = self.finished("score", settings, compute)["scores"]
        return {column: np.array(values) for column, values in scores.items()}

    def untrained(self, seed: int) -> nn.Module:
        """A random start of the size that is tuned."""
        if not self.config.checkpoint:
            return make_mae(self.mae_config, seed).encoder
        like = self._published.encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads = like.blocks[0].attn.heads
            return AudioMAEEncoder(like.embed_dim, len(like.blocks), heads, n_frames=like.n_frames)

    def record(
        self,
        path: str | Path,
        variants: Sequence[str],
        seeds: Sequence[int],
        scale: str,
        note: str = "",
    ) -> dict[str, Any]:
        """Run the table, or read what was run, and write it as a recorded run (`results.record`).

        Each row has `columns`: mean, interval, the mean of every seed, and the gain over the pretrained encoder.

        Where: uaMix-MAE Tables 2 and 3; chapter 09
        """
        began = time.perf_counter()
        scores = self.run(variants, seeds)
        runs = [self.head(seed) for seed in seeds]
        runs += [self.tuned(v, seed) for v in variants if v in scores for seed in seeds]
        spent = sum(run.result.seconds for run in runs)
        spent += sum(self.pretraining_seconds(seed) for seed in seeds)
        rows = [record_row(name, row, scores[START]) for name, row in scores.items()]
        for row in rows:
            if row["name"] in VARIANTS and self.config.probe_every:
                lines = [self.tuned(row["name"], seed).result.history for seed in seeds]
                row["curve"] = mean_curve(lines, self.scoring.names(0))
        return record_study(
            path,
            scale,
            [pool.test for pool in self.pools],
            about=[pool.note for pool in self.pools],
            device=self.device,
            seeds=seeds,
            seconds=max(spent, time.perf_counter() - began),
            config={
                "audiomae": asdict(self.mae_config),
                "uamix": asdict(self.config),
                "ways": self.scoring.ways(),
            },
            values=rows,
            notes=[note, *named("failed", self.failures)],
        )
