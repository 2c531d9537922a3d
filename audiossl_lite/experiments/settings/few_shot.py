"""Settings of the few-shot grids at three scales, and where each `paper` value comes from."""

from __future__ import annotations

from dataclasses import dataclass

from audiossl_lite.experiments.settings.scales import Scales


@dataclass(frozen=True)
class FewShotGrids:
    """Settings of N-way K-shot episodes over all pools of classes.

    Where: uaMix-MAE Sec. 4.1; chapter 10
    """

    n_way: int  # of the table
    k_shots: tuple[int, ...]
    n_episodes: int
    n_query: int
    ways: tuple[int, ...]  # of the grids; above the number of classes: all of them
    shots: tuple[int, ...]
    grid_episodes: int  # of each cell
    mixings: tuple[str, ...]  # of `settings.uamix.VARIANTS`, beside the encoder set's own


FEW_SHOT_PAPER = {
    "n_way": (5, "uaMix-MAE Table 2: 5-way"),
    "k_shots": (
        (1, 5), "uaMix-MAE Table 2: 1-shot; 5-shot as the code of Ericsson et al. 2021, which the paper follows",
    ),
    "n_episodes": (600, "uaMix-MAE Sec. 4: 600"),
    "n_query": (15, "not stated; 15 for each class as the code of Ericsson et al. 2021"),
    "ways": ((2, 3, 5, 10, 20, 40), "uaMix-MAE Fig. 3 to 5; the values are not in the text, these are our choice"),
    "shots": ((1, 2, 5, 10, 20), "uaMix-MAE Fig. 3 to 5; the values are not in the text, these are our choice"),
    "grid_episodes": (600, "uaMix-MAE Sec. 4: 600"),
    "mixings": (("No Mixing", "MixUp + LS", "TF-CutMix"), "uaMix-MAE Fig. 4: no mixing, MixUp + LS; Fig. 5: TF-CutMix"),
}  # fmt: skip
FEW_SHOT: dict[str, Scales] = {
    "few_shot": Scales(
        FewShotGrids,
        paper=FEW_SHOT_PAPER,
        workshop={"shots": (1, 2, 5, 10)},
        lite={
            "ways": (2, 5, 10, 20),
            "shots": (1, 2, 5, 10),
            "grid_episodes": 100,
            "mixings": ("TF-CutMix",),
        },
    )
}
