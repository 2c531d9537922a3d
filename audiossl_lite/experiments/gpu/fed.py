"""From the packed store to the device: clips a second, beside what the training steps eat."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiossl_lite.data.audio import save_audio
from audiossl_lite.data.packing import pack
from audiossl_lite.data.recipes import make_recipe, recipe_frontend
from audiossl_lite.data.store import PackedStore
from audiossl_lite.experiments.gpu.stages import TIMED
from audiossl_lite.experiments.real_sounds.task import Task
from audiossl_lite.experiments.roofline import Clock, best_seconds
from audiossl_lite.frontends import BYOLAFrontend
from audiossl_lite.training.sources import ClipSource
from audiossl_lite.training.step import batches

KINDS = ("waveform", "atst_paper", "audiomae")


@dataclass(frozen=True)
class Size:
    """How much is packed and read: clips of `clip_s` seconds, in batches, each form for `form_s` seconds."""

    n_clips: int
    clip_s: float
    batch: int
    form_s: float


def run(task: Task) -> None:
    """Record clips a second by every way from the store to the frontend's spectrograms on the device."""
    size = Size(64, 1.0, 16, 0.05) if task.toy else Size(256, 10.0, 128, 0.025 * task.seconds)
    device, rows, steps = task.device, [], steps_eat(task)

    def add(name: str, clips_per_s: float) -> None:
        rows.append({"name": name, "mean": clips_per_s, "ci95": None, "unit": "clips/s"})
        rows[-1]["times_the_step"] = {job: clips_per_s / eaten for job, eaten in steps.items()}
        write(complete=False)

    def write(complete: bool) -> None:
        task.write(
            rows,
            config=asdict(size),
            data=f"{size.n_clips} clips of {size.clip_s:g} s of noise",
            note="Stores lie in the cache of the operating system: measured is the way from its pages to the device,"
            " not a disk. Frontends run on the device. times_the_step: clips delivered for each clip that a job's step"
            " needs.",
            complete=complete,
            eaten=steps,
        )

    noise = 0.1 * torch.randn(
        size.batch, round(size.clip_s * 16_000), generator=torch.Generator().manual_seed(0)
    )
    frontends = {kind: recipe_frontend(make_recipe(kind)) for kind in KINDS[1:]}
    frontends["byola"] = BYOLAFrontend()
    waves = noise.to(device)
    for name, frontend in frontends.items():
        frontend.to(device)
        took = best_seconds(partial(frontend, waves), device, 5)
        add(f"frontend {name}, alone", len(waves) / took)
    stores = make_stores(task.folder, noise, size)
    for kind, store in stores.items():
        resident = store.resident(device)
        for source, words in ((store, "read and sent"), (resident, "on the device")):
            add(f"{kind}, {words}", fed(source, device, size))
            for name in frontends if kind == "waveform" else ():
                add(f"{kind}, {words}, frontend {name}", fed(source, device, size, frontends[name]))
        del resident
    write(complete=True)
    for kind in stores:
        shutil.rmtree(task.folder / kind)


def steps_eat(task: Task) -> dict[str, float]:
    """Clips a second of the training step of each job that is recorded."""
    records = {job: task.record_of(f"fast_{job}", partly=True) for job in TIMED}
    return {job: record["values"][0]["mean"] for job, record in records.items() if record}


def make_stores(folder: Path, noise: Tensor, size: Size) -> dict[str, PackedStore]:
    """A store of each kind with `size.n_clips` clips; `noise (B, S)` repeats, its places in the stores do not."""
    sounds = folder / "sounds" / "noise"
    sounds.mkdir(parents=True, exist_ok=True)
    for number in range(size.n_clips):
        path = sounds / f"{number:05d}.wav"
        path.unlink(missing_ok=True)
        if number < len(noise):
            save_audio(path, noise[number].clamp(-1, 1))
        else:
            os.link(sounds / f"{number % len(noise):05d}.wav", path)
    stores = {}
    for kind in KINDS:
        shutil.rmtree(folder / kind, ignore_errors=True)
        stores[kind] = pack(sounds.parent, folder / kind, kind=kind, workers=0)
    shutil.rmtree(sounds.parent)
    return stores


def fed(
    source: ClipSource,
    device: torch.device,
    size: Size,
    frontend: Callable[[Tensor], Any] | None = None,
) -> float:
    """Clips a second of batches in random order as the training loop gets them, passed through `frontend`."""
    generator = torch.Generator().manual_seed(0)

    def chosen(step: int) -> Tensor:
        return torch.randint(len(source), (size.batch,), generator=generator)

    def feed(n_batches: int) -> float:
        clock = Clock(device)
        for clips, _, _ in batches(source, device, range(n_batches), chosen):
            if frontend is not None:
                frontend(clips)
        return clock.seconds()

    feed(2)
    few = feed(4) / 4
    n_batches = min(max(round(size.form_s / few), 4), 1000)
    return n_batches * size.batch / feed(n_batches)
