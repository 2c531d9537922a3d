"""From settings to a trained encoder: the pieces of the library put together, without a notebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite import encoders
from audiossl_lite.data.clips import Clips
from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.sounds import synthetic_clips
from audiossl_lite.evaluation import embed_clips, few_shot_accuracy
from audiossl_lite.evaluation.few_shot import FewShotResult
from audiossl_lite.experiments.settings.presets import Pretraining
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend
from audiossl_lite.methods import BYOL, Contrastive
from audiossl_lite.training import (
    TrainConfig,
    TrainingResult,
    forget_checkpoints,
    load_checkpoint,
    save_checkpoint,
    train,
)
from audiossl_lite.views.segments import ViewMaker

OUTCOME = ("history", "seconds", "precision")  # of a finished run, beside its weights


@dataclass
class Trained:
    """A trained method with what is needed to use it."""

    method: nn.Module
    frontend: nn.Module
    config: Any
    result: TrainingResult

    @property
    def encoder(self) -> nn.Module:
        """The network that the method keeps, the first of its `encoders`: of BYOL the teacher."""
        return next(iter(self.method.encoders.values()))


@dataclass
class Parts:
    """What the training loop takes: the method, its views, and the settings of the run."""

    method: nn.Module
    views: nn.Module
    config: TrainConfig

    @property
    def encoder(self) -> nn.Module:
        """The network that the method keeps, as `Trained.encoder`."""
        return next(iter(self.method.encoders.values()))


FRONTENDS = {
    "atst_official": lambda: ATSTFrontend("official"),
    "atst_paper": lambda: ATSTFrontend("paper"),
    "byola": BYOLAFrontend,
}


def plain_frontend(name: str) -> nn.Module:
    """The frontend of a preset with the published constants; KeyError names those there are."""
    if name not in FRONTENDS:
        raise KeyError(f"unknown frontend {name!r}; known: {', '.join(FRONTENDS)}")
    return FRONTENDS[name]()


def make_frontend(name: str, waveforms: Tensor, lengths: Tensor | None = None) -> nn.Module:
    """The frontend of a preset, its normalisation fitted to (at most 256 of) these clips `(n, S)`.

    `lengths (n,)`: valid samples; padding does not count.
    """
    every = -(-len(waveforms) // 256)
    some = None if lengths is None else lengths[::every]
    return plain_frontend(name).fit(waveforms[::every], some)


def chosen(config: Any, *names: str) -> dict[str, Any]:
    """The settings of these names."""
    return {name: getattr(config, name) for name in names}


def make_encoder(config: Pretraining, seed: int = 0) -> nn.Module:
    """A fresh encoder whose initial weights depend on the seed alone."""
    if config.encoder not in encoders.__all__:
        raise KeyError(f"unknown encoder {config.encoder!r}; known: {', '.join(encoders.__all__)}")
    options = {"drop_path": config.drop_path} if config.encoder.startswith("atst") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(encoders, config.encoder)(**options)


def make_method(config: Pretraining, seed: int = 0) -> nn.Module:
    """Encoder and heads of a preset, initialised from the seed."""
    encoder = make_encoder(config, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        heads = chosen(config, "hidden_dim", "projection_dim")
        if config.method == "contrastive":
            return Contrastive(encoder, **heads, temperature=config.temperature)
        if config.method != "byol":
            raise KeyError(f"unknown method {config.method!r}; known: byol, contrastive")
        names = ("head_bias", "reduction", "joint_views", "predictor", "stop_gradient")
        return BYOL(encoder, **heads, **chosen(config, *names))


def train_config(config: Any, seed: int, **others: Any) -> TrainConfig:
    """The part of a preset that the training loop reads; `others` are settings of the loop that come before it."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    shared = {name: value for name, value in vars(config).items() if name in names}
    return TrainConfig(**shared | {"seed": seed} | others)


def make_views(config: Pretraining, frontend: nn.Module) -> ViewMaker:
    """The views of a preset: segments of `config.segment_s`, mixup, resized crop, normalisation."""
    frames = round(config.segment_s / frontend.hop_s)
    size = frames + 1 if config.crop_from == "spectrogram" else frames * 160
    names = (
        "segments", "crop_from", "mixup", "resized_crop", "memory_size", "shared_memory",
        "normalise_views",
    )  # fmt: skip
    return ViewMaker(size, frontend=frontend, **chosen(config, *names))


def trained_frames(config: Any, frontend: nn.Module) -> int:
    """Frames of what an encoder with these settings is trained on; 0 for a CNN, which takes any length.

    Longer clips are embedded in pieces of that many (`encoders.in_chunks`).

    Where: ATST Sec. 3.3; chapter 05
    """
    if hasattr(config, "n_frames"):
        return config.n_frames
    is_atst = config.encoder.startswith("atst")
    return round(config.segment_s / frontend.hop_s) + 1 if is_atst else 0


@dataclass(frozen=True)
class Prepared:
    """What the training loop reads: a fitted frontend, waveforms or spectrograms, and their valid lengths."""

    frontend: nn.Module
    data: Tensor
    lengths: Tensor


@torch.no_grad()
def prepare(clips: Clips, config: Pretraining) -> Prepared:
    """Fit the frontend and, for `crop_from="spectrogram"`, compute the spectrogram of every clip `(n, T, F)` once.

    Runs that share clips, frontend and `crop_from` can share the result.

    Where: ATST Sec. 2.2.1; chapter 05
    """
    frontend = make_frontend(config.frontend, clips.waveforms, clips.lengths)
    if config.crop_from != "spectrogram":
        return Prepared(frontend, clips.waveforms, clips.lengths)
    spectrograms = torch.cat([frontend(part) for part in clips.waveforms.split(64)])
    return Prepared(frontend, spectrograms, frontend.n_frames(clips.lengths))


def joined_clips(
    pairs: Sequence[tuple[Tensor, Tensor]], pad_value: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Clips `(n, T, ...)` with their lengths `(n,)` of several sets as one, padded to the longest."""
    width = max(data.shape[1] for data, _ in pairs)
    padded = []
    for data, _ in pairs:
        room = data.new_full((len(data), width - data.shape[1], *data.shape[2:]), pad_value)
        padded.append(torch.cat([data, room], dim=1))
    return torch.cat(padded), torch.cat([lengths for _, lengths in pairs])


def pretraining_parts(config: Pretraining, frontend: nn.Module, seed: int = 0) -> Parts:
    """Method, views and run of a preset."""
    return Parts(
        make_method(config, seed), make_views(config, frontend), train_config(config, seed)
    )


def train_parts(
    parts: Parts,
    prepared: Prepared,
    config: Any,
    *,
    probe: Callable[[nn.Module, nn.Module], dict[str, float]] | None = None,
    output_dir: str | Path | None = None,
    slim: bool = False,
    **options: Any,
) -> Trained:
    """Train a method of any kind on prepared clips, without looking at their labels.

    `probe(encoder, frontend)` returns numbers for the history every `probe_every` steps. `slim`: a finished run keeps
    weights and history alone in its `output_dir`, no optimiser and no memory of views, and is read from there.
    `options`: `device`, `description`, `stop_after`, as `train` takes them; see there for resuming and for errors.
    """
    weights = Path(output_dir) / "weights.pt" if slim and output_dir else None
    if weights and weights.is_file():
        return Trained(parts.method, prepared.frontend, config, _read_result(weights, parts))
    result = train(
        parts.method,
        parts.views,
        prepared.data,
        parts.config,
        lengths=prepared.lengths,
        probe=(lambda _: probe(parts.encoder, prepared.frontend)) if probe else None,
        output_dir=output_dir,
        **options,
    )
    if weights:
        more = {name: getattr(result, name) for name in OUTCOME}
        save_checkpoint(weights, {"method": parts.method.state_dict()} | more)
        forget_checkpoints(weights.parent)
    return Trained(parts.method, prepared.frontend, config, result)


def _read_result(weights: Path, parts: Parts) -> TrainingResult:
    state = load_checkpoint(weights)
    parts.method.load_state_dict(state["method"])
    outcome = {name: state[name] for name in OUTCOME}
    return TrainingResult(parts.method, started_at=parts.config.steps, **outcome)


def pretrain(
    clips: Clips,
    config: Pretraining,
    *,
    prepared: Prepared | None = None,
    seed: int = 0,
    description: str = "pretraining",
    **options: Any,
) -> Trained:
    """Pretrain on clips; `prepared` saves computing `prepare(clips, config)` again, `options` as in `train_parts`.

    Where: ATST Sec. 3.1; BYOL-A Sec. 4.1; chapter 05
    """
    prepared = prepared or prepare(clips, config)
    parts = pretraining_parts(config, prepared.frontend, seed)
    return train_parts(parts, prepared, config, description=description, **options)


def few_shot_of(
    encoder: nn.Module,
    frontend: nn.Module,
    clips: Clips,
    *,
    device: str | torch.device | None = None,
    **protocol,
) -> FewShotResult:
    """Few-shot accuracy of an encoder on labelled clips, support and query from different groups where there are any.

    Where: uaMix-MAE Sec. 4.1; chapter 10
    """
    embedded = embed_clips(encoder, frontend, clips.waveforms, clips.lengths, device=device)
    labels, groups = clips.labels[clips.task], clips.groups.get(clips.task)
    return few_shot_accuracy(embedded, labels, groups=groups, **protocol)


@dataclass(frozen=True)
class TrainTest:
    """Clips to pretrain on, clips to score on, and one line that says how the two relate."""

    train: Clips
    test: Clips
    note: str


def train_and_test(
    data_root: str, config: Pretraining, *, seed: int = 0, pool: str = "event"
) -> TrainTest:
    """Clips for a self-supervised run and for its score.

    Embedded sounds: two disjoint sets of new clips of the same classes. Real audio: all clips serve both, the labels
    only the score; support and query are kept apart by group (source recording, speaker).
    """
    if data_root in ("", "synthetic"):
        train, test = (
            synthetic_clips(
                pool,
                clips_per_class=config.clips_per_class,
                seed=2 * seed + part,
                duration_s=config.clip_s,
            )
            for part in (0, 1)
        )
        return TrainTest(
            train, test, "scored on new clips of the same classes, never heard in training"
        )
    clips = load_clips(data_root, pool=pool, seed=seed)
    return TrainTest(
        clips,
        clips,
        "scored on the clips it was trained on without labels, source-disjoint episodes",
    )
