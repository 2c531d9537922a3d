"""The masked autoencoder's settings at four scales, and where each `paper` value comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class MaskedPretraining:
    """Settings of one masked-autoencoder run, from clips to trained encoder.

    Where: AudioMAE Sec. 4; chapter 06
    """

    # data (embedded sounds only: real data has the size it has)
    clips_per_class: int
    clip_s: float
    # what the network sees
    n_frames: int  # a multiple of 16; also what the encoder takes at most
    n_mels: int  # a multiple of 16
    normalisation: str  # "audioset" constants, or "fitted" to the clips
    gain_db: float
    count_padding: bool
    # what is hidden
    mask_ratio: float
    structured: bool
    time_ratio: float
    freq_ratio: float
    norm_patches: bool
    # the networks
    encoder: str  # a function of audiossl_lite.encoders
    decoder: str  # "global" or "window"
    decoder_dim: int
    decoder_depth: int
    decoder_heads: int
    # the run
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    final_learning_rate: float = 0.0
    schedule: str = "cosine"
    weight_decay: float = 1e-4
    final_weight_decay: float = 1e-4
    beta_2: float = 0.95
    eps: float = 1e-8
    precision: str = "32-true"
    log_every: int = 10
    save_every: int = 500
    probe_every: int = 0


STEPS_PER_EPOCH = (
    2_000_000 // 512
)  # AudioSet-2M; clips that can no longer be downloaded make it fewer
AUDIOMAE_PAPER = MaskedPretraining(
    clips_per_class=20,
    clip_s=10.0,
    n_frames=1024,
    n_mels=128,
    normalisation="audioset",
    gain_db=2.0,
    count_padding=True,
    mask_ratio=0.8,
    structured=False,
    time_ratio=0.6,
    freq_ratio=0.5,
    norm_patches=True,
    encoder="audiomae_base",
    decoder="window",
    decoder_dim=512,
    decoder_depth=16,
    decoder_heads=16,
    steps=33 * STEPS_PER_EPOCH,
    batch_size=512,
    learning_rate=4e-4,
    warmup_steps=3 * STEPS_PER_EPOCH,
    precision="bf16-mixed",
)
SMALL = {
    "normalisation": "fitted",
    "count_padding": False,
    "encoder": "audiomae_tiny",
    "decoder": "global",
    "decoder_dim": 128,
    "decoder_depth": 2,
    "decoder_heads": 4,
    "precision": "32-true",
}
MASKED: dict[str, dict[str, MaskedPretraining]] = {
    "audiomae": {
        "paper": AUDIOMAE_PAPER,
        "gpu": replace(
            AUDIOMAE_PAPER,
            n_frames=208,
            normalisation="fitted",
            count_padding=False,
            encoder="audiomae_small",
            decoder="global",
            decoder_dim=256,
            decoder_depth=4,
            decoder_heads=4,
            clip_s=5.0,
            steps=4600,
            warmup_steps=460,
            learning_rate=1e-3,
            log_every=50,
            save_every=1000,
        ),
        "workshop": replace(
            AUDIOMAE_PAPER,
            **SMALL,
            clips_per_class=40,
            clip_s=5.0,
            n_frames=496,
            n_mels=64,
            steps=400,
            batch_size=64,
            learning_rate=3e-3,
            warmup_steps=20,
            probe_every=100,
            save_every=250,
        ),
        "lite": replace(
            AUDIOMAE_PAPER,
            **SMALL,
            clips_per_class=16,
            clip_s=4.0,
            n_frames=400,
            n_mels=64,
            steps=150,
            batch_size=32,
            gain_db=0.0,
            learning_rate=3e-3,
            warmup_steps=10,
            log_every=10,
        ),
    }
}
MASKED_SOURCES: dict[str, dict[str, str]] = {
    "audiomae": {
        "clips_per_class": "not used at this scale: AudioSet has the size it has (AudioMAE Sec. 4.1)",
        "clip_s": "AudioMAE Sec. 4.1: AudioSet clips of 10 s",
        "n_frames": "AudioMAE Sec. 4.1: 1024 frames",
        "n_mels": "AudioMAE Sec. 4.1: 128 bands",
        "normalisation": "official code: AudioSet's mean and std",
        "gain_db": "official code: a factor Beta(10, 10) + 0.5; here uniform in dB with a like spread",
        "count_padding": "official code: padding is reconstructed like sound",
        "mask_ratio": "AudioMAE Sec. 4: 0.8",
        "structured": "AudioMAE Sec. 4: unstructured for pretraining",
        "time_ratio": "official code: the model's default, used when structured",
        "freq_ratio": "official code: the model's default, used when structured",
        "norm_patches": "official code: on",
        "encoder": "AudioMAE Sec. 4: ViT-B, 12 blocks, 12 heads, 768 wide",
        "decoder": "official code: decoder mode 1, windows of 4 x 4 patches",
        "decoder_dim": "official code: 512",
        "decoder_depth": "official code: 16",
        "decoder_heads": "official code: 16",
        "steps": "official code: 33 epochs of about 2,000,000 / 512 steps",
        "batch_size": "official code: 64 GPUs of 8 clips",
        "learning_rate": "official code: 2e-4 x 512 / 256",
        "warmup_steps": "official code: 3 epochs",
        "final_learning_rate": "official code: half-cosine to 0",
        "schedule": "official code: cosine",
        "weight_decay": "official code: 1e-4, constant",
        "final_weight_decay": "official code: 1e-4, constant",
        "beta_2": "official code: 0.95",
        "eps": "AdamW's default",
        "precision": "official code: fp16; bf16 needs no loss scaling",
        "log_every": "this project",
        "save_every": "this project",
        "probe_every": "this project",
    }
}
