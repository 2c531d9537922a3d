"""What a finished job leaves beside its checkpoint: the encoder alone, and a record of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from audiossl_lite.experiments.records import device_name, record
from audiossl_lite.pretrained.shipped import save_encoder
from audiossl_lite.training import TrainingResult
from audiossl_lite.training.sources import ClipSource

ENCODER_FILE, RECORD_FILE = "encoder.safetensors", "record.json"


def maker_of(job: Any, config: Any, encoder: nn.Module) -> tuple[str, dict[str, Any]]:
    """The function of `encoders` that made the network of a job with these settings, and its arguments."""
    sized = job.store == "audiomae"
    options = {"n_frames": encoder.n_frames, "n_mels": encoder.n_mels} if sized else {}
    return job.network(config).encoder, options


def keep_outcome(
    folder: str | Path,
    job: Any,
    scale: str,
    config: Any,
    source: ClipSource,
    frontend: nn.Module,
    result: TrainingResult,
    *,
    seed: int,
    device: str,
) -> dict[str, Any]:
    """Write `encoder.safetensors` and `record.json` of a run into its folder; the record is returned.

    Its values are the losses of the first and of the last logged step. The encoder is the one that the method keeps.
    """
    folder = Path(folder)
    rows = [row for row in result.history if "loss" in row]
    data = f"{len(source)} clips"
    entry = record(
        folder / RECORD_FILE,
        experiment=job.name,
        scale=scale,
        data=data,
        data_fingerprint=source.digest(),
        device=device_name(device),
        seeds=[seed],
        seconds=result.seconds,
        config=config,
        values=[
            {"name": f"loss, step {row['step']}", "mean": row["loss"], "ci95": None}
            for row in (rows[0], rows[-1])
        ],
    )
    encoder = next(iter(result.method.encoders.values()))
    maker, options = maker_of(job, config, encoder)
    about = {"job": job.name, "scale": scale, "data": data, "commit": entry["commit"]}
    save_encoder(
        folder / ENCODER_FILE, encoder, frontend, maker=maker, options=options, about=about
    )
    return entry
