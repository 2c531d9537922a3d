"""uaMix-MAE's settings at four scales, and where each `paper` value comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace


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
    projection_dim: int = 256
    k: int = 1  # one of the k nearest entries; 0: none, the anchor itself (InfoNCE)
    temperature: float = 0.15
    # mixtures
    mixing: str = "t_cutmix"
    rule: str = "paper"
    alpha: float = 1.0
    per_sample: bool = False
    symmetric: bool = False
    # positive pairs
    augmentation: str = "resized_crop"
    gain_db: float = 6.0
    # shared
    warmup_share: float = 0.2
    weight_decay: float = 0.05
    head_decay_scale: float = 2e-4
    momentum: float = 0.99
    precision: str = "32-true"
    log_every: int = 10
    save_every: int = 500
    probe_every: int = 0  # steps of step 2 between calls of the probe; 0: never


UAMIX_PAPER = Tuning(
    checkpoint="pretrained.pth",
    n_frames=1024,
    head_steps=1600,
    head_batch_size=512,
    head_learning_rate=1e-4,
    steps=25_600,
    batch_size=128,
    learning_rate=1e-4,
    layer_decay=0.65,
    ema_projector=True,
    hidden_dim=2048,
    predictor_dim=4096,
    queue_size=16_384,
    precision="bf16-mixed",
)
SMALL = {"checkpoint": "", "precision": "32-true", "hidden_dim": 512, "predictor_dim": 1024}
TUNED: dict[str, dict[str, Tuning]] = {
    "uamix": {
        "paper": UAMIX_PAPER,
        "gpu": replace(
            UAMIX_PAPER,
            checkpoint="",
            n_frames=208,
            head_steps=300,
            head_batch_size=256,
            head_learning_rate=1e-3,
            steps=2000,
            batch_size=256,
            learning_rate=1e-3,
            layer_decay=1.0,
            hidden_dim=1024,
            predictor_dim=2048,
            queue_size=4096,
            symmetric=True,
            log_every=50,
            save_every=1000,
        ),
        "workshop": replace(
            UAMIX_PAPER,
            **SMALL,
            n_frames=496,
            head_steps=60,
            head_batch_size=64,
            head_learning_rate=3e-3,
            steps=160,
            batch_size=48,
            learning_rate=3e-3,
            queue_size=320,
            probe_every=40,
        ),
        "lite": replace(
            UAMIX_PAPER,
            **SMALL,
            n_frames=400,
            head_steps=12,
            head_batch_size=64,
            head_learning_rate=1e-3,
            steps=16,
            batch_size=48,
            learning_rate=4e-3,
            queue_size=256,
        ),
    }
}
TUNED_SOURCES: dict[str, dict[str, str]] = {
    "uamix": {
        "checkpoint": "uaMix-MAE Sec. 4: the published AudioMAE encoder, given by path",
        "n_frames": "AudioMAE Sec. 4.1: 10 s padded to 1024 frames",
        "head_steps": "uaMix-MAE Sec. 4: 40 epochs of 20,550 / 512 = 40 steps",
        "head_batch_size": "uaMix-MAE Sec. 4: 512",
        "head_learning_rate": "uaMix-MAE Sec. 4: 1e-4, taken as absolute",
        "steps": "uaMix-MAE Sec. 4: 160 epochs of 20,550 / 128 = 160 steps",
        "batch_size": "uaMix-MAE Sec. 4: 128",
        "learning_rate": "uaMix-MAE Sec. 4: 1e-4, taken as absolute",
        "layer_decay": "uaMix-MAE Sec. 4: 0.65",
        "ema_projector": "not stated; as MAE-CT, which the paper follows",
        "hidden_dim": "2048: with it the trained parameters come to the paper's 50 M",
        "predictor_dim": "4096: with it the trained parameters come to the paper's 50 M",
        "queue_size": "not stated; below the number of clips, since older entries go stale",
        "projection_dim": "256, as MAE-CT",
        "k": "uaMix-MAE Sec. 4: 1",
        "temperature": "uaMix-MAE Sec. 4: 0.15",
        "mixing": "uaMix-MAE Sec. 3: T-CutMix",
        "rule": "uaMix-MAE Eq. 2, 3 as written",
        "alpha": "not stated; 1, as CutMix",
        "per_sample": "not stated; one lambda a batch",
        "symmetric": "uaMix-MAE Eq. 1, 4: one direction",
        "augmentation": "not stated (DA in Fig. 1); our choice",
        "gain_db": "not stated; our choice",
        "warmup_share": "not stated; 20 % as MAE-CT",
        "weight_decay": "not stated; 0.05 as MAE-CT",
        "head_decay_scale": "not stated; 1e-5 for the head as MAE-CT",
        "momentum": "not stated; 0.99 as MAE-CT",
        "precision": "this project",
        "log_every": "this project",
        "save_every": "this project",
        "probe_every": "this project",
    }
}
