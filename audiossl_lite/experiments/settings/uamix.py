"""uaMix-MAE's settings at four scales, and where each `paper` value comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from audiossl_lite.experiments.settings.audiomae import MASKED, MaskedPretraining
from audiossl_lite.experiments.settings.scales import LOGGED, OURS, TIMED, Scales


@dataclass(frozen=True)
class Tuning:
    """Settings of progressive retraining: step 1 trains the head, step 2 the upper half of the encoder with it.

    Where: uaMix-MAE Sec. 4; chapter 09
    """

    # where it starts
    checkpoint: str  # a published AudioMAE file; empty: an encoder pretrained by this project
    n_frames: int
    # step 1
    head_steps: int
    head_batch_size: int
    head_learning_rate: float
    # step 2
    steps: int
    batch_size: int
    learning_rate: float
    layer_decay: float
    ema_projector: bool
    # head and queue
    hidden_dim: int
    predictor_dim: int
    queue_size: int
    projection_dim: int
    k: int  # one of the k nearest entries; 0: none, the anchor itself (InfoNCE)
    temperature: float
    # mixtures
    mixing: str
    rule: str
    alpha: float
    per_sample: bool
    symmetric: bool
    # positive pairs
    segments: str  # both views from "one" crop, or from "two"
    augmentation: str
    gain_db: float
    # shared
    warmup_share: float
    weight_decay: float
    head_decay_scale: float
    momentum: float
    precision: str
    log_every: int
    save_every: int
    probe_every: int  # steps of step 2 between calls of the probe; 0: never

    @property
    def start(self) -> MaskedPretraining:
        """Settings of the encoder that is tuned: the published one's if `checkpoint` names it, else those of `lite`."""
        scale = "paper" if self.checkpoint else "lite"
        return replace(MASKED["audiomae"][scale], n_frames=self.n_frames)


UAMIX = OURS | {
    "checkpoint": ("pretrained.pth", "uaMix-MAE Sec. 4: the published AudioMAE encoder, given by path"),
    "n_frames": (1024, "AudioMAE Sec. 4.1: 10 s padded to 1024 frames"),
    "head_steps": (1600, "uaMix-MAE Sec. 4: 40 epochs of 20,550 / 512 = 40 steps"),
    "head_batch_size": (512, "uaMix-MAE Sec. 4: 512"),
    "head_learning_rate": (1e-4, "uaMix-MAE Sec. 4: 1e-4, taken as absolute"),
    "steps": (25_600, "uaMix-MAE Sec. 4: 160 epochs of 20,550 / 128 = 160 steps"),
    "batch_size": (128, "uaMix-MAE Sec. 4: 128"),
    "learning_rate": (1e-4, "uaMix-MAE Sec. 4: 1e-4, taken as absolute"),
    "layer_decay": (0.65, "uaMix-MAE Sec. 4: 0.65"),
    "ema_projector": (True, "not stated; as MAE-CT, which the paper follows"),
    "hidden_dim": (2048, "2048: with it the trained parameters come to the paper's 50 M"),
    "predictor_dim": (4096, "4096: with it the trained parameters come to the paper's 50 M"),
    "queue_size": (16_384, "not stated; below the number of clips, since older entries go stale"),
    "projection_dim": (256, "256, as MAE-CT"),
    "k": (1, "uaMix-MAE Sec. 4: 1"),
    "temperature": (0.15, "uaMix-MAE Sec. 4: 0.15"),
    "mixing": ("t_cutmix", "uaMix-MAE Sec. 3: T-CutMix"),
    "rule": ("paper", "uaMix-MAE Eq. 2, 3 as written"),
    "alpha": (1.0, "not stated; 1, as CutMix"),
    "per_sample": (False, "not stated; one lambda a batch"),
    "symmetric": (False, "uaMix-MAE Eq. 1, 4: one direction"),
    "segments": ("one", "not stated (DA in Fig. 1); our choice: both views from one crop"),
    "augmentation": ("resized_crop", "not stated (DA in Fig. 1); our choice"),
    "gain_db": (6.0, "not stated; our choice"),
    "warmup_share": (0.2, "not stated; 20 % as MAE-CT"),
    "weight_decay": (0.05, "not stated; 0.05 as MAE-CT"),
    "head_decay_scale": (2e-4, "not stated; 1e-5 for the head as MAE-CT"),
    "momentum": (0.99, "not stated; 0.99 as MAE-CT"),
    "precision": ("bf16-mixed", "this project"),
}  # fmt: skip
UAMIX_GPU = LOGGED | {
    "checkpoint": ("", "chosen by the data: starts from the AudioMAE of the same run"),
    "n_frames": (208, "chosen by the start: its crop"),
    "head_steps": (300, "chosen by time: a tenth of the stage's share"),
    "head_batch_size": (256, "chosen by the corpus, as step 2"),
    "head_learning_rate": (1e-3, "chosen by one small run on a CPU"),
    "batch_size": (256, "chosen by the corpus: more negatives than the paper's 128, and no more steps than fit"),
    "learning_rate": (1e-3, "chosen by one small run on a CPU: 1e-3 learned its task, smaller rates did not"),
    "layer_decay": (1.0, "chosen by one small run on a CPU: 1.0 learned its task, 0.65 did not"),
    "hidden_dim": (1024, "chosen by time"),
    "predictor_dim": (2048, "chosen by time"),
    "queue_size": (4096, "chosen by the corpus: about half its clips"),
    "symmetric": (True, "chosen by one small run on a CPU: both directions learned their task, one did not"),
    "steps": (2000, TIMED),
}  # fmt: skip
SMALL = {"checkpoint": "", "precision": "32-true", "hidden_dim": 512, "predictor_dim": 1024}
TUNED: dict[str, Scales] = {
    "uamix": Scales(
        Tuning,
        paper=UAMIX,
        gpu=UAMIX_GPU,
        # The study of real sounds and the jobs on one's own.
        workshop={
            "checkpoint": "",
            "n_frames": 208,
            "head_steps": 100,
            "head_batch_size": 64,
            "head_learning_rate": 1e-3,
            "steps": 600,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "layer_decay": 1.0,
            "hidden_dim": 1024,
            "predictor_dim": 2048,
            "queue_size": 4096,
            "precision": "auto",
            "log_every": 50,
            "save_every": 100,
        },
        lite=SMALL
        | {
            "n_frames": 400,
            "head_steps": 12,
            "head_batch_size": 64,
            "head_learning_rate": 1e-3,
            "steps": 16,
            "batch_size": 48,
            "learning_rate": 4e-3,
            "queue_size": 256,
        },
    )
}

START = "AudioMAE, as pretrained"  # what tables call the encoder that is tuned
# Each variant is a change of these settings, nothing else. On chapter 09's page all start from one head; the study of
# real sounds trains step 1 with the variant's own `symmetric` and `k`. The table has the rows of Table 3, TF-CutMix
# of Fig. 5 and the corrected label rules; the others try what the paper leaves open.
TABLE: dict[str, dict[str, Any]] = {
    "No Mixing": {"mixing": "none"},
    "T-CutMix, rule paper": {"mixing": "t_cutmix", "rule": "paper"},
    "MixUp + LS": {"mixing": "mixup"},
    "TF-CutMix": {"mixing": "tf_cutmix"},
    "T-CutMix, rule effective": {"mixing": "t_cutmix", "rule": "effective"},
    "T-CutMix, rule linear": {"mixing": "t_cutmix", "rule": "linear"},
}
VARIANTS: dict[str, dict[str, Any]] = TABLE | {
    "InfoNCE, no neighbours": {"mixing": "none", "k": 0},
    "No Mixing, both directions": {"mixing": "none", "symmetric": True},
    "T-CutMix, both directions": {"mixing": "t_cutmix", "rule": "paper", "symmetric": True},
    "MixUp + LS, both directions": {"mixing": "mixup", "symmetric": True},
    "InfoNCE, both directions": {"mixing": "none", "k": 0, "symmetric": True},
}
