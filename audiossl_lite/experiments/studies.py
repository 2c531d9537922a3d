"""What every study shares: finished pieces of work, kept in memory and on disk, and the record of its scores."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiossl_lite.common.commands import refused
from audiossl_lite.data.clips import Clips
from audiossl_lite.data.store_format import write_whole
from audiossl_lite.evaluation.statistics import Scores
from audiossl_lite.experiments.records import config_hash, device_name, record, said_once
from audiossl_lite.training.loop import CollapseError, NotFiniteError


class Finished:
    """Results by everything that decides them, in memory and, with a `folder`, as one JSON file each.

    A study that was interrupted reads what is finished and resumes what is not. `runs` holds what was trained, and
    whatever else `once` was asked for, in memory alone.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder else None
        self.results: dict[str, dict[str, Any]] = {}
        self.runs: dict[Hashable, Any] = {}

    def key(self, kind: str, settings: Any) -> str:
        """A name that changes with the settings."""
        return f"{kind}_{config_hash(settings)}"

    def folder_of(self, key: str) -> Path | None:
        """The folder of a piece of work, None without a folder."""
        return self.folder / key if self.folder else None

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
            result = compute(self.folder_of(key))
            result = {"settings": settings, "seconds": time.perf_counter() - began} | result
            text = json.dumps(result, indent=1, default=str)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, text.encode())
            self.results[key] = json.loads(text)
        return self.results[key]

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Wait until no other process is at this piece of work."""
        if self.folder is None:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f".{key}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make()` gave when this key was asked for first."""
        if key not in self.runs:
            self.runs[key] = make()
        return self.runs[key]

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
    earlier: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the rows of a study, scored on these sets of clips, as a recorded run (`records.record`).

    `about` says of each set how it relates to training; what is the same of all stands once. `earlier`: as in `record`.
    """
    return record(
        path,
        experiment=Path(path).stem,
        scale=scale,
        data=said_once(
            "; ".join(f"{c.source}; {text}" for c, text in zip(clips, about, strict=True))
        ),
        data_fingerprint=" ".join(c.fingerprint() for c in clips),
        device=device_name(device),
        seeds=list(seeds),
        seconds=seconds,
        config=config,
        values=values,
        note=" ".join(note for note in notes if note),
        earlier=earlier,
    )


def tell_record(command: str, path: Path, study: Callable[[], Any]) -> int:
    """Run a study on one thread and say where its record is; status 2, with the reason, where it refuses."""
    torch.set_num_threads(1)
    try:
        study()
    except (KeyError, ValueError, OSError) as error:
        return refused(command, error)
    print(f"recorded in {path}")
    return 0


def named(verb: str, reasons: Mapping[str, str]) -> list[str]:
    """Sentences for a record's note: what failed or was left out, and why."""
    return [f"{name} {verb}: {reason}." for name, reason in reasons.items()]


def by_seed(
    score: Callable[[str, int], Mapping[str, np.ndarray]],
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    failures: dict[str, str] | None = None,
    needed: Sequence[str] = (),
) -> Scores:
    """Scores with one row for each seed, by name and column, from those of one name and seed.

    With `failures` a name whose training fails with some seed is left out, if it is not `needed`, and named there;
    the others go on.
    """
    failures = {} if failures is None else failures
    rows: dict[str, list] = {name: [] for name in names}
    for seed in seeds:  # seeds outside: what an interrupted study leaves is complete seeds
        for name in names:
            if name in failures:
                continue
            try:
                rows[name].append(score(name, seed))
            except (NotFiniteError, CollapseError) as error:
                if name in needed:
                    raise
                failures[name] = f"seed {seed}: {error}"
    return {
        name: {column: np.concatenate([row[column] for row in by_seed]) for column in by_seed[0]}
        for name, by_seed in rows.items()
        if name not in failures
    }
