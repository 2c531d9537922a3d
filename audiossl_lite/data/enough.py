"""Whether data of one's own are enough for a chapter, before anything is computed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from audiossl_lite.common.parameters import EMBEDDED_NAMES, ParameterError
from audiossl_lite.data.audio import AudioError, read_audio
from audiossl_lite.data.joined import decoded_in
from audiossl_lite.data.layouts import find_listing

MIN_CLASSES, MIN_CLIPS = 2, 16
CLIPS_OF_A_CLASS = 8  # that a class needs to count: episodes draw examples and questions from it


class TooFewClips(ParameterError):
    """A folder or manifest holds fewer clips or classes than a chapter needs."""


def check_enough(data_root: str, classes: int = MIN_CLASSES, clips: int = MIN_CLIPS) -> None:
    """Raise TooFewClips unless `data_root` has `clips` that can be read, and `classes` with `CLIPS_OF_A_CLASS` each.

    Embedded sounds and the folder of a study always do. Files are read, class by class in turn, until there are enough.
    Other errors of the data are those of `find_listing`.
    """
    if data_root in EMBEDDED_NAMES or decoded_in(data_root):
        return
    if (listing := find_listing(Path(data_root), "event")) is None:
        return
    task, waiting = listing.tasks[0], Counter()
    turns = []
    for entry in listing.entries:
        label = entry.labels[task]
        turns.append((waiting[label], label, entry.path))
        waiting[label] += 1
    usable: Counter[str] = Counter()

    def full_classes() -> int:
        return sum(count >= CLIPS_OF_A_CLASS for count in usable.values())

    for _, label, path in sorted(turns, key=lambda turn: turn[0]):
        try:
            read_audio(path)
        except AudioError:
            continue
        usable[label] += 1
        if full_classes() >= classes and usable.total() >= clips:
            return
    raise TooFewClips(
        f"data_root {data_root} holds {usable.total()} clips that can be read, and {full_classes()} of its classes "
        f"have {CLIPS_OF_A_CLASS} or more; this chapter needs {clips} and {classes}: add clips, or leave data_root out"
    )
