"""From the makers' archives to 16 kHz mono files with a manifest; may be interrupted and repeated at any time."""

from __future__ import annotations

import io
import os
import shutil
import zlib
from argparse import Namespace
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import manifests
import soundfile
from archives import ArchiveError, Source, members, read_member
from inventory import Inventory, Row, find_sources, take_inventory
from lock import only_one

from audiossl_lite.common.progress import progress_bar
from audiossl_lite.common.writing import writing
from audiossl_lite.data.audio import SAMPLE_RATE_HZ, AudioError, load_audio

if TYPE_CHECKING:
    from common import Clip, DataSet, Plan

MAX_AUDIO_BYTES = 500 * 2**20
SCRATCH = ".unfinished"


@dataclass(frozen=True)
class Outcome:
    """What a run of `prepare` did: clips in the manifest, of which new, clips left out, clips limited to [-1, 1]."""

    folder: Path
    n_clips: int
    n_new: int
    n_skipped: int
    n_limited: int


def prepare(data_set: DataSet, paths: Sequence[Path], folder: Path, options: Namespace) -> Outcome:
    """Convert the clips of the given archives and write the manifest.

    A new folder is filled under the name FOLDER.partial and gets its own name when complete; a run after an
    interruption goes on there, and a folder that this data set has filled before is completed in place. Clips
    that exist are not converted again, rows of earlier runs are kept.
    Raises ArchiveError, FileExistsError for a folder that holds something else, OSError.
    """
    sources = find_sources([remote.name for remote in data_set.remotes], paths)
    _working_place(data_set, folder)
    inventory = take_inventory(data_set.tables, sources)
    plan = data_set.plan(inventory, options)
    _refuse_doubles(plan)
    if not plan.clips:
        raise ArchiveError(
            f"{', '.join(map(str, paths))}: none of the expected files; is it the right archive?"
        )
    with only_one(folder.with_name(folder.name + ".lock")):
        return _fill(data_set, plan, inventory, sources, folder, max(1, options.workers))


def _fill(
    data_set: DataSet,
    plan: Plan,
    inventory: Inventory,
    sources: Sequence[Source],
    folder: Path,
    workers: int,
) -> Outcome:
    place = _working_place(data_set, folder)
    scratch, marker = place / SCRATCH, _marker(data_set, plan, place)
    before = manifests.read_table(place / manifests.SKIPPED)
    rows, todo = _what_is_left(plan, inventory, place)
    shutil.rmtree(scratch, ignore_errors=True)
    with writing(scratch):
        scratch.mkdir(parents=True)
    manifests.write_marker(place, marker | {"complete": False})
    skipped = list(plan.skipped)
    n_new = n_limited = 0
    with progress_bar(sum(map(len, todo.values())), f"preparing {data_set.title}") as bar:
        for number, wanted in sorted(todo.items()):
            for clip, result in _convert_all(sources[number], wanted, place, scratch, workers):
                bar.update(1)
                if isinstance(result, str):
                    skipped.append((clip.source, result))
                    rows.pop(clip.path, None)
                    continue
                measured, limited = result
                rows[clip.path] = {**clip.row(), **measured}
                n_new += 1
                n_limited += limited
    for name, content in plan.keep.items():
        target = place / name
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            (scratch / "kept").write_bytes(content)
            os.replace(scratch / "kept", target)
    shutil.rmtree(scratch)
    skipped = _still_missing(plan, before, rows, skipped)
    manifests.write_manifests(data_set, place, list(rows.values()))
    manifests.write_skipped(place, skipped)
    manifests.write_marker(place, marker | {"complete": True})
    if place != folder:
        if folder.exists():
            folder.rmdir()
        place.rename(folder)
    return Outcome(folder, len(rows), n_new, len(skipped), n_limited)


def _marker(data_set: DataSet, plan: Plan, place: Path) -> dict:
    """What prepare.json says of the data set, with the counts that this and earlier runs read from its tables."""
    listed = manifests.read_marker(place).get("listed", {})
    for column, counts in plan.listed.items():
        listed[column] = {**listed.get(column, {}), **counts}
    return {
        "data_set": data_set.name,
        "licence": data_set.licence,
        "source": data_set.source,
        "listed": listed,
    }


def _what_is_left(
    plan: Plan, inventory: Inventory, place: Path
) -> tuple[dict[str, Row], dict[int, dict[str, Clip]]]:
    """Rows of the clips that are there, by path, and the clips to convert, by source and path in it."""
    rows = {row["path"]: row for row in manifests.read_table(place / manifests.MANIFEST)}
    todo: dict[int, dict[str, Clip]] = {}
    for clip in plan.clips:
        path, measured = place / clip.path, {}
        if path.is_file():
            # Measures are not taken again where they are known: damage since then must stay visible.
            known = rows.get(clip.path, {})
            measured = {key: known[key] for key in manifests.LAST if known.get(key)}
            measured = measured or _measure(path.read_bytes())
        if measured:
            rows[clip.path] = {**clip.row(), **measured}
        else:
            todo.setdefault(inventory.audio[clip.source], {})[clip.source] = clip
    return rows, todo


def _still_missing(
    plan: Plan, before: list[Row], rows: dict[str, Row], skipped: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """What this and earlier runs left out, without the clips that are there by now."""
    settled = rows.keys() | {clip.source for clip in plan.clips if clip.path in rows}
    left_out = {*skipped, *((row["name"], row["reason"]) for row in before)}
    return [(name, reason) for name, reason in left_out if name not in settled]


def _working_place(data_set: DataSet, folder: Path) -> Path:
    """The folder itself when this data set has filled it before, else FOLDER.partial."""
    for place in (folder, folder.with_name(folder.name + ".partial")):
        # Stopped before its first mark, a run leaves no more than these behind.
        first = (SCRATCH, f"{manifests.MARKER}.tmp")
        if place.exists() and (
            not place.is_dir() or any(path.name not in first for path in place.iterdir())
        ):
            if manifests.read_marker(place).get("data_set") == data_set.name:
                return place
            raise FileExistsError(
                f"{place}: exists and is not empty; name a new folder or remove it"
            )
    return folder.with_name(folder.name + ".partial")


def _refuse_doubles(plan: Plan) -> None:
    seen: set[str] = set()
    for clip in plan.clips:
        if clip.path in seen:
            raise ArchiveError(f"two clips would become {clip.path}; is a table damaged?")
        seen.add(clip.path)


def _convert_all(
    source: Source, wanted: dict[str, Clip], place: Path, scratch: Path, workers: int
) -> Iterator[tuple[Clip, tuple[Row, bool] | str]]:
    """Each wanted clip of a source with what was measured of it, or with why it cannot be used."""
    waiting: deque[tuple[Clip, Future]] = deque()
    with ThreadPoolExecutor(workers) as threads, members(source) as files:
        for member in files:
            clip = wanted.get(member.path)
            if clip is None:
                continue
            content = read_member(source, member, MAX_AUDIO_BYTES)
            waiting.append((clip, threads.submit(_convert, content, clip, place, scratch)))
            while len(waiting) > 4 * workers:
                clip, future = waiting.popleft()
                yield clip, future.result()
        for clip, future in waiting:
            yield clip, future.result()


def _convert(content: bytes, clip: Clip, place: Path, scratch: Path) -> tuple[Row, bool] | str:
    """Decode, bring to 16 kHz mono and 16 bit, and put in place; returns the measures, or the fault.

    Silent and very short clips are kept: whether they can be used is for the reader to say. The filter that
    changes the rate can overshoot full scale; what lies above it is limited.
    """
    token = f"{zlib.crc32(clip.path.encode()):08x}-{PurePosixPath(clip.path).stem}"
    raw = scratch / f"{token}.in{PurePosixPath(clip.source).suffix.lower()}"
    done = scratch / f"{token}.out{PurePosixPath(clip.path).suffix}"
    target = place / clip.path
    try:
        with writing(target):
            raw.write_bytes(content)
        waveform = load_audio(raw, min_s=0.0, allow_silent=True)
    except AudioError as error:
        return error.reason
    finally:
        raw.unlink(missing_ok=True)
    limited = bool((waveform.abs() > 1).any())
    # In memory first: of a full disk libsndfile says "System error.", or nothing.
    encoded, kind = io.BytesIO(), target.suffix[1:].upper()
    soundfile.write(encoded, waveform.clamp(-1, 1).numpy(), SAMPLE_RATE_HZ, format=kind)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        done.write_bytes(encoded.getvalue())
        os.replace(done, target)
    return _measure(encoded.getvalue()), limited


def _measure(content: bytes) -> Row:
    """The measures of a converted clip; none of what a power cut has left of one."""
    try:
        n_samples = soundfile.info(io.BytesIO(content)).frames
    except soundfile.LibsndfileError:
        return {}
    return {"n_samples": str(n_samples), "crc32": f"{zlib.crc32(content):08x}"}
