"""What linear evaluation, fine-tuning and t-SNE can be set to; the values stand in `experiments/settings`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinearEvaluation:
    """Settings of linear classifiers on frozen features."""

    # features
    max_s: float  # longer clips are cut to their centre
    chunk_frames: int  # then into chunks, whose features are averaged
    mean_over: str  # "official" or "chunk": what the token sum of a chunk is divided by
    # the classifiers
    learning_rates: tuple[float, ...]  # one classifier each, all trained at once
    scale_rates: bool  # multiply them by batch_size / 256
    epochs: int
    batch_size: int
    final_learning_rate: float
    normalise: bool  # batch norm without parameters before the linear layer
    momentum: float
    init_std: float
    evaluate_every: int  # epochs between looks at the validation data
    # the choice of rate and epoch
    validation_share: float  # of the training data, where a task has no validation data
    refit: bool  # then train once more, on training and validation data together


@dataclass(frozen=True)
class FineTuning:
    """Settings of training encoder and classifier together."""

    # the network
    head: str  # "atst": CLS and mean, batch norm; "audiomae": mean, layer norm; "embedding": as the encoder embeds
    drop_path: float  # of the last block; grows linearly from 0 at the first
    chunk_frames: int  # "atst" only: longer clips are cut into chunks
    max_s: float  # longer clips are cut to their centre; 0: left to the frontend, which keeps the beginning
    count_padding: bool  # "audiomae" only: padded patches count as sound
    # the run
    optimizer: str  # "sgd" or "adamw"
    learning_rate: float  # multiplied by batch_size / 256
    layer_decay: float  # learning rate of a block over that of the next; 1: the same for all
    stem_apart: bool  # the patch embedding is one step below the first block, not at its rate
    epochs: int
    warmup_epochs: int
    batch_size: int
    final_learning_rate: float
    weight_decay: float
    clip_norm: float  # of the gradient; 0: not clipped
    loss: str  # "bce" or "ce"
    # the data
    mixup_alpha: float
    mixup_probability: float
    mixup: str  # "linear" in the spectrogram's values, or "power": as waveforms add
    resized_crop: bool
    spec_frames: int  # longest stretch of time that is covered
    spec_bands: int  # widest band that is covered
    gain_db: float
    mask_time: float  # "audiomae" only: share of the patch rows that the encoder is not shown
    mask_freq: float
    # the choice of the epoch, and the rest
    momentum: float
    evaluate_every: int
    validation_share: float
    precision: str


@dataclass(frozen=True)
class Projection:
    """Settings of t-SNE and of the numbers beside it."""

    classes: tuple[str, ...]  # where the data lacks some, others take their places
    clips_per_class: int
    perplexities: tuple[float, ...]
    seeds: tuple[int, ...]
    iterations: int
    init: str  # "random", or "pca": then every seed gives the same picture
    k: int
