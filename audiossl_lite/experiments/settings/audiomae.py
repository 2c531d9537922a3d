"""The masked autoencoder's settings at four scales, and where each `paper` value comes from."""

from __future__ import annotations

from dataclasses import dataclass

from audiossl_lite.experiments.settings.scales import GPU, OURS, TIMED, Scales


@dataclass(frozen=True)
class Masked:
    """What every run on masked clips sets, from clips to trained encoder."""

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
    # the networks
    encoder: str  # a function of audiossl_lite.encoders
    decoder_dim: int
    decoder_depth: int
    # the run
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    final_learning_rate: float
    schedule: str
    weight_decay: float
    final_weight_decay: float
    beta_2: float
    eps: float
    precision: str
    log_every: int
    save_every: int
    probe_every: int


@dataclass(frozen=True)
class MaskedPretraining(Masked):
    """Settings of one masked-autoencoder run.

    Where: AudioMAE Sec. 4; chapter 06
    """

    # what is hidden
    structured: bool
    time_ratio: float
    freq_ratio: float
    norm_patches: bool
    # the decoder
    decoder: str  # "global" or "window"
    decoder_heads: int


# AudioSet-2M; clips that can no longer be downloaded make it fewer.
STEPS_PER_EPOCH = 2_000_000 // 512
AUDIOMAE = OURS | {
    "clips_per_class": (20, "not used at this scale: AudioSet has the size it has (AudioMAE Sec. 4.1)"),
    "clip_s": (10.0, "AudioMAE Sec. 4.1: AudioSet clips of 10 s"),
    "n_frames": (1024, "AudioMAE Sec. 4.1: 1024 frames"),
    "n_mels": (128, "AudioMAE Sec. 4.1: 128 bands"),
    "normalisation": ("audioset", "official code: AudioSet's mean and std"),
    "gain_db": (2.0, "official code: a factor Beta(10, 10) + 0.5; here uniform in dB with a like spread"),
    "count_padding": (True, "official code: padding is reconstructed like sound"),
    "mask_ratio": (0.8, "AudioMAE Sec. 4: 0.8"),
    "structured": (False, "AudioMAE Sec. 4: unstructured for pretraining"),
    "time_ratio": (0.6, "official code: the model's default, used when structured"),
    "freq_ratio": (0.5, "official code: the model's default, used when structured"),
    "norm_patches": (True, "official code: on"),
    "encoder": ("audiomae_base", "AudioMAE Sec. 4: ViT-B, 12 blocks, 12 heads, 768 wide"),
    "decoder": ("window", "official code: decoder mode 1, windows of 4 x 4 patches"),
    "decoder_dim": (512, "official code: 512"),
    "decoder_depth": (16, "official code: 16"),
    "decoder_heads": (16, "official code: 16"),
    "steps": (33 * STEPS_PER_EPOCH, "official code: 33 epochs of about 2,000,000 / 512 steps"),
    "batch_size": (512, "official code: 64 GPUs of 8 clips"),
    "learning_rate": (4e-4, "official code: 2e-4 x 512 / 256"),
    "warmup_steps": (3 * STEPS_PER_EPOCH, "official code: 3 epochs"),
    "final_learning_rate": (0.0, "official code: half-cosine to 0"),
    "schedule": ("cosine", "official code: cosine"),
    "weight_decay": (1e-4, "official code: 1e-4, constant"),
    "final_weight_decay": (1e-4, "official code: 1e-4, constant"),
    "beta_2": (0.95, "official code: 0.95"),
    "eps": (1e-8, "AdamW's default"),
    "precision": ("bf16-mixed", "official code: fp16; bf16 needs no loss scaling"),
}  # fmt: skip
AUDIOMAE_GPU = GPU | {
    "n_frames": (208, "chosen by the clips: 2 s, so that what is hidden is sound"),
    "normalisation": ("fitted", "chosen by the data: other sounds than AudioSet"),
    "gain_db": (2.0, "as workshop"),
    "count_padding": (False, "chosen by the clips: padding is not to be predicted"),
    "encoder": ("audiomae_compact", "chosen by time: some hundred epochs in a minute; its file can be shipped"),
    "decoder": ("global", "chosen by length: with 2 s all patches fit in one window"),
    "decoder_dim": (256, "chosen by time"),
    "decoder_depth": (4, "chosen by time"),
    "decoder_heads": (4, "chosen by time"),
    "learning_rate": (2e-3, "chosen by runs on a CPU, scored on classes heard: it left the plateau"),
    "steps": (4600, TIMED),
    "warmup_steps": (460, GPU["warmup_steps"][1]),
}  # fmt: skip
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
# The study of real sounds and the jobs on one's own: up to an hour of one core.
WORKSHOP = {
    "clip_s": 5.0,
    "n_frames": 208,
    "n_mels": 64,
    "batch_size": 64,
    "precision": "auto",
    "log_every": 50,
    "save_every": 100,
}
MASKED: dict[str, Scales] = {
    "audiomae": Scales(
        MaskedPretraining,
        paper=AUDIOMAE,
        gpu=AUDIOMAE_GPU,
        workshop=SMALL | WORKSHOP | {"learning_rate": 7e-4, "steps": 12_000, "warmup_steps": 1200},
        lite=SMALL
        | {
            "clips_per_class": 16,
            "clip_s": 4.0,
            "n_frames": 400,
            "n_mels": 64,
            "steps": 150,
            "batch_size": 32,
            "gain_db": 0.0,
            "learning_rate": 3e-3,
            "warmup_steps": 10,
            "log_every": 10,
        },
    )
}
