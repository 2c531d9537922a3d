"""The encoders that the evaluation chapters compare: every method of the book, trained on the same clips.

BYOL-A's CNN, ATST, AudioMAE and uaMix-MAE, each beside its own random start; log-mel and MFCC statistics beside all.
Training hears only the classes that `data.held_out` leaves. With an `output_dir` every run is kept and resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.data.clips import Clips
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.embed import embed_clips
from audiossl_lite.experiments.ablations import clip_embedding
from audiossl_lite.experiments.build import Prepared, TrainTest, make_encoder, prepare, pretrain
from audiossl_lite.experiments.records import config_hash
from audiossl_lite.experiments.settings.encoders import EncoderRuns
from audiossl_lite.experiments.settings.presets import Pretraining, preset
from audiossl_lite.experiments.uamix import VARIANTS, TuningJob
from audiossl_lite.pretrained.shipped import load_shipped
from audiossl_lite.training import forget_checkpoints, load_checkpoint, save_checkpoint

UNTRAINED = ", untrained"
METHODS = ("BYOL-A", "ATST", "AudioMAE", "uaMix-MAE")
TUNED_AS = "uaMix-MAE: "  # and the name of a variant
SHIPPED = "shipped CNN"  # `shipped.load_shipped("cnn_events")`, the same for every seed


@dataclass(frozen=True)
class Network:
    """An encoder with its frontend; `chunk_frames` is the length in frames that ATST was trained on, else 0."""

    name: str
    encoder: nn.Module
    frontend: nn.Module
    chunk_frames: int = 0

    @property
    def trained(self) -> bool:
        """Whether it is more than a random start."""
        return not self.name.endswith(UNTRAINED)

    def embed(self, clips: Clips, device: str | torch.device | None = None) -> Tensor:
        """One embedding per clip, `(n, D)`: what few-shot episodes and t-SNE look at.

        ATST's CLS is averaged over chunks of the length it was trained on; the others take whole clips.

        Where: uaMix-MAE Sec. 4.1; ATST Sec. 3.2; chapter 10
        """
        compute = None
        if self.chunk_frames:
            compute = partial(clip_embedding, self.encoder, chunk_frames=self.chunk_frames)
        return embed_clips(
            self.encoder,
            self.frontend,
            clips.waveforms,
            clips.lengths,
            features=compute,
            device=device,
        )


def joined(parts: Sequence[Clips]) -> tuple[Tensor, Tensor]:
    """The waveforms of several sets, padded to the longest clip: `(n, S)` and lengths `(n,)`."""
    width = max(part.waveforms.shape[1] for part in parts)
    waveforms = [nn.functional.pad(p.waveforms, (0, width - p.waveforms.shape[1])) for p in parts]
    return torch.cat(waveforms), torch.cat([part.lengths for part in parts])


@dataclass
class EncoderSet:
    """Trains the encoders of the book on one set of clips, once, and hands them out by name.

    `pools`: clips to train on and to score on (`experiments_uamix.tuning_pools`). `scale` names the presets that
    `runs` changes. What was trained stays in memory, and under `output_dir` when there is one.

    Where: ATST Table 2; uaMix-MAE Table 2; chapter 10
    """

    pools: Sequence[TrainTest]
    runs: EncoderRuns
    scale: str = "lite"
    device: str = "auto"
    output_dir: str | Path | None = None
    _kept: dict[tuple[str, int], Network] = field(default_factory=dict, repr=False)
    _seconds: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)

    @cached_property
    def job(self) -> TuningJob:
        """AudioMAE and uaMix-MAE: the job of chapter 09 with the steps of this set.

        Where: uaMix-MAE Sec. 4; chapter 09
        """
        return TuningJob(
            self.pools,
            _short_warmup(preset("audiomae", self.scale, {"steps": self.runs.mae_steps})),
            preset(
                "uamix",
                self.scale,
                {"steps": self.runs.tuning_steps, "head_steps": self.runs.head_steps},
            ),
            device=self.device,
            output_dir=Path(self.output_dir) / "uamix" if self.output_dir else None,
        )

    @property
    def heard(self) -> list[Clips]:
        """The clips of training, by pool: all classes but the held-out ones."""
        return self.job.heard

    def config(self, method: str) -> Pretraining:
        """The settings of `"BYOL-A"` or `"ATST"`: the preset of the scale with the steps of this set.

        Where: ATST Sec. 3.1; chapter 10
        """
        name = {"BYOL-A": "byola", "ATST": "atst"}[method]
        changes = {
            "steps": getattr(self.runs, f"{name}_steps"),
            "batch_size": getattr(self.runs, f"{name}_batch_size"),
            "momentum": self.runs.momentum,
            "probe_every": 0,
        }
        return _short_warmup(preset(name, self.scale, changes))

    @cached_property
    def unlabelled(self) -> Clips:
        """The clips of training, all pools together, without labels."""
        return replace(self.heard[0], **_waves_only(self.heard))

    @cached_property
    def _prepared(self) -> dict[str, Prepared]:
        return {m: prepare(self.unlabelled, self.config(m)) for m in ("BYOL-A", "ATST")}

    def network(self, name: str, seed: int) -> Network:
        """One encoder of the set: a method of `METHODS`, or its random start with `", untrained"` after it.

        `"uaMix-MAE: No Mixing"` and the like name other ways of tuning (`uamix_job.VARIANTS`); `SHIPPED` is the encoder
        that comes with the project. Raises KeyError for another name; see `train` for the errors of a run.

        Where: ATST Sec. 3.1; uaMix-MAE Sec. 4; chapter 10
        """
        if name == SHIPPED:
            ready = load_shipped("cnn_events")
            return Network(SHIPPED, ready.encoder, ready.frontend)
        method = name.removesuffix(UNTRAINED)
        known = method in METHODS and name != f"uaMix-MAE{UNTRAINED}"
        if not known and name.removeprefix(TUNED_AS) not in VARIANTS:
            raise KeyError(f"unknown encoder {name!r}; known: {', '.join(self.names())}")
        if (name, seed) not in self._kept:
            if method in ("BYOL-A", "ATST"):
                network = self._byol(name, method, seed)
            else:
                network = self._mae(name, seed)
            network.encoder.cpu().eval()
            self._kept[name, seed] = network
        return self._kept[name, seed]

    def names(self, *, untrained: bool = True) -> list[str]:
        """Names of all encoders, each random start before its method; uaMix-MAE starts from AudioMAE."""
        names = []
        for method in METHODS:
            if untrained and method != "uaMix-MAE":
                names.append(f"{method}{UNTRAINED}")
            names.append(method)
        return names

    def networks(self, seed: int, names: Sequence[str] | None = None) -> Iterator[Network]:
        """All encoders of a seed, or those named, one after the other."""
        for name in names or self.names():
            yield self.network(name, seed)

    def features(
        self, seed: int, clips: Sequence[Clips], names: Sequence[str] | None = None
    ) -> dict[str, list[Tensor]]:
        """Embeddings `(n, D)` of each set of clips by name, every encoder of a seed; baselines come first.

        Where: uaMix-MAE Sec. 4.1; chapter 10
        """
        found = baseline_features(clips)
        for network in self.networks(seed, names):
            found[network.name] = [network.embed(part) for part in clips]
        return found

    @property
    def seconds(self) -> float:
        """Seconds of training so far, resumed parts included."""
        return sum(self._seconds.values())

    def settings(self) -> dict[str, Any]:
        """Everything that decides what the encoders are, for a record."""
        return {
            "encoders": asdict(self.runs),
            "byola": asdict(self.config("BYOL-A")),
            "atst": asdict(self.config("ATST")),
            "audiomae": asdict(self.job.mae_config),
            "uamix": asdict(self.job.config),
        }

    def _byol(self, name: str, method: str, seed: int) -> Network:
        config, prepared = self.config(method), self._prepared[method]
        chunk = round(config.segment_s / prepared.frontend.hop_s) + 1 if method == "ATST" else 0
        if name != method:
            return Network(name, make_encoder(config, seed), prepared.frontend, chunk)
        key = config_hash([asdict(config), seed, [c.fingerprint() for c in self.heard]])
        folder = Path(self.output_dir) / "encoders" / f"{method}_{key}" if self.output_dir else None
        kept = folder / "encoder.pt" if folder else None
        if kept and kept.is_file():
            encoder, state = make_encoder(config, seed), load_checkpoint(kept)
            encoder.load_state_dict(state["encoder"])
            self._seconds[name, seed] = state["seconds"]
            return Network(name, encoder, prepared.frontend, chunk)
        trained = pretrain(
            self.unlabelled,
            config,
            prepared=prepared,
            seed=seed,
            device=self.device,
            output_dir=folder,
            description=f"{name}, seed {seed}",
        )
        self._seconds[name, seed] = trained.result.seconds
        if kept:
            state = {"encoder": trained.encoder.state_dict(), "seconds": trained.result.seconds}
            save_checkpoint(kept, state)
            forget_checkpoints(folder)
        return Network(name, trained.encoder, trained.frontend, chunk)

    def _mae(self, name: str, seed: int) -> Network:
        if name.startswith("uaMix-MAE"):
            variant = name.removeprefix(TUNED_AS) if TUNED_AS in name else self.runs.variant
            run = self.job.tuned(variant, seed)
            spent = run.result.seconds + self.job.head(seed).result.seconds
            self._seconds[name, seed] = spent
            return Network(name, run.encoder, self.job.frontend)
        if name.endswith(UNTRAINED):
            return Network(name, self.job.untrained(seed), self.job.frontend)
        encoder = self.job.pretrained(seed)
        self._seconds[name, seed] = self.job.pretraining_seconds(seed)
        return Network(name, encoder, self.job.frontend)


def baseline_features(clips: Sequence[Clips]) -> dict[str, list[Tensor]]:
    """What needs no training, by name: statistics of log-mel and of MFCC, one `(n, D)` for each set of clips."""
    return {
        name: [features(part.waveforms, part.lengths) for part in clips]
        for name, features in BASELINES.items()
    }


def _short_warmup(config: Any) -> Any:
    """At most a tenth of the steps, however few there are."""
    return replace(config, warmup_steps=min(config.warmup_steps, config.steps // 10))


def _waves_only(parts: Sequence[Clips]) -> dict[str, Any]:
    """The fields of `Clips` for audio without labels, all pools together."""
    waveforms, lengths = joined(parts)
    unlabelled = torch.full((len(waveforms),), -1)
    return {
        "waveforms": waveforms,
        "lengths": lengths,
        "labels": {"none": unlabelled},
        "class_names": {"none": ()},
        "groups": {},
        "names": tuple(f"{i}: {n}" for i, n in enumerate(n for p in parts for n in p.names)),
        "splits": None,
    }
