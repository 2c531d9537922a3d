"""Ship encoders of a run of `make gpu`, or of `workshop`: `python -m audiossl_lite.experiments.gpu.ship --help`.

Every encoder is written with weights in 8 bits, and scored as it then is on what no training heard, in all tasks of a
folder of sounds, beside its untrained start and what needs no training. The model card says what it heard, what was
chosen, and how it scores.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiossl_lite.data.joined import waveforms_of
from audiossl_lite.encoders.atst import in_chunks
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.evaluation.statistics import Scores
from audiossl_lite.experiments import records
from audiossl_lite.experiments.networks import random_start
from audiossl_lite.experiments.real_sounds.recipes import TITLES, encoder_path
from audiossl_lite.experiments.real_sounds.scores import START, draw_scores, embed_all
from audiossl_lite.experiments.real_sounds.sounds import decoded, described
from audiossl_lite.experiments.real_sounds.task import record_of
from audiossl_lite.experiments.records import record_row
from audiossl_lite.pretrained.shipped import (
    FOLDER,
    describe_encoder,
    golden_sound,
    load_encoder,
    load_mae,
    load_shipped,
    save_encoder,
)
from audiossl_lite.training import load_checkpoint, save_checkpoint

RECORD = "shipped_sounds"
CARD = Path(__file__).with_name("ship_card.md")
BITS = 8
BEFORE = "cnn_events"  # the encoder that shipped before, scored beside the others
LICENCE = (
    "CC BY-NC-SA 4.0, the strictest of the sounds that it heard (RAVDESS; ESC-50 and UrbanSound8K are CC BY-NC): "
    "not for commercial use"
)


@dataclass(frozen=True)
class Shipped:
    """A stage whose encoder ships: under which `name`, in one sentence `what` it is, and what was `chosen` and how.

    `start`: what its untrained row is called, by default after its method; `record`: of its training, by default the
    stage's own; `steps`: of a run of another length nothing ships.
    """

    name: str
    what: str
    chosen: str
    start: str = ""
    record: str = ""
    steps: int = 0


SHIPS = {
    "learnt_cnn": Shipped(
        "cnn_sounds",
        "BYOL-A's network, trained by InfoNCE on two segments of a second of each clip.",
        "The loss and its settings are those of `cnn_events`, the encoder that shipped before; none by a score since.",
    ),
    "learnt_atst": Shipped(
        "atst_sounds",
        "ATST, a transformer of 256 channels and 8 blocks, trained by BYOL on two segments of a second of each clip.",
        "None by a score: settings are those of the preset `gpu`, and the steps were set beforehand.",
    ),
    "learnt_uamix": Shipped(
        "uamix_sounds",
        "uaMix-MAE: an AudioMAE encoder of 256 channels and 8 blocks, of which the upper half was tuned by "
        "nearest-neighbour contrastive learning with T-CutMix.",
        "The rate of its AudioMAE (2e-3) was taken from runs on a CPU, scored on classes heard. T-CutMix ships since "
        "it is the method of the paper; at this budget No Mixing and MixUp are not below it.",
    ),
    "audiomae_0": Shipped(
        "audiomae_sounds",
        "AudioMAE, a transformer of 192 channels and 6 blocks that fills in the hidden four fifths of a filter bank. "
        "Its decoder comes with it: `load_masked_autoencoder`.",
        "Rate and steps by a dozen attempts, scored on classes heard (`book/results/attempts_workshop.json`).",
        start="audiomae_sounds, untrained",
        record="attempts_workshop",
        steps=12_000,
    ),
}
# Scored for comparison, but not shipped.
BESIDE = ("learnt_audiomae", "learnt_uamix_none")


def write_encoders(run: Path, models: Path) -> dict[str, Path]:
    """The encoders of `SHIPS` that the run holds, in 8 bits, by name of the stage.

    Raises FileNotFoundError when there is none.
    """
    written = {}
    for stage, ships in SHIPS.items():
        source = encoder_path(run, stage)
        if not source.is_file():
            continue
        loaded, said = load_encoder(source), describe_encoder(source)
        made, about = said["encoder"], said["about"] | {"licence": LICENCE}
        if ships.steps not in (0, about["steps"]):
            continue
        about["record"] = ships.record or about["record"]
        path = models / f"{ships.name}.safetensors"
        save_encoder(
            path, loaded.encoder, loaded.frontend, maker=made["maker"], options=made["options"],
            about=about, chunk_frames=made["chunk_frames"], bits=BITS,
            mae=load_mae(source) if "decoder" in made else None,
        )  # fmt: skip
        written[stage] = path
    if not written:
        raise FileNotFoundError(
            f"{run} holds no encoder of {', '.join(SHIPS)}; run `make gpu` first"
        )
    return written


def untrained(path: Path, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The embedding of a file's network at its random start, with the same frontend and chunks."""
    ready = load_encoder(path)
    start = random_start(path, seed).requires_grad_(False)
    embed = in_chunks(start, ready.about["chunk_frames"])
    return lambda waveform, lengths: embed(*spectrograms(ready.frontend, waveform, lengths))


def start_of(stage: str, about: dict[str, Any]) -> str:
    """What the row of an encoder's random start is called."""
    return (stage in SHIPS and SHIPS[stage].start) or f"{about['method']}, untrained"


def rows_to_score(run: Path, written: dict[str, Path]) -> dict[str, Callable[..., Tensor]]:
    """What is scored, by name of its row: baselines, then each method's start and what it became."""
    rows: dict[str, Callable[..., Tensor]] = dict(BASELINES)
    rows[f"{BEFORE}, shipped before"] = load_shipped(BEFORE).embed
    for stage in (*SHIPS, *BESIDE):
        path = written.get(stage, encoder_path(run, stage))
        if not path.is_file():
            continue
        about = describe_encoder(path)["about"]
        if (
            about["method"] in TITLES.values()
        ):  # tuning starts from AudioMAE, which has a row of its own
            rows[start_of(stage, about)] = untrained(path, about["seed"])
        rows[SHIPS[stage].name if stage in SHIPS else about["method"]] = load_encoder(path).embed
    return rows


def score(out: Path, data: Path, rows: dict[str, Callable[..., Tensor]]) -> tuple[Scores, dict]:
    """Accuracy of every episode, `(1, episodes)` by row and column, and what a record says of the sounds.

    Features are kept in `out`, so that a call that was stopped goes on.
    """
    corpus, _ = decoded(out, data)
    scores = draw_scores(list(corpus.sounds), n_episodes=600, heard=False)
    clips = waveforms_of(corpus, torch.device("cpu"), scores.used)
    by_row: Scores = {}
    for name, embed in rows.items():
        path = out / f"features_{re.sub(r'[^a-z0-9]+', '_', name.lower())}.pt"
        golden = embed(*golden_sound())  # another encoder gives another vector
        kept = load_checkpoint(path) if path.is_file() else {}
        if kept and kept["golden"].shape == golden.shape and torch.allclose(kept["golden"], golden):
            features = kept["features"]
        else:
            features = embed_all(clips, embed)
            save_checkpoint(path, {"features": features, "golden": golden})
        by_row[name] = scores.of(features)
    about = {"data": described(corpus), "data_fingerprint": corpus.key, "ways": scores.ways()}
    return by_row, about


def earlier_scores(path: Path, data: str) -> dict[str, Any] | None:
    """The record that is there, None for none; ValueError when it is of other sounds than `data` says."""
    earlier = records.load(path)
    if earlier and earlier["data"] != data:
        raise ValueError(f"{path} is of other sounds; move it away, or name another --record")
    return earlier


def record_scores(
    path: Path, scores: Scores, about: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Write the scores as a record; gains are those over log-mel statistics. Rows of other encoders in it stay."""
    earlier = earlier_scores(path, about["data"])
    rows = {row["name"]: row for row in (earlier["values"] if earlier else ())}
    rows |= {name: record_row(name, row, scores[START]) for name, row in scores.items()}
    return records.record(
        path,
        experiment=RECORD,
        scale="gpu",
        data=about["data"],
        data_fingerprint=about["data_fingerprint"],
        device=records.device_name("cpu"),
        seeds=[0],
        seconds=seconds,
        config={"ways": about["ways"], "n_episodes": 600, "bits": BITS},
        values=list(rows.values()),
        note="Encoders as they ship. Intervals are over episodes; each was trained once.",
        earlier=earlier,
    )


def model_card(stage: str, path: Path, trained: dict[str, Any], scored: dict[str, Any]) -> str:
    """The model card: from the file, the record of its training and the record of the scores."""
    ships, said = SHIPS[stage], describe_encoder(path)
    about, training = said["about"], trained["training"]
    device = trained["device"]
    device = "one thread of a CPU" if device.startswith("CPU") else f"one {device}"
    columns = list(scored["config"]["ways"])
    mine = [ships.name, start_of(stage, about), *BASELINES]
    lines = [
        "| features | " + " | ".join(c.removesuffix(", never heard") for c in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for row in scored["values"]:
        if row["name"] in mine:
            cells = (row["columns"][c] for c in columns)
            shown = " | ".join(f"{c['mean']:.1f} ± {c['ci95']:.1f}" for c in cells)
            lines.append(f"| {row['name']} | {shown} |")
    return CARD.read_text().format(
        name=ships.name, what=ships.what, chosen=ships.chosen, trained=about["record"],
        megabytes=path.stat().st_size / 1e6, size=len(said["golden"]),
        data=about["data"], licence=about["licence"], seed=about["seed"], steps=about["steps"],
        batch=trained["config"]["batch_size"], seconds=training["seconds"], device=device,
        commit=trained["commit"], note=trained["note"], record=RECORD, table="\n".join(lines),
        golden=", ".join(f"{value:.4g}" for value in said["golden"][:4]),
    )  # fmt: skip


def beaten(scored: dict[str, Any], name: str) -> dict[str, bool]:
    """Whether the interval of `name` lies above that of each baseline, on events never heard."""
    rows = {row["name"]: row["columns"]["events, never heard"] for row in scored["values"]}
    low = rows[name]["mean"] - rows[name]["ci95"]
    return {b: low > rows[b]["mean"] + rows[b]["ci95"] for b in BASELINES}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, score, record, describe; exit status 0, or 1 when a baseline is not beaten on events never heard."""
    parser = argparse.ArgumentParser(
        prog="python -m audiossl_lite.experiments.gpu.ship", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run", required=True, help="the folder of `make gpu`, e.g. runs/gpu")
    parser.add_argument("--data", required=True, help="a folder of sounds, to be scored on")
    parser.add_argument("--models", default="", help=f"where files go (default: {FOLDER.name})")
    parser.add_argument("--record", default="", help="the record of the scores")
    options = parser.parse_args(arguments)
    run, models = Path(options.run), Path(options.models or FOLDER)
    path = Path(options.record or run / "records" / f"{RECORD}.json")
    earlier_scores(path, described(decoded(run / "ship", Path(options.data))[0]))
    written = write_encoders(run, models)
    began = time.monotonic()
    scores, about = score(run / "ship", Path(options.data), rows_to_score(run, written))
    scored = record_scores(path, scores, about, time.monotonic() - began)
    lost = []
    for stage, file in written.items():
        trained = record_of(run, stage, partly=True)
        file.with_suffix(".md").write_text(model_card(stage, file, trained, scored))
        name = SHIPS[stage].name
        lost += [f"{name} is not above {b}" for b, won in beaten(scored, name).items() if not won]
        columns = next(row["columns"] for row in scored["values"] if row["name"] == name)
        mean = sum(column["mean"] for column in columns.values()) / len(columns)
        print(f"{name}: {file.stat().st_size / 1e6:.1f} MB, {mean:.1f} % on average over tasks")
    print("\n".join(lost))
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
