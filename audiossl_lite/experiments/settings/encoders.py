"""Which encoders chapters 10 to 12 evaluate and how long each is trained, at three scales."""

from __future__ import annotations

from dataclasses import dataclass

from audiossl_lite.experiments.settings.scales import Scales


@dataclass(frozen=True)
class EncoderRuns:
    """Settings of the encoders under evaluation; all other settings are those of their own experiments.

    Where: ATST Sec. 3.1; uaMix-MAE Sec. 4; chapter 10
    """

    n_seeds: int  # runs of every method: seed, seed + 1, ...
    # data: of embedded sounds; of real voices at most so many clips of each speaker, real sounds have their length
    clips_per_class: int
    clip_s: float
    # BYOL-A and ATST: experiments "byola" and "atst"
    byola_steps: int
    byola_batch_size: int
    atst_steps: int
    atst_batch_size: int
    momentum: float  # of the teacher at the start
    # AudioMAE and uaMix-MAE: experiments "audiomae" and "uamix"
    mae_steps: int
    head_steps: int
    tuning_steps: int
    variant: str  # of `settings.uamix.VARIANTS`


_METHOD = "as the experiment of the method has it"
PAPER = {
    "n_seeds": (1, "the papers report one run"),
    "clips_per_class": (20, "not used for AudioSet: it has the size it has"),
    "clip_s": (10.0, "ATST Sec. 3.1 and AudioMAE Sec. 4.1: AudioSet clips of 10 s"),
    "byola_steps": (767_100, f"BYOL-A Sec. 4.1: 100 epochs of AudioSet; {_METHOD}"),
    "byola_batch_size": (256, f"BYOL-A Sec. 4.1: 256; {_METHOD}"),
    "atst_steps": (39_000, f"ATST Sec. 3.1: 300 epochs of 200,000 clips; {_METHOD}"),
    "atst_batch_size": (1536, f"ATST Sec. 3.1: 1536; {_METHOD}"),
    "momentum": (0.99, "ATST Sec. 3.1 and BYOL-A Sec. 4.1: 0.99"),
    "mae_steps": (128_898, f"AudioMAE Sec. 4: 32 epochs and part of one; {_METHOD}"),
    "head_steps": (1600, f"uaMix-MAE Sec. 4; {_METHOD}"),
    "tuning_steps": (25_600, f"uaMix-MAE Sec. 4; {_METHOD}"),
    "variant": ("T-CutMix, rule paper", "uaMix-MAE Eq. 2 and 3, as written"),
}  # fmt: skip
ENCODER_RUNS: dict[str, Scales] = {
    "encoders": Scales(
        EncoderRuns,
        paper=PAPER,
        workshop={
            "n_seeds": 3,
            "clips_per_class": 40,
            "clip_s": 5.0,
            "byola_steps": 1500,
            "byola_batch_size": 64,
            "atst_steps": 3000,
            "atst_batch_size": 64,
            "momentum": 0.99,
            "mae_steps": 12_000,
            "head_steps": 100,
            "tuning_steps": 600,
        },
        lite={
            "clips_per_class": 8,
            "clip_s": 2.5,
            "byola_steps": 32,
            "byola_batch_size": 32,
            "atst_steps": 20,
            "atst_batch_size": 32,
            "momentum": 0.95,
            "mae_steps": 32,
            "head_steps": 8,
            "tuning_steps": 9,
        },
    )
}
