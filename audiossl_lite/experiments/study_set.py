"""What chapters 10 to 12 evaluate: encoders trained for them, or those of `python -m audiossl_lite workshop`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from audiossl_lite.common.parameters import SHARED_ENCODERS
from audiossl_lite.data.joined import clips_of_tasks, decoded_in
from audiossl_lite.experiments.build import TrainTest
from audiossl_lite.experiments.build_uamix import tuning_pools
from audiossl_lite.experiments.networks import (
    UNTRAINED,
    Network,
    network_of,
    random_start,
    shipped_network,
)
from audiossl_lite.experiments.real_sounds.recipes import encoder_path
from audiossl_lite.experiments.real_sounds.sounds import described
from audiossl_lite.experiments.real_sounds.task import record_of
from audiossl_lite.experiments.settings.encoders import EncoderRuns
from audiossl_lite.experiments.settings.presets import encoder_configs
from audiossl_lite.experiments.workshop import RUNS, run_of
from audiossl_lite.experiments.zoo import MAE, TUNED_AS, UAMIX, EncoderSet
from audiossl_lite.pretrained import load_encoder

METHODS = ("BYOL-A", "ATST", MAE)  # and uaMix-MAE
MORE = ("CNN, InfoNCE",)  # where the study has trained it
NOTE = "clips that training never heard are scored apart; no recording, sentence or pitch on both sides of an episode"


def evaluation_pools(data_root: str, runs: EncoderRuns, *, seed: int = 0) -> list[TrainTest]:
    """The clips of every task of a study's folder (`out` of `workshop`), or what `tuning_pools` gives."""
    corpus = decoded_in(data_root)
    if corpus is None:
        return tuning_pools(data_root, runs, seed=seed)
    return [TrainTest(clips, clips, NOTE) for clips in clips_of_tasks(corpus)]


def encoder_set(
    pools: Sequence[TrainTest],
    runs: EncoderRuns,
    scale: str = "lite",
    *,
    data_root: str = "",
    **options: Any,
) -> EncoderSet:
    """All methods of the book on these clips; `options`: those of `EncoderSet`.

    Without an `output_dir` what was trained is kept in the folder that AUDIOSSL_ENCODERS names, if it does: chapters
    that are run one after the other train the same encoders once.
    Of a study's folder they are the encoders that it has trained with `runs.n_seeds` seeds; RuntimeError names a method
    that it lacks.
    """
    if decoded_in(data_root) is None:
        if not options.get("output_dir"):
            options["output_dir"] = os.environ.get(SHARED_ENCODERS)
        return EncoderSet(pools, encoder_configs(runs, scale), variant=runs.variant, **options)
    folder, n_seeds = Path(data_root).expanduser(), runs.n_seeds

    def has(name: str) -> bool:
        return all(record_of(folder, run_of(name, seed).name) for seed in range(n_seeds))

    if missing := [name for name in (*METHODS, runs.variant) if not has(name)]:
        raise RuntimeError(
            f"{data_root} lacks {'; '.join(missing)} with {n_seeds} seeds; go on with python -m audiossl_lite "
            f'workshop --out {data_root} --seeds {n_seeds} --only "{";".join(missing)}"'
        )
    names = {name: name for name in (*filter(has, MORE), *METHODS)} | {UAMIX: runs.variant}
    plans = {
        method: folder / "stages" / run_of(n, 0).name / "plan.json" for method, n in names.items()
    }
    configs = {method: json.loads(plan.read_text())["config"] for method, plan in plans.items()}
    own = {"variant": runs.variant, "folder": folder, "n_seeds": n_seeds}
    return StudySet(pools, configs, **own, **options)


@dataclass
class StudySet(EncoderSet):
    """The encoders of a study, the finished runs of `workshop` in a folder, by the names of an `EncoderSet`.

    Nothing is trained.
    """

    folder: Path = Path()
    n_seeds: int = 1

    def network(self, name: str, seed: int) -> Network:
        """See `EncoderSet.network`; FileNotFoundError for a run that the study has not finished."""
        if ready := shipped_network(name):
            return ready
        method = name.removesuffix(UNTRAINED)
        run = self.variant if method == UAMIX else method.removeprefix(TUNED_AS)
        if run not in RUNS:
            raise KeyError(f"unknown encoder {name!r}; known: {', '.join(RUNS)}")
        if name == method:
            return network_of(name, load_encoder(self._file(run, seed)))
        path = self._file(run, 0)  # a start has the frontend of the first seed's run
        return replace(network_of(name, load_encoder(path)), encoder=random_start(path, seed))

    def _file(self, run: str, seed: int) -> Path:
        """The encoder of a run; FileNotFoundError says how to train it."""
        path = encoder_path(self.folder, run_of(run, seed).name)
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.folder} has no {run} of seed {seed}; train it with python -m audiossl_lite workshop "
                f'--out {self.folder} --only "{run}" --seeds {seed + 1}'
            )
        return path

    def settings(self) -> dict[str, Any]:
        """The settings of the runs, for a record."""
        return dict(self.configs) | ({"variant": self.variant} if UAMIX in self.configs else {})

    def about_training(self) -> list[str]:
        """For a record: what the study holds, and how much of it training hears."""
        return [f"the study holds {described(decoded_in(self.folder))}"] * len(self.pools)

    @property
    def seconds(self) -> float:
        """Seconds that the runs took."""
        seeds = range(self.n_seeds)
        names = [self.variant if name == UAMIX else name for name in self.configs]
        runs = [record_of(self.folder, run_of(n, s).name) for n in names for s in seeds]
        return sum(run["training"]["seconds"] for run in runs)

    def trained(self, method: str, seed: int) -> nn.Module:
        """Not of a study: KeyError."""
        raise KeyError(
            f"{method} of a study is read, not trained; ask for network({method!r}, {seed})"
        )
