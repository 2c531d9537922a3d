"""The encoders of a study: every method trained on the same clips, once, scored on the same episodes, by name.

Each method stands beside its own random start, log-mel and MFCC statistics beside all. Training hears only the classes
that `data.held_out` leaves. With an `output_dir` every run is resumed, and read once it is finished.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
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
from audiossl_lite.experiments import networks
from audiossl_lite.experiments.build import (
    Parts,
    Prepared,
    Trained,
    TrainTest,
    joined_clips,
    make_encoder,
    prepare,
    train_parts,
    trained_frames,
)
from audiossl_lite.experiments.build_mae import (
    holding,
    make_mae,
    make_mae_frontend,
    prepare_mae,
    starting_parts,
)
from audiossl_lite.experiments.build_uamix import tuning_parts
from audiossl_lite.experiments.networks import UNTRAINED, Network, baseline_features
from audiossl_lite.experiments.settings.presets import Pretraining
from audiossl_lite.experiments.settings.uamix import VARIANTS, Tuning
from audiossl_lite.experiments.studies import Finished
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.pretrained import load_audiomae

MAE, UAMIX = "AudioMAE", "uaMix-MAE"
TUNED_AS = f"{UAMIX}: "  # and the name of a variant


@dataclass
class EncoderSet:
    """Trains encoders on one set of clips, and hands them out by name; `finished` holds what was trained and scored.

    `pools`: clips to train on and to score on (`build_uamix.tuning_pools`). `configs`: settings by method; uaMix-MAE
    starts from AudioMAE, and `variant` is its way of mixing where its name says none. `n_episodes`: of each score.
    `failures` names what could not be trained.

    Where: ATST Table 2; uaMix-MAE Table 2; chapter 10
    """

    pools: Sequence[TrainTest]
    configs: dict[str, Any]
    variant: str = "T-CutMix, rule paper"
    device: str = "auto"
    output_dir: str | Path | None = None
    n_episodes: int = 600
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.finished = Finished(Path(self.output_dir) / "encoders" if self.output_dir else None)

    def changed(self, method: str, config: Any) -> EncoderSet:
        """The same set with other settings for one method; it shares what this one has trained so far."""
        other = copy.copy(self)
        other.configs = self.configs | {method: config}
        other.finished = copy.copy(self.finished)
        other.finished.runs = dict(self.finished.runs)
        return other

    @cached_property
    def heard(self) -> list[Clips]:
        """The clips of training, by pool: all classes but the held-out ones."""
        return [pool.train.subset(split_heard(pool.train)[0]) for pool in self.pools]

    @cached_property
    def scored(self) -> list[Clips]:
        """The clips that everything is scored on, by pool."""
        return [pool.test for pool in self.pools]

    @cached_property
    def scoring(self) -> Scoring:
        """The episodes that everything is scored on."""
        return Scoring(self.scored, self.n_episodes)

    @cached_property
    def unlabelled(self) -> Clips:
        """The clips of training, all pools together, padded to the longest, without labels."""
        waveforms, lengths = joined_clips([(part.waveforms, part.lengths) for part in self.heard])
        names = tuple(f"clip {i}" for i in range(len(waveforms)))
        no_labels = torch.full((len(waveforms),), -1)
        return Clips(waveforms, lengths, {"none": no_labels}, {"none": ()}, {}, names)

    @cached_property
    def baselines(self) -> Scores:
        """The scores of what needs no training."""
        return self.scoring.baselines()

    def about_training(self) -> list[str]:
        """For a record: how many classes of each pool training heard."""
        return [
            f"training heard {len(part.labels[part.task].unique())} {part.task} classes"
            for part in self.heard
        ]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, resumed parts included."""
        runs = self.finished.runs.values()
        return sum(run.result.seconds for run in runs if isinstance(run, Trained))

    def settings(self) -> dict[str, Any]:
        """Everything that decides what the encoders are, for a record."""
        configs = {method: asdict(config) for method, config in self.configs.items()}
        return configs | ({"variant": self.variant} if UAMIX in configs else {})

    def names(self, *, untrained: bool = True) -> list[str]:
        """Names of all encoders, each random start before its method; uaMix-MAE starts from AudioMAE."""
        names = []
        for method in self.configs:
            if untrained and method != UAMIX:
                names.append(f"{method}{UNTRAINED}")
            names.append(method)
        return names

    def config(self, method: str) -> Any:
        """The settings of a method, `"uaMix-MAE: No Mixing"` and the like included; KeyError for another name."""
        known = dict(self.configs)
        if tuning := known.pop(UAMIX, None):
            known |= {f"{TUNED_AS}{v}": replace(tuning, **VARIANTS[v]) for v in VARIANTS}
        name = f"{TUNED_AS}{self.variant}" if method == UAMIX else method
        if name not in known:
            raise KeyError(f"unknown encoder {name!r}; known: {', '.join(known)}")
        return known[name]

    def network(self, name: str, seed: int) -> Network:
        """One encoder of the set: a method, or its random start with `", untrained"` after it.

        `"uaMix-MAE: No Mixing"` and the like name other ways of tuning (`VARIANTS`); `SHIPPED_ENCODERS` are those
        that come with the project. Raises KeyError for another name; see `train` for the errors of a run.
        """
        if ready := networks.shipped_network(name):
            return ready
        method = name.removesuffix(UNTRAINED)
        if name == f"{UAMIX}{UNTRAINED}":
            raise KeyError(f"unknown encoder {name!r}; it starts from {MAE}")
        config = self.config(method)
        frontend = self.frontend(config)
        if name != method:
            encoder = self._untrained(config, seed)
        elif method == MAE and self._checkpoint:
            encoder = self._published.encoder
        else:
            encoder = self.trained(method, seed).encoder
        return Network(name, encoder, frontend, trained_frames(config, frontend))

    def networks(self, seed: int) -> Iterator[Network]:
        """All encoders of a seed, one after the other."""
        return (self.network(name, seed) for name in self.names())

    def features(self, seed: int, clips: Sequence[Clips]) -> dict[str, list[Tensor]]:
        """Embeddings `(n, D)` of each set of clips by name, every encoder of a seed; baselines come first."""
        embedded = {n.name: [n.embed(part) for part in clips] for n in self.networks(seed)}
        return baseline_features(clips) | embedded

    def score(
        self, name: str, seed: int, embed: Callable[[], Sequence[Tensor]] | None = None, **how: Any
    ) -> dict[str, np.ndarray]:
        """Accuracy of every episode `(1, episodes)` by column, of an encoder's embeddings, computed once.

        `embed` gives other features `(n, D)` of each pool; `how` says in which way they differ.
        """
        method = name.removesuffix(UNTRAINED)
        settings = [name, seed, *self._decides(method), how, self.n_episodes]
        settings += [clips.fingerprint() for clips in self.scored]

        def compute(_: Path | None) -> dict[str, Any]:
            features = embed() if embed else map(self.network(name, seed).embed, self.scored)
            scores = self.scoring.score(list(features))
            return {"scores": {column: values.tolist() for column, values in scores.items()}}

        scores = self.finished("score", settings, compute)["scores"]
        return {column: np.array(values) for column, values in scores.items()}

    @property
    def _checkpoint(self) -> str:
        """The published AudioMAE file that uaMix-MAE starts from, if any."""
        return self.configs[UAMIX].checkpoint if UAMIX in self.configs else ""

    @cached_property
    def _published(self):
        return load_audiomae(self._checkpoint, n_frames=self.configs[UAMIX].n_frames)

    @cached_property
    def _fingerprints(self) -> list[str]:
        return [clips.fingerprint() for clips in self.heard]

    @cached_property
    def _filter_bank(self) -> AudioMAEFrontend:
        if self._checkpoint:
            return self._published.frontend
        config = self.configs[MAE]
        bank = make_mae_frontend(config, self.heard[0])
        lengths = torch.cat([clips.lengths for clips in (*self.heard, *self.scored)])
        return holding(bank, lengths, at_least=config.n_frames)

    def frontend(self, config: Any) -> nn.Module:
        """The frontend of training and scoring with these settings."""
        if isinstance(config, Pretraining):
            return self.prepared(config).frontend
        return self._filter_bank

    def prepared(self, config: Any) -> Prepared:
        """What training with these settings reads, of all pools; runs that can share it do."""
        once = self.finished.once
        if isinstance(config, Pretraining):
            key = (config.frontend, config.crop_from)
            return once(key, lambda: prepare(self.unlabelled, config))
        bank = self._filter_bank

        def make() -> Prepared:
            if isinstance(config, Tuning):
                pairs = [spectrograms(bank, c.waveforms, c.lengths) for c in self.heard]
            else:
                parts = [prepare_mae(clips, config, bank) for clips in self.heard]
                pairs = [(part.data, part.lengths) for part in parts]
            return Prepared(bank, *joined_clips(pairs, bank.pad_value))

        return once((type(config), bank), make)

    def _decides(self, method: str) -> list[Any]:
        """What the weights of a method depend on, but for the seed."""
        config = self.config(method)
        start = [asdict(self.configs[MAE])] if isinstance(config, Tuning) else []
        return [asdict(config), *start, self._checkpoint, self._fingerprints]

    def _untrained(self, config: Any, seed: int) -> nn.Module:
        """A random start of the size that is trained, or tuned."""
        if isinstance(config, Pretraining):
            return make_encoder(config, seed)
        if not self._checkpoint:
            return make_mae(config, seed).encoder
        like = self._published.encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads = like.blocks[0].attn.heads
            return AudioMAEEncoder(like.embed_dim, len(like.blocks), heads, n_frames=like.n_frames)

    def head(self, seed: int) -> Trained:
        """Step 1 of uaMix-MAE: projector and predictor, on the frozen encoder; all variants start from it.

        Where: uaMix-MAE Sec. 3; chapter 09
        """
        # Step 1 mixes nothing: the settings of the mixtures are not part of its name.
        plain = replace(self.configs[UAMIX], mixing="none", rule="paper", symmetric=False, steps=1)
        settings = [asdict(plain), asdict(self.configs[MAE]), self._fingerprints, seed]

        def parts() -> Parts:
            encoder = self.network(MAE, seed).encoder
            return tuning_parts(encoder, plain, self._filter_bank, step=1, seed=seed)

        return self._trained("head", settings, plain, parts, f"step 1: head, seed {seed}")

    def trained(self, method: str, seed: int) -> Trained:
        """The run of a method, trained at the first call and then kept; see `train` for errors."""
        config = self.config(method)

        def parts() -> Parts:
            frontend = self.frontend(config)
            if not isinstance(config, Tuning):
                return starting_parts(config, frontend, seed)
            first = self.head(seed)
            head = first.method.head_state()
            return tuning_parts(first.encoder, config, frontend, step=2, seed=seed, head=head)

        kind, settings = type(config).__name__.lower(), [*self._decides(method), seed]
        return self._trained(kind, settings, config, parts, f"{method}, seed {seed}")

    def _trained(
        self, kind: str, settings: Any, config: Any, parts: Callable[[], Parts], description: str
    ) -> Trained:
        """The run that `settings` decide, of this process or an earlier one; only tuning is probed."""
        key = self.finished.key(kind, settings)
        probed = isinstance(config, Tuning) and config.probe_every

        def run() -> Trained:
            with self.finished.alone(key):
                trained = train_parts(
                    parts(),
                    self.prepared(config),
                    config,
                    probe=self._probe if probed else None,
                    slim=True,
                    device=self.device,
                    output_dir=self.finished.folder_of(key),
                    description=description,
                )
            trained.method.cpu().eval()
            return trained

        return self.finished.once(key, run)

    def _probe(self, encoder: nn.Module, frontend: nn.Module) -> dict[str, float]:
        """Accuracy on the first pool along the run, by column."""
        frames = trained_frames(self.configs[UAMIX], frontend)
        features = Network("", encoder, frontend, frames).embed(self.scored[0])
        return {name: float(v.mean()) for name, v in self.scoring.score([features]).items()}
