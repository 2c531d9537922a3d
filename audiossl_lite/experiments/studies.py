"""What every study shares: finished pieces of work, kept in memory and on disk, and the record of its scores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiossl_lite.data.clips import Clips
from audiossl_lite.data.store_format import write_whole
from audiossl_lite.evaluation.statistics import Scores
from audiossl_lite.experiments.records import config_hash, device_name, record


class Finished:
    """Results by everything that decides them, in memory and, with a `folder`, as one JSON file each.

    A study that was interrupted reads what is finished and resumes what is not.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder else None
        self.results: dict[str, dict[str, Any]] = {}

    def key(self, kind: str, settings: Any) -> str:
        """A name that changes with the settings."""
        return f"{kind}_{config_hash(settings)}"

    def __call__(
        self, kind: str, settings: Any, compute: Callable[[Path | None], dict[str, Any]]
    ) -> dict[str, Any]:
        """The result of a piece of work, with its `seconds`: computed once, then read.

        `settings`: everything that decides it, data included. `compute` gets a folder of its own that it may resume
        from, None without a folder, and returns plain values.
        """
        key = self.key(kind, settings)
        if key in self.results:
            return self.results[key]
        file = self.folder / f"{key}.json" if self.folder else None
        if file and file.is_file():
            self.results[key] = json.loads(file.read_text())
        else:
            began = time.perf_counter()
            result = compute(self.folder / key if self.folder else None)
            result = {"settings": settings, "seconds": time.perf_counter() - began} | result
            text = json.dumps(result, indent=1, default=str)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, text.encode())
            self.results[key] = json.loads(text)
        return self.results[key]

    @property
    def seconds(self) -> float:
        """Seconds that all of these results took, in this process or an earlier one."""
        return sum(result["seconds"] for result in self.results.values())


def record_study(
    path: str | Path,
    scale: str,
    clips: Sequence[Clips],
    *,
    about: Sequence[str],
    device: str,
    seeds: Sequence[int],
    seconds: float,
    config: Any,
    values: list[dict[str, Any]],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the rows of a study, scored on these sets of clips, as a recorded run (`results.record`).

    `about` says of each set how it relates to training.
    """
    return record(
        path,
        experiment=Path(path).stem,
        scale=scale,
        data="; ".join(f"{c.source}; {text}" for c, text in zip(clips, about, strict=True)),
        data_fingerprint=" ".join(c.fingerprint() for c in clips),
        device=device_name(device),
        seeds=list(seeds),
        seconds=seconds,
        config=config,
        values=values,
        note=" ".join(note for note in notes if note),
    )


def named(verb: str, reasons: Mapping[str, str]) -> list[str]:
    """Sentences for a record's note: what failed or was left out, and why."""
    return [f"{name} {verb}: {reason}." for name, reason in reasons.items()]


def stacked(rows: Mapping[str, Mapping[str, list]]) -> Scores:
    """Scores with one array for each features and column, from lists by seed."""
    return {name: {c: np.array(v) for c, v in row.items()} for name, row in rows.items()}
