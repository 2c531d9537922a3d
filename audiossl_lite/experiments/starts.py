"""What a job starts from: the result of the job before it, finished and of the right kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from audiossl_lite.experiments.build_mae import make_mae
from audiossl_lite.experiments.settings.uamix import Tuning
from audiossl_lite.pretrained import load_audiomae
from audiossl_lite.pretrained.shipped import describe_encoder
from audiossl_lite.pretrained.weights import WeightsError, load_state
from audiossl_lite.training import load_checkpoint
from audiossl_lite.training.checkpoint import impossible_values

if TYPE_CHECKING:
    from audiossl_lite.experiments.jobs import Job

ENCODER_FILE = "encoder.safetensors"  # what a finished run leaves


def new_encoder(config: Tuning, frontend: nn.Module, seed: int) -> nn.Module:
    """The encoder that AudioMAE would hand on, untrained."""
    return make_mae(replace(config.start, n_mels=frontend.n_mels), seed).encoder


def find_start(job: Job, previous: str) -> Path | None:
    """Where the job before this one left its result, None for a job that starts from nothing.

    ValueError when there is nothing, saying which job to run first.
    """
    if not job.after:
        return None
    file = " (or a published AudioMAE file)" if job.step == 1 else ""
    wanted = (
        f"{job.name} starts from {job.after}: give its output_dir{file} as the override `start`"
    )
    if not previous:
        raise ValueError(wanted)
    path = Path(previous)
    if not (path / "last.pt").is_file() and not (job.step == 1 and path.is_file()):
        raise ValueError(f"{wanted}; {previous} holds no last.pt. Run {job.after} first")
    if path.is_dir():
        _check_finished(path, job.after, wanted)
    return path


def _check_finished(folder: Path, name: str, wanted: str) -> None:
    """ValueError unless the folder holds a finished run of the job `name`: one that left its encoder."""
    try:
        left = describe_encoder(folder / ENCODER_FILE)["about"].get("job")
    except FileNotFoundError:
        raise ValueError(
            f"{wanted}; the run in {folder} is not finished. Run it to its end first: the same command goes on"
        ) from None
    except (WeightsError, AttributeError) as error:
        raise ValueError(f"{wanted}; {folder} cannot be started from: {error}") from error
    if left != name:
        raise ValueError(f"{wanted}; {folder} holds a run of {left}")


def starting_point(
    job: Job, config: Tuning, frontend: nn.Module, previous: str
) -> tuple[nn.Module | None, dict[str, Tensor] | None]:
    """Encoder and head that the job starts from: those of `previous`, the folder or file of the job before it.

    For uaMix-MAE's step 1 a published AudioMAE file (`.pth`) or the folder of this project's `audiomae` job; for step
    2 the folder of step 1. ValueError when there is none.
    """
    path = find_start(job, previous)
    if path is None:
        return None, None
    if path.is_file():
        return load_audiomae(path).encoder, None
    state = load_checkpoint(path / "last.pt")["method"]
    if spoiled := impossible_values(state):
        raise ValueError(f"{path / 'last.pt'} holds spoiled weights: {'; '.join(spoiled[:3])}")
    encoder = new_encoder(config, frontend, 0)
    weights = {
        key.removeprefix("encoder."): value
        for key, value in state.items()
        if key.startswith("encoder.")
    }
    load_state(encoder, weights, path / "last.pt")
    if job.step == 1:
        return encoder, None
    head = {k: v for k, v in state.items() if k.startswith(("projector.", "predictor.", "queue."))}
    return encoder, head
