"""Train, score and write the small encoder that ships: `python -m audiossl_lite.experiments.ship --help`.

BYOL-A's network, half as wide, trained by InfoNCE on two segments of a clip. It hears the classes that
`data.held_out` leaves, and it is scored on those that it never heard. The card says what
was chosen by which score; of several seeds the first one ships, whatever its score.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audiossl_lite.devices import usable_device
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.statistics import Scores, mean_interval
from audiossl_lite.experiments.build_uamix import tuning_pools
from audiossl_lite.experiments.records import record_row
from audiossl_lite.experiments.settings.presets import preset
from audiossl_lite.experiments.studies import by_seed, named, record_study
from audiossl_lite.experiments.zoo import EncoderSet
from audiossl_lite.pretrained.shipped import FOLDER, describe_encoder, save_encoder
from audiossl_lite.ranges import ranged

NAME = "cnn_events"
METHOD = "CNN, InfoNCE"
SETTINGS: dict[str, Any] = {
    "encoder": "byola_small",
    "method": "contrastive",
    "segments": "two",
    "hidden_dim": 1024,
    "steps": 600,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-5,
    "schedule": "cosine",
    "warmup_steps": 20,
    "probe_every": 0,
    "save_every": 50,
}
CARD = Path(__file__).with_name("ship_card.md")
LICENCE = "CC BY-NC 3.0, as the ESC-50 clips that it was trained on"


def ship_scores(encoders: EncoderSet, seeds: Sequence[int]) -> Scores:
    """Accuracy `(seeds, episodes)` by features and column, classes never heard first; what has no seed has one row.

    Where: uaMix-MAE Sec. 4.1; chapter 13
    """
    scores = encoders.baselines | by_seed(encoders.score, encoders.names(), seeds)
    columns = sorted(scores[METHOD], key=lambda name: "never" not in name)
    return {name: {c: row[c] for c in columns} for name, row in scores.items()}


def record_ship(
    encoders: EncoderSet, path: str | Path, scores: Scores, seeds: Sequence[int]
) -> dict[str, Any]:
    """Write the scores as a record; gains are those over log-mel statistics."""
    first = scores[next(iter(BASELINES))]
    how = {"ways": encoders.scoring.ways(), "shown": list(first)}
    return record_study(
        path,
        "workshop",
        encoders.scored,
        about=encoders.about_training(),
        device=encoders.device,
        seeds=seeds,
        seconds=encoders.seconds,
        config=asdict(encoders.configs[METHOD]) | how,
        values=[record_row(name, row, first) for name, row in scores.items()],
        notes=named("left out", encoders.scoring.left_out),
    )


def write_encoder(
    encoders: EncoderSet, folder: str | Path, entry: dict[str, Any], seed: int
) -> Path:
    """Write the encoder of `seed` and its model card, whose numbers are those of the record `entry`."""
    path = Path(folder) / f"{NAME}.safetensors"
    network, config = encoders.network(METHOD, seed), encoders.configs[METHOD]
    about = {
        "method": METHOD,
        "data": entry["data"],
        "licence": LICENCE,
        "steps": config.steps,
        "seed": seed,
        "record": entry["experiment"],
        "commit": entry["commit"],
    }
    save_encoder(path, network.encoder, network.frontend, maker=config.encoder, about=about)
    golden = describe_encoder(path)["golden"]
    path.with_suffix(".md").write_text(model_card(entry, about, golden, path.stat().st_size))
    return path


def beats(scores: Scores, column: str) -> dict[str, bool]:
    """Whether the trained encoder's interval lies above that of each other row, in one column."""

    def ends(name: str) -> tuple[float, float]:
        mean, half = mean_interval(scores[name][column])
        return mean - half, mean + half

    return {name: ends(METHOD)[0] > ends(name)[1] for name in scores if name != METHOD}


def model_card(
    entry: dict[str, Any], about: dict[str, Any], golden: Sequence[float], n_bytes: int
) -> str:
    """The model card from its template: what it is, what it heard, how it scores, what it must not be used for."""
    shown, ways = entry["config"]["shown"], entry["config"]["ways"]
    lines = [
        "| features | " + " | ".join(f"{c}, {ways[c]}-way 1-shot" for c in shown) + " |",
        "|---|" + "---|" * len(shown),
    ]
    for row in entry["values"]:
        cells = [
            f"{row['columns'][c]['mean']:.1f} ± {row['columns'][c]['ci95']:.1f}" for c in shown
        ]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    run = f"{about['steps']} steps of {entry['config']['batch_size']} clips, seed {about['seed']} of {entry['seeds']}"
    return CARD.read_text().format(
        name=NAME,
        megabytes=n_bytes / 1e6,
        run=run,
        device=entry["device"],
        table="\n".join(lines),
        golden=", ".join(f"{value:.4g}" for value in golden[:4]),
        **about,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, score, record and write; exit status 0, or 1 when a baseline is not beaten on events never heard."""
    parser = argparse.ArgumentParser(
        prog="python -m audiossl_lite.experiments.ship", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data-root", required=True, help="a folder with ESC-50 and FSDD")
    parser.add_argument("--output-dir", required=True, help="runs, record and files; resumed")
    parser.add_argument("--models", default="", help=f"where files go, e.g. {FOLDER.name}")
    parser.add_argument("--seeds", type=ranged("seeds", int), default=3)
    parser.add_argument("--device", type=usable_device, default="auto")
    options = parser.parse_args(arguments)
    out = Path(options.output_dir)
    pools = tuning_pools(options.data_root, preset("audiomae", "workshop"))
    configs = {METHOD: preset("byola", "workshop", SETTINGS)}
    encoders = EncoderSet(pools, configs, device=options.device, output_dir=out)
    seeds = list(range(options.seeds))
    scores = ship_scores(encoders, seeds)
    entry = record_ship(encoders, out / "records" / "shipped_workshop.json", scores, seeds)
    path = write_encoder(encoders, options.models or out, entry, seeds[0])
    won = beats(scores, entry["config"]["shown"][0])
    print(path.with_suffix(".md").read_text())
    print("; ".join(f"{'above' if above else 'NOT above'} {name}" for name, above in won.items()))
    return 0 if all(won.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
