"""The full runs of both papers, and EAT's, as jobs: which settings, which data, which encoder to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import rank, usable_device
from audiossl_lite.common.parameters import user_path
from audiossl_lite.data.clips import tell_left_out
from audiossl_lite.data.recipes import recipe_frontend
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.experiments.build import (
    Parts,
    plain_frontend,
    prepare,
    train_and_test,
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
from audiossl_lite.experiments.records import device_name, record
from audiossl_lite.experiments.settings.jobs import Job, find_job
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.settings.uamix import Tuning
from audiossl_lite.frontends import AudioMAEFrontend
from audiossl_lite.pretrained import load_audiomae
from audiossl_lite.pretrained.shipped import (
    describe_encoder,
    is_ours,
    load_encoder,
    save_encoder,
    shipped_encoders,
)
from audiossl_lite.pretrained.weights import WeightsError, load_state
from audiossl_lite.training import Compute, TrainingResult, load_checkpoint, train
from audiossl_lite.training.checkpoint import check_free, impossible_values
from audiossl_lite.training.sources import ClipSource, InMemory

ENCODER_FILE = "encoder.safetensors"  # what a finished run leaves


def make_parts(
    job: Job,
    config: Any,
    frontend: nn.Module,
    *,
    seed: int = 0,
    start: nn.Module | None = None,
    head: dict[str, Tensor] | None = None,
) -> Parts:
    """Method, views and run settings of a job with the settings `config` (`preset(job.experiment, scale)`).

    `start`: the encoder that uaMix-MAE tunes (a new one when absent: good for measuring only); `head`: the head of
    step 1 that step 2 takes over.
    """
    if job.step:
        encoder = start if start is not None else new_encoder(config, frontend, seed)
        return tuning_parts(encoder, config, frontend, step=job.step, seed=seed, head=head)
    return starting_parts(config, frontend, seed)


def default_frontend(job: Job, config: Any) -> nn.Module:
    """The frontend of a job with the published constants, nothing fitted."""
    if job.store == "audiomae":
        masked = job.network(config)
        return AudioMAEFrontend(masked.n_frames, n_mels=masked.n_mels)
    return plain_frontend(config.frontend)


def synthetic_source(
    job: Job, config: Any, n_clips: int, seed: int = 0
) -> tuple[ClipSource, nn.Module]:
    """Random clips in the shapes of the job, and its frontend: for measuring what a step costs."""
    frontend = default_frontend(job, config)
    generator = torch.Generator().manual_seed(seed)
    if reads_waveforms(job, config):
        data = 0.1 * torch.randn(n_clips, round(clip_s(job, config) * 16_000), generator=generator)
    else:
        frames = (
            config.n_frames
            if job.store == "audiomae"
            else round(clip_s(job, config) / frontend.hop_s) + 1
        )
        n_mels = frontend.n_mels if job.store == "audiomae" else 64
        data = torch.rand(n_clips, frames, n_mels, generator=generator)
    return InMemory(data), frontend


def clip_s(job: Job, config: Any) -> float:
    """Seconds of a clip at the scale of `config`."""
    return config.n_frames / 100 if job.step else config.clip_s


def reads_waveforms(job: Job, config: Any) -> bool:
    """Whether the job's views start from waveforms; else from spectrograms."""
    return job.store != "audiomae" and config.crop_from == "waveform"


def store_kind(job: Job, config: Any) -> str:
    """The kind of packed store that a job reads with these settings.

    Raises ValueError when its spectrograms are those of a frontend that no store holds.
    """
    if reads_waveforms(job, config):
        return "waveform"
    kinds = {"atst_official": "atst", "atst_paper": "atst_paper"}
    name = "audiomae" if job.store == "audiomae" else kinds.get(config.frontend)
    if name is None:
        raise ValueError(
            f"no packed store holds spectrograms of frontend={config.frontend!r}; set crop_from=waveform and give a "
            "store of waveforms, or a folder of sounds"
        )
    return name


def open_source(
    job: Job, config: Any, data_root: str, *, seed: int = 0, frontend: nn.Module | None = None
) -> tuple[ClipSource, nn.Module]:
    """The clips of a job with the frontend that belongs to them.

    `data_root`: a packed store of the right kind, or what `load_clips` reads, which is then held in memory. `frontend`:
    that of the encoder which is tuned, by default one that is fitted on the clips. Raises ValueError with the command
    that packs a store of the right kind, or with the settings that a store cannot have.
    """
    from audiossl_lite.data.store import PackedStore

    folder = Path(data_root) if data_root else None
    if folder is None or not (folder / "store.json").is_file():
        return _in_memory(job, config, data_root, seed, frontend)
    wanted, store = store_kind(job, config), PackedStore(folder)
    if store.made["name"] != wanted:
        raise ValueError(
            f"{folder} is packed as {store.made['name']!r}, {job.name} reads {wanted!r}; make it with: "
            f"python -m audiossl_lite pack DATA_ROOT STORE --kind {wanted}"
        )
    if wanted == "audiomae":
        masked = job.network(config)
        held = {"n_mels": store.made["n_mels"], "normalisation": "audioset"}
        wrong = {k: (v, getattr(masked, k)) for k, v in held.items() if getattr(masked, k) != v}
        if wrong:
            here = ", ".join(f"{key}={ours}" for key, (ours, _) in wrong.items())
            asked = ", ".join(f"{key}={theirs}" for key, (_, theirs) in wrong.items())
            raise ValueError(
                f"{folder} holds filter banks with {here}, {job.name} asks for {asked}; set them alike, or give a "
                "folder of sounds"
            )
    own = recipe_frontend(store.made) or default_frontend(job, config)
    if frontend is not None and (own.mean, own.std) != (frontend.mean, frontend.std):
        raise ValueError(
            f"{folder} is normalised by mean {own.mean:.4g} and std {own.std:.4g}, the encoder to start from by "
            f"{frontend.mean:.4g} and {frontend.std:.4g}; give a folder of sounds"
        )
    return store, own


def _in_memory(
    job: Job, config: Any, data_root: str, seed: int, given: nn.Module | None
) -> tuple[ClipSource, nn.Module]:
    network = job.network(config)
    clips = train_and_test(data_root, network, seed=seed).train
    tell_left_out(data_root, clips)
    if job.step:
        bank = given or make_mae_frontend(network, clips)
        frontend = holding(bank, clips.lengths, at_least=network.n_frames)
        return InMemory(*spectrograms(frontend, clips.waveforms, clips.lengths)), frontend
    if job.store == "audiomae":
        prepared = prepare_mae(clips, config)
        whole = holding(prepared.frontend, clips.lengths, at_least=config.n_frames)
        return InMemory(prepared.data, prepared.lengths), whole
    prepared = prepare(clips, config)
    return InMemory(prepared.data, prepared.lengths), prepared.frontend


def new_encoder(config: Tuning, frontend: nn.Module, seed: int) -> nn.Module:
    """The encoder that AudioMAE would hand on, untrained."""
    return make_mae(replace(config.start, n_mels=frontend.n_mels), seed).encoder


def find_start(job: Job, previous: str, config: Any = None) -> Path | None:
    """Where the job before this one left its result, None for a job that starts from nothing.

    ValueError when there is nothing, saying which job to run first, or a start that job or `config` does not take.
    """
    if not job.after:
        if previous:
            raise ValueError(
                f"{job.name} starts from nothing, got start={previous!r}; leave it out"
            )
        return None
    file = " (or a published AudioMAE file, or audiomae_sounds)" if job.step == 1 else ""
    wanted = (
        f"{job.name} starts from {job.after}: give its output_dir{file} as the override `start`"
    )
    if not previous:
        raise ValueError(wanted)
    path = user_path(previous)
    if job.step == 1 and not path.exists():
        path = shipped_encoders().get(previous, path)
    if not (path / "last.pt").is_file() and not (job.step == 1 and path.is_file()):
        raise ValueError(f"{wanted}; {previous} holds no last.pt. Run {job.after} first")
    if path.is_dir():
        _check_finished(path, job.after, wanted)
    elif is_ours(path):
        made = describe_encoder(path)["encoder"]
        is_one = str(made.get("maker")).startswith("audiomae")
        wants = config and {"maker": config.start.encoder, "n_frames": config.n_frames}
        has = {"maker": made.get("maker"), "n_frames": made.get("chunk_frames")}
        if not is_one or (wants and wants != has):
            raise ValueError(
                f"{wanted}; {previous} is an encoder of {has['maker']} for {has['n_frames']} frames"
                + (
                    f", these settings tune {wants['maker']} of {wants['n_frames']}"
                    if wants
                    else ""
                )
            )
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


def start_frontend(path: Path | None) -> nn.Module | None:
    """The frontend of the encoder that a job tunes, where a file of this project says it."""
    file = path / ENCODER_FILE if path and path.is_dir() else path
    return load_encoder(file).frontend if file and is_ours(file) else None


def starting_point(
    job: Job, config: Tuning, frontend: nn.Module, previous: str
) -> tuple[nn.Module | None, dict[str, Tensor] | None]:
    """Encoder and head that the job starts from: those of `previous`, the folder or file of the job before it.

    For uaMix-MAE's step 1 a published AudioMAE file (`.pth`), an encoder file of this project or the name of a shipped
    one, or the folder of this project's `audiomae` job; for step 2 the folder of step 1. ValueError when there is none.
    """
    path = find_start(job, previous)
    if path is None:
        return None, None
    if path.is_file() and not is_ours(path):
        return load_audiomae(path).encoder, None
    if path.is_file():
        encoder = new_encoder(config, frontend, 0)
        load_state(encoder, load_encoder(path).encoder.state_dict(), path)
        return encoder, None
    state = load_checkpoint(path / "last.pt").get("method")
    if not isinstance(state, dict):
        raise ValueError(f"{path / 'last.pt'} is no checkpoint of a run; choose another start")
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


def run_job(
    name: str,
    scale: str,
    data_root: str,
    output_dir: str | Path | None,
    *,
    seed: int = 0,
    device: str = "auto",
    overrides: dict[str, Any] | None = None,
    start: str = "",
    compute: Compute | None = None,
    stop_after: int | None = None,
) -> TrainingResult:
    """Run a job, or go on with it where it stopped; under `torchrun` all processes share it.

    A finished run leaves its encoder and a record in `output_dir`: `encoder.safetensors`, `record.json`, whose values
    are the losses of the first and of the last logged step.
    `overrides`: settings of the experiment at this scale. `start`: see `starting_point`. See `train` for errors.
    """
    job = find_job(name)
    config = preset(job.experiment, scale, overrides)
    usable_device(device)  # before the data are read
    check_free(output_dir, ENCODER_FILE)
    given = start_frontend(find_start(job, start, config))
    source, frontend = open_source(job, config, data_root, seed=seed, frontend=given)
    encoder, head = starting_point(job, config, frontend, start)
    parts = make_parts(job, config, frontend, seed=seed, start=encoder, head=head)
    result = train(
        parts.method,
        parts.views,
        source,
        parts.config,
        device=device,
        output_dir=output_dir,
        description=name,
        compute=compute,
        stop_after=stop_after,
    )
    if output_dir and rank() == 0 and result.history[-1]["step"] == parts.config.steps:
        about = {"job": name, "scale": scale, "data": f"{len(source)} clips"}
        rows = [row for row in result.history if "loss" in row]
        entry = record(
            Path(output_dir) / "record.json", experiment=name, scale=scale, data=about["data"],
            data_fingerprint=source.digest(), device=device_name(device), seeds=[seed],
            seconds=result.seconds, config=config,
            values=[
                {"name": f"loss, step {row['step']}", "mean": row["loss"], "ci95": None}
                for row in (rows[0], rows[-1])
            ],
        )  # fmt: skip
        encoder = parts.encoder
        sized = job.store == "audiomae"
        save_encoder(
            Path(output_dir) / ENCODER_FILE,
            encoder,
            frontend,
            maker=job.network(config).encoder,
            options={"n_frames": encoder.n_frames, "n_mels": encoder.n_mels} if sized else {},
            about=about | {"commit": entry["commit"]},
            chunk_frames=trained_frames(config, frontend),
        )
    return result
