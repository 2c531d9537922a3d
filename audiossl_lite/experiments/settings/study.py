"""The runs on a corpus of real sounds, by the name of their row: options for `real_sounds.learnt.run`.

Settings are those of scale `workshop`; a row says what it changes.
"""

from __future__ import annotations

from typing import Any

from audiossl_lite.experiments.settings.uamix import VARIANTS

POINTS = (1 / 16, 1 / 4, 1.0)  # of the steps: where a run is scored
ATST = {"scale": "workshop", "method": "atst", "points": POINTS}
CNN = ATST | {"method": "byola"}
# As long a part of a clip of 5 s as 6 s are of the paper's 10 s; a step costs three times as much.
LONG_SEGMENTS = ATST | {"segment_s": 3.0, "steps": 1000, "warmup_steps": 100}
TUNED = ATST | {"method": "uamix", "points": (1.0,)}
# In order of worth.
RUNS: dict[str, dict[str, Any]] = {
    "ATST": ATST,
    "AudioMAE": ATST | {"method": "audiomae"},
    "EAT": ATST | {"method": "eat"},
    **{name: TUNED | changes for name, changes in VARIANTS.items()},
    "CNN, InfoNCE": CNN | {"method": "cnn"},
    "BYOL-A": CNN,
    "ATST, one segment of 1 s": ATST | {"segments": "one"},
    "ATST, two segments of 0.5 s": ATST | {"segment_s": 0.5},
    "ATST, two segments of 3 s": LONG_SEGMENTS,
    "ATST, one segment of 3 s": LONG_SEGMENTS | {"segments": "one"},
}
