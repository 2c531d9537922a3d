"""The stages in order of worth: what a GPU's minutes are spent on first."""

from __future__ import annotations

from audiossl_lite.gpu.task import Stage

# The jobs of both papers, largest doubt first: (name of the job, title).
TIMED = {
    "atst_small": "ATST-Small",
    "audiomae": "AudioMAE, ViT-B",
    "uamix": "uaMix-MAE, step 2",
    "atst_base": "ATST-Base",
    "byola": "BYOL-A",
    "uamix_head": "uaMix-MAE, step 1",
}

STAGES: tuple[Stage, ...] = (
    Stage("card", "Card", "audiossl_lite.gpu.card:run", 1.0, at_most_s=30.0),
    Stage("right", "Right", "audiossl_lite.gpu.right:run", 3.0, at_most_s=90.0),
    *(
        Stage(
            f"fast_{job}", f"Fast: {title}", "audiossl_lite.gpu.fast:run", 2.0,
            at_least_s=20.0, at_most_s=60.0, needs=("card",), options={"job": job},
        )
        for job, title in TIMED.items()
    ),
    Stage("fed", "Fed", "audiossl_lite.gpu.fed:run", 1.5, at_most_s=40.0, needs=("card",)),
    Stage("sounds", "Sounds, decoded", "audiossl_lite.gpu.sounds:run", 1.5, at_most_s=60.0),
    Stage("learnt_atst", "Learnt: ATST", "audiossl_lite.gpu.learnt:run", 8.0, needs=("sounds",),
          options={"method": "atst", "seed": 0}),
    Stage("learnt_audiomae", "Learnt: AudioMAE", "audiossl_lite.gpu.learnt:run", 8.0, needs=("sounds",),
          options={"method": "audiomae", "seed": 0}),
)  # fmt: skip
