"""The full runs of both papers, and EAT's: which experiment, which data, and what each starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audiossl_lite.common.parameters import nearest


@dataclass(frozen=True)
class Job:
    """One pretraining or tuning run: its experiment in `presets`, and the data that the paper trains on.

    `store`: the kind of packed store that it reads. `step`: of progressive retraining, else 0. `after`: the job
    whose result it starts from.

    Where: ATST Sec. 3.1; uaMix-MAE Sec. 4; chapter 13
    """

    name: str
    experiment: str
    data_set: str
    n_clips: int
    store: str
    step: int = 0
    after: str = ""

    def network(self, config: Any) -> Any:
        """The settings that describe the encoder of a run with the settings `config`."""
        return config.start if self.step else config


JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        Job("byola", "byola", "AudioSet-2M", 1_963_807, "waveform"),
        Job("atst_small", "atst", "AudioSet-200K", 200_000, "atst_paper"),
        Job("atst_base", "atst_base", "AudioSet-2M", 2_000_000, "atst_paper"),
        # As the authors' code trains them.
        Job("atst_small_official", "atst_official", "AudioSet-200K", 200_000, "waveform"),
        Job("atst_base_official", "atst_base_official", "AudioSet-2M", 2_000_000, "waveform"),
        Job("audiomae", "audiomae", "AudioSet-2M", 2_000_000, "audiomae"),
        Job("eat", "eat", "AudioSet-2M", 2_000_000, "audiomae"),
        Job("uamix_head", "uamix", "AudioSet-20K", 20_550, "audiomae", step=1, after="audiomae"),
        Job("uamix", "uamix", "AudioSet-20K", 20_550, "audiomae", step=2, after="uamix_head"),
    )
}


def find_job(name: str) -> Job:
    """The job of that name; KeyError names the nearest one."""
    if name not in JOBS:
        known = ", ".join(JOBS)
        raise KeyError(
            f"unknown job {name!r}; did you mean {nearest(name, tuple(JOBS))!r}? Jobs: {known}"
        )
    return JOBS[name]
