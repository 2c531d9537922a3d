"""The settings of data2vec 2.0's objective at four scales, and where each `paper` value comes from."""

from __future__ import annotations

from dataclasses import dataclass

from audiossl_lite.experiments.settings.audiomae import AUDIOMAE, AUDIOMAE_GPU, WORKSHOP, Masked
from audiossl_lite.experiments.settings.scales import GPU, OURS, TIMED, Scales


@dataclass(frozen=True)
class LatentPretraining(Masked):
    """Settings of one run that predicts a teacher's latents.

    Where: data2vec 2.0 Sec. 3; EAT Sec. 3; chapter 17
    """

    # what is hidden
    n_masks: int  # of a clip, which share one pass of the teacher
    block: int  # side of the squares that stay visible; 0: single patches
    block_extra: float
    # the networks
    top_blocks: int
    utterance_weight: float
    decoder_groups: int
    decoder_kernel: int
    # the run
    momentum: float
    final_momentum: float
    clip_norm: float


EAT = OURS | {
    "clips_per_class": (20, "not used at this scale: AudioSet has the size it has (EAT Sec. 4)"),
    "clip_s": (10.0, "EAT Sec. 4: AudioSet clips of 10 s"),
    "n_frames": (1024, "official code: 1024 frames"),
    "n_mels": (128, "official code: 128 bands"),
    "gain_db": (0.0, "official code: roll and gain are off unless asked for"),
    "count_padding": (True, "official code: padding is predicted like sound"),
    "n_masks": (16, "official code: 16 clones of a batch"),
    "mask_ratio": (0.8, "official code: 0.8"),
    "block": (5, "official code: 5 x 5 patches"),
    "block_extra": (0.07, "official code: 0.07, since squares overlap"),
    "encoder": ("audiomae_base", "official code: 12 blocks, 12 heads, 768 wide; post-norm there, pre-norm here"),
    "top_blocks": (12, "official code: all 12"),
    "utterance_weight": (1.0, "official code: 1, of errors summed over a card's batch, so 192 here"),
    "decoder_dim": (768, "official code: 768"),
    "decoder_depth": (6, "official code: 6"),
    "decoder_groups": (16, "official code: 16"),
    "decoder_kernel": (3, "official code: 3"),
    "steps": (400_000, "official code: 400,000, about 10 epochs"),
    "batch_size": (48, "official code: 4 GPUs of 12 clips"),
    "learning_rate": (5e-4, "official code: 5e-4"),
    "warmup_steps": (53_333, "official code: 53,333"),
    "final_learning_rate": (0.0, "official code: cosine to 0"),
    "weight_decay": (0.05, "official code: 0.05, constant"),
    "final_weight_decay": (0.05, "official code: 0.05, constant"),
    "momentum": (0.9998, "official code: 0.9998"),
    "final_momentum": (0.99999, "official code: 0.99999, straight within 100,000 steps; here by cosine over all"),
    "clip_norm": (4.0, "official code: 4"),
    "eps": (1e-8, "not stated; Adam's default"),
}  # fmt: skip
# Where both official codes have the same.
EAT |= {name: AUDIOMAE[name] for name in ("normalisation", "schedule", "beta_2", "precision")}
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
        # As much arithmetic as ATST: one of its steps, four maskings a clip, takes 3.1 of ATST's.
        workshop=SMALL | WORKSHOP | {"steps": 960, "warmup_steps": 96},
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
