"""The stages in order of worth: what a GPU's minutes are spent on first.

`at_least_s` is what a stage needs to say something on a large GPU. With little time the first stages get that much, and
the others wait for a second call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audiossl_lite.experiments.real_sounds.task import Stage

GPU, REAL_SOUNDS = "audiossl_lite.experiments.gpu", "audiossl_lite.experiments.real_sounds"
# The jobs of both papers: (name of the job, title).
FIRST_TIMED = {
    "atst_small": "ATST-Small",
    "audiomae": "AudioMAE, ViT-B",
    "uamix": "uaMix-MAE, step 2",
}
THEN_TIMED = {
    "atst_base": "ATST-Base",
    "byola": "BYOL-A",
    "uamix_head": "uaMix-MAE, step 1",
}
TIMED = FIRST_TIMED | THEN_TIMED


def fast(job: str, title: str) -> Stage:
    """A stage that times the training step of a job of the papers."""
    return Stage(
        f"fast_{job}", f"Fast: {title}", f"{GPU}.fast:run", 2.0,
        at_least_s=75.0, at_most_s=150.0, needs=("card",), options={"job": job},
    )  # fmt: skip


def learnt(
    name: str,
    title: str,
    share: float,
    *,
    needs: Sequence[str] = (),
    seconds: float = 45.0,
    **options,
) -> Stage:
    """A stage that trains on real sounds: `options` name the method and settings of its preset."""
    return Stage(
        f"learnt_{name}",
        f"Learnt: {title}",
        f"{REAL_SOUNDS}.learnt:run",
        share,
        at_least_s=seconds,
        needs=("sounds", *(f"learnt_{n}" for n in needs)),
        beside=True,
        options=options,
    )


# What is trained on real sounds: transformers small enough to see some hundred epochs in a minute, to bring back and
# to ship (a file of 13 MB in 16 bits, where ATST-Small has 43). A stage that is `like` another takes its steps and
# sizes, so that the two differ in what its options say alone; where they take longer than its share, a second call
# goes on.
LEARNT = (
    learnt("atst", "ATST, compact", 8.0, method="atst"),
    learnt("audiomae", "AudioMAE, compact", 8.0, method="audiomae"),
    learnt(
        "uamix", "uaMix-MAE, T-CutMix", 5.0, needs=["audiomae"], method="uamix", mixing="t_cutmix"
    ),
    *(
        learnt(
            f"uamix_{mixing}",
            f"uaMix-MAE, {title}",
            5.0,
            needs=["audiomae"],
            method="uamix",
            mixing=mixing,
            like="learnt_uamix",
        )
        for mixing, title in (("none", "No Mixing"), ("mixup", "MixUp"))
    ),
    learnt("cnn", "CNN, InfoNCE", 5.0, method="cnn"),
    learnt("byola", "BYOL-A", 4.0, method="byola"),
)
# For a second call: the first one's time belongs to the rest.
LATE = {"share": 0.1, "seconds": 60.0}
LARGER = learnt("atst_small", "ATST-Small", **LATE, method="atst", encoder="atst_small")
SEEDS = tuple(
    learnt(
        f"{stage.name.removeprefix('learnt_')}_seed_{seed}",
        f"{stage.title.removeprefix('Learnt: ')}, seed {seed}",
        **LATE,
        needs=[
            stage.name.removeprefix("learnt_"),
            *([f"audiomae_seed_{seed}"] if stage.options["method"] == "uamix" else []),
        ],
        **stage.options
        | {"seed": seed, "like": stage.name, "start": f"learnt_audiomae_seed_{seed}"},
    )
    for seed in (1, 2)
    for stage in LEARNT
)

# Steps of small encoders wait for their host (AudioMAE, compact: 38 ms on an H200's), so these stages share the card.
TOGETHER = 6

FIRST: tuple[Stage, ...] = (
    Stage("card", "Card", f"{GPU}.card:run", 1.0, at_least_s=15.0, at_most_s=30.0),
    Stage("right", "Right", f"{GPU}.right:run", 3.0, at_least_s=60.0, at_most_s=90.0),
    Stage(
        "sounds",
        "Sounds, decoded",
        f"{REAL_SOUNDS}.sounds:run",
        4.0,
        at_least_s=30.0,
        at_most_s=90.0,
    ),
    *LEARNT,
    *(fast(job, title) for job, title in FIRST_TIMED.items()),
    Stage("fed", "Fed", f"{GPU}.fed:run", 1.5, at_least_s=20.0, at_most_s=40.0, needs=("card",)),
    *(fast(job, title) for job, title in THEN_TIMED.items()),
)
STAGES: tuple[Stage, ...] = (*FIRST, LARGER, *SEEDS)


def toy_stages(stages: Sequence[Stage]) -> list[Stage]:
    """The same stages at the sizes of a CPU: each may start with any time left, and take half of it."""
    return [
        replace(stage, at_least_s=1.0, at_most_s=30.0, share=0.5**n)
        for n, stage in enumerate(stages)
    ]
