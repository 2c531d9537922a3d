"""What the size of NNCLR's queue does on real sounds, beside own views (InfoNCE), over seeds.

`python -m audiossl_lite.experiments.queue_sizes --data runs/workshop`: the smallest CNN, on the events of the corpus
that `python -m audiossl_lite workshop` decoded. The same command goes on after an interruption.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiossl_lite.common.commands import CommandParser
from audiossl_lite.common.ranges import ranged
from audiossl_lite.data.corpus import held_out
from audiossl_lite.data.joined import Corpus, waveforms_of
from audiossl_lite.data.resident import Joined, spectrograms_of
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.experiments.build import (
    Parts,
    Prepared,
    make_encoder,
    make_frontend,
    make_views,
    train_config,
    train_parts,
)
from audiossl_lite.experiments.real_sounds.scores import draw_scores, embed_all, embed_network
from audiossl_lite.experiments.real_sounds.sounds import described, study_corpus
from audiossl_lite.experiments.records import device_name, record, record_row
from audiossl_lite.experiments.settings.presets import Pretraining, preset
from audiossl_lite.experiments.studies import Finished, tell_record
from audiossl_lite.experiments.workshop import SHARED_CORES
from audiossl_lite.methods.uamix import NNCLRTuning

RECORD, SCALE = "queue_sizes", "workshop"
# Data sets by how their names begin: whose classes are held out to score on, and all whose events are trained on.
SCORED = ("ESC-50", "embedded event")
EVENTS = (*SCORED, "UrbanSound8K", "Kitchen20")
SIZES = (64, 512, 2048)
# A dozen runs take some minutes of one core; the largest queue is full after 64 steps.
SETTINGS: dict[str, Any] = {
    "encoder": "byola_tiny", "crop_from": "spectrogram", "segments": "two", "segment_s": 0.63,
    "steps": 160, "batch_size": 32, "learning_rate": 2e-3, "warmup_steps": 16, "schedule": "cosine",
    "final_learning_rate": 1e-6, "hidden_dim": 256, "projection_dim": 64, "memory_size": 512,
    "precision": "auto", "log_every": 5, "save_every": 80, "on_collapse": "continue",
}  # fmt: skip
OWN, UNTRAINED = "own view", "untrained encoder"
MONITORS = ("right class", "same recording")
CPU = torch.device("cpu")


class NumberedViews(nn.Module):
    """Two views of each clip with what `NNCLRTuning` asks beside them: unit labels, ids to avoid, ids."""

    def __init__(self, views: nn.Module) -> None:
        super().__init__()
        self.views = views

    def forward(
        self, x: Tensor, generator: torch.Generator, lengths: Tensor, *, ids: Tensor
    ) -> tuple[Tensor, ...]:
        return *self.views(x, generator, lengths), torch.eye(len(ids)), ids[:, None], ids


class Watched(NNCLRTuning):
    """NNCLR of a whole network that monitors whose neighbours are found; with `k=0` whose would be.

    `kin (2, n)`: class and recording of each clip, which only the monitors see.
    """

    def __init__(self, encoder: nn.Module, kin: Tensor, **options: Any) -> None:
        super().__init__(encoder, trainable="all", head_decay_scale=1.0, **options)
        self.kin = kin

    def forward(self, *batch: Tensor, monitors: bool = True) -> dict[str, Tensor]:
        out = super().forward(*batch, monitors=monitors)
        if monitors:
            same = (self.kin[:, self.owners] == self.kin[:, batch[4]]) & (self.owners >= 0)
            out |= dict(zip(MONITORS, same.float().mean(1), strict=True))
        return out

    @torch.no_grad()
    def _lookup(self, embedding: Tensor, avoid: Tensor) -> Tensor:
        nearest = self.queue.neighbours(self.projector(embedding), avoid)
        self.owners = self.queue.ids[(nearest @ self.queue.vectors.T).argmax(1)]
        return super()._lookup(embedding, avoid)


class Study:
    """The events of a corpus that training hears, their `kin`, and episodes of the classes that training never hears.

    Raises ValueError for a corpus whose events allow no episode, or none of whose events training hears.
    """

    def __init__(self, corpus: Corpus, config: Pretraining, n_episodes: int = 600) -> None:
        self.corpus, self.config, sounds = corpus, config, list(corpus.sounds)
        scored, events = (
            torch.tensor([sound.source.startswith(names) for sound in sounds])
            for names in (SCORED, EVENTS)
        )
        places, heard = scored.nonzero().flatten(), (events & ~held_out(sounds)).nonzero().flatten()
        self.scores = draw_scores([sounds[i] for i in places.tolist()], n_episodes, heard=False)
        if not self.scores.columns:
            raise ValueError(f"no events to score on: {self.scores.left_out or 'there are none'}")
        if not len(heard):
            raise ValueError("no events to train on: all that are there are held out")
        self.test = waveforms_of(corpus, CPU, places[self.scores.used])
        self.heard = waveforms_of(corpus, CPU, heard, at_least_s=config.segment_s)
        some = torch.arange(0, len(heard), -(-len(heard) // 256))
        self.frontend = make_frontend(config.frontend, *self.heard.batch(some))
        kin = [[(s.source, s.value(c)) for s in sounds] for c in ("label", "group")]
        self.kin = torch.from_numpy(
            np.stack([np.unique(np.array(k), axis=0, return_inverse=True)[1].ravel() for k in kin])
        )[:, heard]

    @cached_property
    def clips(self) -> Joined:
        """The spectrograms that are trained on, computed for the first run that asks."""
        return spectrograms_of(self.heard, self.frontend)

    def score(self, encoder: nn.Module) -> dict[str, float]:
        """Accuracy in percent by column, on the same episodes for all."""
        whole = embed_network(encoder.eval(), self.frontend, self.test, chunk_frames=0)
        return self._means(whole)

    def baselines(self) -> dict[str, dict[str, float]]:
        """The same of what needs no training."""
        return {n: self._means(embed_all(self.test, f)) for n, f in BASELINES.items()}

    def _means(self, features: Tensor) -> dict[str, float]:
        return {column: float(v.mean()) for column, v in self.scores.of(features).items()}

    def chance(self) -> dict[str, float]:
        """How often another clip, drawn at random, is of the same class or recording."""
        n = self.kin.shape[1]
        pairs = (self.kin[:, :, None] == self.kin[:, None]).sum((1, 2)) - n
        return dict(zip(MONITORS, (pairs / (n * (n - 1))).tolist(), strict=True))

    def start(self, seed: int, folder: Path | None = None) -> dict[str, Any]:
        """The `scores` that every run of a seed starts from."""
        return {"scores": self.score(make_encoder(self.config, seed))}

    def run(self, k: int, size: int, seed: int, folder: Path | None) -> dict[str, Any]:
        """Train with a queue of this size: `scores`, and `history` with the monitors of every logged step."""
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            method = Watched(
                make_encoder(config, seed), self.kin, k=k, queue_size=size, hidden_dim=config.hidden_dim,
                predictor_dim=config.hidden_dim, projection_dim=config.projection_dim,
                temperature=config.temperature, generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip
        views = NumberedViews(make_views(config, self.frontend))
        trained = train_parts(
            Parts(method, views, train_config(config, seed)),
            Prepared(self.frontend, self.clips, self.clips.lengths),
            config, output_dir=folder, slim=True, device="cpu", description=f"k = {k}, queue of {size}, seed {seed}",
        )  # fmt: skip
        names = ("step", "loss", "rank", *MONITORS)
        history = [{name: row[name] for name in names} for row in trained.result.history]
        return {"scores": self.score(trained.encoder), "history": history}


def record_sizes(
    path: str | Path, study: Study, seeds: Sequence[int], folder: Path | None = None
) -> dict[str, Any]:
    """Train what is not yet trained, every row of a seed before the next seed, and write the record.

    A run's row has the size of its `queue`, and `history`: the step, and by monitor one value a seed. Raises what
    `train` raises.
    """
    finished, config = Finished(folder), study.config
    rows = {OWN: (0, max(SIZES))} | {f"queue of {size:,}": (1, size) for size in SIZES}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in (UNTRAINED, *rows)}
    for seed in seeds:
        key = {"config": asdict(config), "data": study.corpus.key, "seed": seed}
        results[UNTRAINED].append(finished("start", key, partial(study.start, seed)))
        for name, (k, size) in rows.items():
            run = partial(study.run, k, size, seed)
            results[name].append(finished("run", key | {"k": k, "queue": size}, run))
    results |= {n: [{"scores": score}] for n, score in study.baselines().items()}
    scores = {
        name: {c: np.array([[one["scores"][c]] for one in by_seed]) for c in study.scores.ways()}
        for name, by_seed in results.items()
    }
    values = [record_row(name, row, scores[UNTRAINED]) for name, row in scores.items()]
    for row in values:
        if row["name"] in rows:
            histories = zip(*(one["history"] for one in results[row["name"]]), strict=True)
            row["queue"] = rows[row["name"]][1]
            row["history"] = [
                {"step": lines[0]["step"]}
                | {name: [line[name] for line in lines] for name in ("loss", "rank", *MONITORS)}
                for lines in histories
            ]
    return record(
        path,
        experiment=RECORD,
        scale=SCALE,
        data=f"{described(study.corpus)}; of these the {len(study.heard)} clips of events",
        data_fingerprint=study.corpus.key,
        device=device_name("cpu"),
        seeds=list(seeds),
        seconds=finished.seconds,
        config=asdict(config) | {"ways": study.scores.ways(), "chance": study.chance()},
        values=values,
        note=f"{config.steps} steps of {config.batch_size} clips; 5-way 1-shot accuracy. {SHARED_CORES}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, record and say where the record is; status 2 for a wrong request."""
    parser = CommandParser(
        prog="python -m audiossl_lite.experiments.queue_sizes",
        description="NNCLR with queues of several sizes beside InfoNCE, over seeds: some minutes of one core.",
    )
    parser.add_argument(
        "--data", required=True, help="the folder that `audiossl_lite workshop` made"
    )
    parser.add_argument("--out", default="runs/queue", help="the record, and what is finished")
    parser.add_argument("--seeds", type=ranged("n_seeds", int), default=5, help="default: 5")
    asked = parser.parse_args(arguments)
    path = Path(asked.out) / "records" / f"{RECORD}.json"

    def run() -> None:
        study = Study(study_corpus(asked.data), preset("byola", SCALE, SETTINGS))
        record_sizes(path, study, range(asked.seeds), Path(asked.out) / "rows")

    return tell_record("queue_sizes", path, run)


if __name__ == "__main__":
    sys.exit(main())
