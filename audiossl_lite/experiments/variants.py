"""The rows of ATST's ablations: the five of Table 1, and the segment lengths of Fig. 2; `ablation_job` runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audiossl_lite.experiments.settings.presets import Pretraining

SHORT_SHARE, LONG_SHARE = 0.1, 0.6  # ATST: 1 s and 6 s of clips of 10 s
MAX_CLIP_S = 10.0  # the position table ends there


@dataclass(frozen=True)
class Row:
    """One line of a table or point of a figure: a name and the settings of its run.

    Where: ATST Table 1; chapter 05
    """

    name: str
    config: Pretraining


def segment_lengths(
    clip_s: float, shares: Sequence[float] = (SHORT_SHARE, LONG_SHARE)
) -> list[float]:
    """Segment lengths in seconds that are the given shares of a clip; clips count as at most 10 s.

    ATST's 1 s and 6 s are 0.1 and 0.6 of its clips. At least 0.2 s, rounded to 0.01 s. Raises ValueError for a
    share outside (0, 1] or a clip too short to be cut.

    Where: ATST Sec. 3.1, 3.3; chapter 05
    """
    if not all(0.0 < share <= 1.0 for share in shares):
        raise ValueError(f"a segment is a share in (0, 1] of its clip, got {list(shares)}")
    if clip_s < 0.4:
        raise ValueError(
            f"clips of {clip_s:.2f} s are too short for segments; use clips of at least 0.4 s"
        )
    return [round(max(share * min(clip_s, MAX_CLIP_S), 0.2), 2) for share in shares]


def view_rows(config: Pretraining, clip_s: float, prefix: str = "transformer") -> list[Row]:
    """The four view strategies of Table 1 for one set of settings: one or two segments, short or long.

    Where: ATST Table 1; chapter 05
    """
    return [
        Row(
            f"{prefix}, {segments}, {segment_s:g} s",
            replace(config, segments=segments, segment_s=segment_s),
        )
        for segment_s in segment_lengths(clip_s)
        for segments in ("one", "two")
    ]


def table_1_rows(config: Pretraining, byola: Pretraining, clip_s: float) -> list[Row]:
    """The five rows of ATST's Table 1: BYOL-A's network and views, then four view strategies of the transformer.

    `config`, `byola`: settings of both at the same scale. BYOL-A gets one short segment and sees as many
    clips as the others, in batches of its own size; `clip_s` sets the segment lengths.

    Where: ATST Table 1; chapter 05
    """
    short_s, _ = segment_lengths(clip_s)
    first = replace(
        byola,
        segments="one",
        segment_s=short_s,
        steps=max(config.steps * config.batch_size // byola.batch_size, 1),
    )
    return [Row(f"BYOL-A, one, {short_s:g} s", first), *view_rows(config, clip_s)]


def segment_sweep(
    config: Pretraining,
    clip_s: float,
    shares: Sequence[float] = (0.1, 0.3, 0.6, 0.8),
    prefix: str = "transformer",
) -> list[Row]:
    """The runs of ATST's Fig. 2: two segments, each length a share of the clip.

    Where: ATST Fig. 2; chapter 05
    """
    return [
        Row(
            f"{prefix}, two, {segment_s:g} s",
            replace(config, segments="two", segment_s=segment_s),
        )
        for segment_s in segment_lengths(clip_s, shares)
    ]
