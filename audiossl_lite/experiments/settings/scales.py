"""An experiment's settings at its scales: `paper` says where each value comes from, the others what they change."""

from __future__ import annotations

from typing import Any

from audiossl_lite.common.ranges import check_ranges

Cited = dict[str, tuple[Any, str]]  # field: (value, where it comes from)


class Scales(dict[str, Any]):
    """Settings of type `kind` by scale, from all values of `paper` and the changes of `gpu` and of the other scales.

    `sources[scale][field]` says where a value of `paper`, or a change of `gpu`, comes from. TypeError when `paper`
    lacks a field, or any scale names one that `kind` does not have; ValueError for a value out of its range.
    """

    def __init__(
        self, kind: type, paper: Cited, *, gpu: Cited | None = None, **others: dict
    ) -> None:
        cited = {"paper": paper} | ({"gpu": gpu} if gpu else {})
        self.sources = {
            scale: {name: source for name, (_, source) in part.items()}
            for scale, part in cited.items()
        }
        values = {
            scale: {name: value for name, (value, _) in part.items()}
            for scale, part in cited.items()
        }
        super().__init__(
            (scale, kind(**values["paper"] | changes))
            for scale, changes in (values | others).items()
        )
        for settings in self.values():
            check_ranges(settings)


# What the papers' runs of every method share.
OURS = {
    "log_every": (10, "this project"),
    "save_every": (500, "this project"),
    "probe_every": (0, "this project"),
}
# What all stages of `make gpu` that train an encoder share: minutes on one card, on the workshop corpus.
TIMED = "chosen by time: the stage replaces it by what fits in its share"
LOGGED = {
    "log_every": (50, "chosen by time: a logged step waits for the device"),
    "save_every": (1000, "chosen by time: a stage that is cut loses less than half a minute"),
}
GPU = LOGGED | {
    "clip_s": (5.0, "not used: the clips have the lengths they have"),
    "clips_per_class": (20, "not used: the corpus has the size it has"),
    "batch_size": (512, "chosen by the corpus: about 5,500 clips are heard, and a step should not see most"),
    "precision": ("bf16-mixed", "chosen by the card, which has bf16 units"),
    "steps": (3000, TIMED),
    "warmup_steps": (300, "chosen by length: a tenth of the steps"),
}  # fmt: skip
