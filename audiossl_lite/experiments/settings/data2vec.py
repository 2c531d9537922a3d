"""The settings of data2vec 2.0's objective at four scales, and where each `paper` value comes from."""

from __future__ import annotations

from dataclasses import dataclass

from audiossl_lite.experiments.settings.audiomae import AUDIOMAE_GPU
from audiossl_lite.experiments.settings.scales import GPU, TIMED, Scales


@dataclass(frozen=True)
class LatentPretraining:
    """Settings of one run that predicts a teacher's latents, from clips to trained encoder.

    Where: data2vec 2.0 Sec. 3; EAT Sec. 3; chapter 17
    """

    # data (embedded sounds only: real data has the size it has)
    clips_per_class: int
    clip_s: float
    # what the networks see
    n_frames: int  # a multiple of 16; also what the encoder takes at most
    n_mels: int  # a multiple of 16
    normalisation: str  # "audioset" constants, or "fitted" to the clips
    gain_db: float
    count_padding: bool
    # what is hidden
    n_masks: int  # of a clip, which share one pass of the teacher
    mask_ratio: float
    block: int  # side of the squares that stay visible; 0: single patches
    block_extra: float
    # the networks
    encoder: str  # a function of audiossl_lite.encoders
    top_blocks: int
    utterance_weight: float
    decoder_dim: int
    decoder_depth: int
    decoder_groups: int
    decoder_kernel: int
    # the run
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    final_learning_rate: float
    schedule: str
    weight_decay: float
    final_weight_decay: float
    momentum: float
    final_momentum: float
    clip_norm: float
    beta_2: float
    eps: float
    precision: str
    log_every: int
    save_every: int
    probe_every: int


EAT = {
    "clips_per_class": (20, "not used at this scale: AudioSet has the size it has (EAT Sec. 4)"),
    "clip_s": (10.0, "EAT Sec. 4: AudioSet clips of 10 s"),
    "n_frames": (1024, "official code: 1024 frames"),
    "n_mels": (128, "official code: 128 bands"),
    "normalisation": ("audioset", "official code: AudioSet's mean and std"),
    "gain_db": (0.0, "official code: roll and gain are off unless asked for"),
    "count_padding": (True, "official code: padding is predicted like sound"),
    "n_masks": (16, "official code: 16 clones of a batch"),
    "mask_ratio": (0.8, "official code: 0.8"),
    "block": (5, "official code: 5 x 5 patches"),
    "block_extra": (0.07, "official code: 0.07, since squares overlap"),
    "encoder": ("audiomae_base", "official code: 12 blocks, 12 heads, 768 wide; post-norm there, pre-norm here"),
    "top_blocks": (12, "official code: all 12"),
    "utterance_weight": (1.0, "official code: 1"),
    "decoder_dim": (768, "official code: 768"),
    "decoder_depth": (6, "official code: 6"),
    "decoder_groups": (16, "official code: 16"),
    "decoder_kernel": (3, "official code: 3"),
    "steps": (400_000, "official code: 400,000, about 10 epochs"),
    "batch_size": (48, "official code: 4 GPUs of 12 clips"),
    "learning_rate": (5e-4, "official code: 5e-4"),
    "warmup_steps": (53_333, "official code: 53,333"),
    "final_learning_rate": (0.0, "official code: cosine to 0"),
    "schedule": ("cosine", "official code: cosine"),
    "weight_decay": (0.05, "official code: 0.05, constant"),
    "final_weight_decay": (0.05, "official code: 0.05, constant"),
    "momentum": (0.9998, "official code: 0.9998"),
    "final_momentum": (0.99999, "official code: 0.99999, straight within 100,000 steps; here by cosine over all"),
    "clip_norm": (4.0, "official code: 4"),
    "beta_2": (0.95, "official code: 0.95"),
    "eps": (1e-8, "not stated; Adam's default"),
    "precision": ("bf16-mixed", "official code: fp16; bf16 needs no loss scaling"),
    "log_every": (10, "this project"),
    "save_every": (500, "this project"),
    "probe_every": (0, "this project"),
}  # fmt: skip
EAT_GPU = GPU | {
    name: AUDIOMAE_GPU[name] for name in ("n_frames", "normalisation", "count_padding", "encoder")
} | {
    "n_masks": (4, "chosen by time"),
    "block": (3, "chosen by the clips: 2 s are 13 x 8 patches"),
    "top_blocks": (8, "as paper: all blocks"),
    "decoder_dim": (256, "chosen by time"),
    "decoder_depth": (3, "chosen by the clips: a hidden patch is never far from a visible one"),
    "learning_rate": (1e-3, "as ATST at this scale"),
    "momentum": (0.99, "chosen by length: a slower teacher does not leave its start"),
    "final_momentum": (0.999, "chosen by length: a slower teacher does not leave its start"),
    "steps": (4600, TIMED),
    "warmup_steps": (460, GPU["warmup_steps"][1]),
}  # fmt: skip
SMALL = {
    "normalisation": "fitted",
    "count_padding": False,
    "n_masks": 4,
    "block": 3,
    "encoder": "audiomae_tiny",
    "top_blocks": 6,
    "decoder_dim": 192,
    "decoder_depth": 3,
    "learning_rate": 1e-3,
    "momentum": 0.99,
    "final_momentum": 0.999,
    "precision": "32-true",
}
LATENT: dict[str, Scales] = {
    "eat": Scales(
        LatentPretraining,
        paper=EAT,
        gpu=EAT_GPU,
        workshop=SMALL
        | {
            "clips_per_class": 40,
            "clip_s": 5.0,
            "n_frames": 496,
            "n_mels": 64,
            "steps": 400,
            "batch_size": 32,
            "warmup_steps": 20,
            "probe_every": 100,
            "save_every": 250,
        },
        lite=SMALL
        | {
            "clips_per_class": 8,
            "clip_s": 4.0,
            "n_frames": 400,
            "n_mels": 64,
            "steps": 16,
            "batch_size": 16,
            "learning_rate": 3e-3,
            "warmup_steps": 2,
            "momentum": 0.95,
            "final_momentum": 0.99,
            "log_every": 2,
        },
    )
}
