"""Settings of linear evaluation, fine-tuning and t-SNE at three scales, and where each `paper` value comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from audiossl_lite.evaluation.settings import FineTuning, LinearEvaluation, Projection

# ATST's official code searches another set of rates for every task (before the factor batch / 256).
ATST_LINEAR_RATES: dict[str, tuple[float, ...]] = {
    "AS-20K": (2.0, 4.0, 1.0, 0.5),
    "SPCV2": (2e-3,),
    "VOX1": (1e-1, 5e-2, 2e-2),
    "NSYNTH": (5e-4, 2.5e-4, 1e-3),
    "US8K": (2e-3,),
}
ATST_FINETUNE_RATES: dict[str, tuple[float, ...]] = {
    "AS-20K": (1.0, 0.5),
    "SPCV2": (0.5,),
    "VOX1": (0.1, 0.05),
    "NSYNTH": (5e-4, 2.5e-4, 1e-3),
    "US8K": (2e-3,),
}
# What differs from AS-20K, which `paper` describes.
ATST_FINETUNE_TASKS: dict[str, dict[str, Any]] = {
    "AS-20K": {},
    "SPCV2": {"epochs": 50, "learning_rate": 0.5},
    "VOX1": {"epochs": 50, "learning_rate": 0.1, "mixup_probability": 0.0, "resized_crop": False},
}
# The data sets on which the official code chooses rate and epoch by the score on the test data.
CHOSEN_ON_TEST = ("AS-20K", "US8K")

LINEAR_PAPER = LinearEvaluation(
    max_s=12.0,
    chunk_frames=601,
    mean_over="official",
    learning_rates=tuple(sorted({rate for rates in ATST_LINEAR_RATES.values() for rate in rates})),
    scale_rates=True,
    epochs=100,
    batch_size=1024,
    final_learning_rate=1e-6,
    normalise=True,
)
SMALL_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# A few dozen validation clips cannot tell one epoch from the next: fewer looks, and then all clips are trained on.
SMALL_DATA = {"learning_rates": SMALL_RATES, "validation_share": 0.2, "refit": True}
LINEAR: dict[str, dict[str, LinearEvaluation]] = {
    "linear": {
        "paper": LINEAR_PAPER,
        "workshop": replace(
            LINEAR_PAPER, **SMALL_DATA, batch_size=128, epochs=40, evaluate_every=20
        ),
        "lite": replace(LINEAR_PAPER, **SMALL_DATA, batch_size=64, epochs=12, evaluate_every=6),
    }
}
FINETUNE_ATST_PAPER = FineTuning(
    head="atst",
    drop_path=0.1,
    chunk_frames=601,
    max_s=12.0,
    count_padding=False,
    optimizer="sgd",
    learning_rate=1.0,
    layer_decay=1.0,
    stem_apart=False,
    epochs=200,
    warmup_epochs=5,
    batch_size=512,
    final_learning_rate=1e-6,
    weight_decay=0.0,
    clip_norm=3.0,
    loss="bce",
    mixup_alpha=0.5,
    mixup_probability=1.0,
    mixup="linear",
    resized_crop=True,
    spec_frames=0,
    spec_bands=0,
    gain_db=0.0,
    mask_time=0.0,
    mask_freq=0.0,
)
FINETUNE_AUDIOMAE_PAPER = FineTuning(
    head="audiomae",
    drop_path=0.1,
    chunk_frames=1024,
    max_s=0.0,
    count_padding=True,
    optimizer="adamw",
    learning_rate=1e-3,
    layer_decay=0.75,
    stem_apart=True,
    epochs=60,
    warmup_epochs=4,
    batch_size=32,
    final_learning_rate=1e-6,
    weight_decay=5e-4,
    clip_norm=0.0,
    loss="bce",
    mixup_alpha=10.0,
    mixup_probability=0.5,
    mixup="power",
    resized_crop=False,
    spec_frames=192,
    spec_bands=48,
    gain_db=2.0,
    mask_time=0.2,
    mask_freq=0.2,
    precision="bf16-mixed",
)
# A few dozen clips make few steps an epoch: smaller batches and many epochs.
SMALL_ATST = {"loss": "ce", "validation_share": 0.2}
# Early in training the mean patches of all clips are nearly the same vector. Batch norm takes it away, layer norm does
# not: with AudioMAE's own head the loss hardly moves within a hundred steps.
SMALL_AUDIOMAE = {
    "head": "embedding",
    "learning_rate": 1.6e-2,
    "count_padding": False,
    "loss": "ce",
    "precision": "32-true",
    "validation_share": 0.2,
}
# A run of a few hundred steps has not learned the plain clips yet: nothing is made harder for it.
PLAIN = {
    "mixup_probability": 0.0,
    "resized_crop": False,
    "drop_path": 0.0,
    "spec_frames": 0,
    "spec_bands": 0,
    "gain_db": 0.0,
    "mask_time": 0.0,
    "mask_freq": 0.0,
}
WORKSHOP_RUN = PLAIN | {"epochs": 24, "warmup_epochs": 2, "batch_size": 16}
LITE_RUN = PLAIN | {"epochs": 12, "warmup_epochs": 1, "batch_size": 8}
TUNED_ON_LABELS: dict[str, dict[str, FineTuning]] = {
    "finetune_atst": {
        "paper": FINETUNE_ATST_PAPER,
        "workshop": replace(FINETUNE_ATST_PAPER, **SMALL_ATST | WORKSHOP_RUN),
        "lite": replace(FINETUNE_ATST_PAPER, **SMALL_ATST | LITE_RUN),
    },
    "finetune_audiomae": {
        "paper": FINETUNE_AUDIOMAE_PAPER,
        "workshop": replace(FINETUNE_AUDIOMAE_PAPER, **SMALL_AUDIOMAE | WORKSHOP_RUN),
        "lite": replace(FINETUNE_AUDIOMAE_PAPER, **SMALL_AUDIOMAE | LITE_RUN),
    },
}
TSNE_PAPER = Projection(
    classes=("sea_waves", "wind", "siren", "rain", "dog", "clock_tick", "crow", "sneezing"),
    clips_per_class=40,
    perplexities=(10.0, 30.0, 50.0),
    seeds=(0, 1, 2, 3, 4),
    iterations=1000,
)  # fmt: skip
PROJECTED: dict[str, dict[str, Projection]] = {
    "tsne": {
        "paper": TSNE_PAPER,
        "workshop": replace(TSNE_PAPER, perplexities=(5.0, 10.0, 20.0)),
        "lite": replace(
            TSNE_PAPER,
            clips_per_class=8,
            perplexities=(5.0, 10.0, 20.0),
            seeds=(0, 1),
            iterations=500,
        ),
    }
}
EVALUATED: dict[str, dict[str, Any]] = LINEAR | TUNED_ON_LABELS | PROJECTED

_CODE = "official code"
EVALUATED_SOURCES: dict[str, dict[str, str]] = {
    "linear": {
        "max_s": "ATST Sec. 3.2: the central 12 s of longer clips",
        "chunk_frames": f"ATST Sec. 3.2: chunks of 6 s; {_CODE}: 601 frames",
        "mean_over": f"{_CODE}: the token sum is divided by the tokens up to the end of the clip",
        "learning_rates": f"{_CODE}: all rates that it searches for its five tasks; see ATST_LINEAR_RATES",
        "scale_rates": f"{_CODE}: times batch size / 256",
        "epochs": "ATST Sec. 3.2: 100",
        "batch_size": "ATST Sec. 3.2: 1024",
        "final_learning_rate": f"ATST Sec. 3.2: 1e-6, by cosine ({_CODE}: 0, once an epoch)",
        "normalise": f"{_CODE}: batch norm without parameters; ATST does not mention it",
        "momentum": f"{_CODE}: SGD with 0.9",
        "init_std": f"{_CODE}: weights N(0, 0.01), bias 0",
        "evaluate_every": f"{_CODE}: every epoch",
        "validation_share": "this project: the official code has no validation data for AS-20K and US8K",
        "refit": f"{_CODE}: no",
    },
    "finetune_atst": {
        "head": f"ATST Sec. 3.2: CLS and mean of the last block; {_CODE}: batch norm without parameters",
        "drop_path": f"{_CODE}: 0.1; ATST does not mention it",
        "chunk_frames": f"ATST Sec. 3.2: chunks of 6 s; {_CODE}: 601 frames",
        "max_s": "ATST Sec. 3.2: the central 12 s of longer clips",
        "count_padding": "not used by this head: padding is masked out",
        "optimizer": "ATST Sec. 3.2: SGD",
        "learning_rate": f"{_CODE}: 1.0 for AS-20K, searched; the other tasks in ATST_FINETUNE_RATES",
        "layer_decay": f"not stated: the same for all layers ({_CODE}, later: 0.75)",
        "stem_apart": f"{_CODE}: patches, CLS and positions at the rate of the first block",
        "epochs": "ATST Sec. 3.2: 200 for AS-20K, 50 for SPCV2 and VOX1",
        "warmup_epochs": "ATST Sec. 3.2: 5",
        "batch_size": "ATST Sec. 3.2: 512",
        "final_learning_rate": "ATST Sec. 3.2: 1e-6, by cosine",
        "weight_decay": f"{_CODE}: none",
        "clip_norm": f"{_CODE}: 3; ATST does not mention it",
        "loss": f"{_CODE}: binary cross-entropy, for tasks of one label too when labels are mixed",
        "mixup_alpha": f"{_CODE}: 0.5",
        "mixup_probability": f"ATST Sec. 3.2: for AS-20K and SPCV2; {_CODE}: always",
        "mixup": f"{_CODE}: linear in normalised decibels",
        "resized_crop": "ATST Sec. 3.2: for AS-20K and SPCV2",
        "spec_frames": f"not mentioned ({_CODE}: an option for AS-2M)",
        "spec_bands": f"not mentioned ({_CODE}: an option for AS-2M)",
        "gain_db": "not mentioned",
        "mask_time": "not used by this head",
        "mask_freq": "not used by this head",
        "momentum": f"{_CODE}: 0.9",
        "evaluate_every": f"{_CODE}: every epoch",
        "validation_share": "this project: the official code has no validation data for AS-20K",
        "precision": f"{_CODE}: fp32",
    },
    "finetune_audiomae": {
        "head": f"AudioMAE, {_CODE}: mean of the patches, a new layer norm, linear",
        "drop_path": f"AudioMAE, {_CODE}: 0.1",
        "chunk_frames": f"not used by this head; AudioMAE, {_CODE}: the first 1024 frames",
        "max_s": f"AudioMAE, {_CODE}: no crop, the first 1024 frames are kept",
        "count_padding": f"AudioMAE, {_CODE}: padding is seen like sound",
        "optimizer": f"AudioMAE, {_CODE}: AdamW",
        "learning_rate": f"AudioMAE, {_CODE}, AS-20K: 1e-3, which makes 1.25e-4 at batch size 32",
        "layer_decay": f"AudioMAE, {_CODE}: 0.75",
        "stem_apart": f"AudioMAE, {_CODE}: the patch embedding is layer 0, the first block layer 1",
        "epochs": f"AudioMAE, {_CODE}, AS-20K: 60",
        "warmup_epochs": f"AudioMAE, {_CODE}, AS-20K: 4",
        "batch_size": f"AudioMAE, {_CODE}, AS-20K: 4 GPUs of 8 clips",
        "final_learning_rate": f"AudioMAE, {_CODE}: 1e-6",
        "weight_decay": f"AudioMAE, {_CODE}, AS-20K: 5e-4",
        "clip_norm": "not stated: off",
        "loss": f"AudioMAE, {_CODE}, AS-20K: binary cross-entropy",
        "mixup_alpha": f"AudioMAE, {_CODE}: Beta(10, 10)",
        "mixup_probability": f"AudioMAE, {_CODE}: half of the clips",
        "mixup": f"AudioMAE, {_CODE}: waveforms are mixed; here their powers, in the filter bank",
        "resized_crop": f"AudioMAE, {_CODE}: none",
        "spec_frames": f"AudioMAE, {_CODE}: 192",
        "spec_bands": f"AudioMAE, {_CODE}: 48",
        "gain_db": f"AudioMAE, {_CODE}: a factor Beta(10, 10) + 0.5; here uniform in dB with a like spread",
        "mask_time": f"AudioMAE, {_CODE}, AS-20K: 0.2",
        "mask_freq": f"AudioMAE, {_CODE}, AS-20K: 0.2",
        "momentum": "not used by AdamW, whose betas are the defaults",
        "evaluate_every": f"this project (AudioMAE, {_CODE}: every epoch from the 15th)",
        "validation_share": "this project: the official code has no validation data for AS-20K",
        "precision": f"AudioMAE, {_CODE}: fp16; bf16 needs no loss scaling",
    },
    "tsne": {
        "classes": "uaMix-MAE Sec. 4.4 names four (sea waves, wind, siren, rain), of which two are among the classes "
        "that no training of this project hears; of the other four, our choice, two are as well",
        "clips_per_class": "not stated; all of ESC-50",
        "perplexities": "not stated; 30 is the usual one, the others show how much hangs on it",
        "seeds": "this project: five pictures instead of one",
        "iterations": "not stated; scikit-learn's default",
        "init": "not stated; random, as t-SNE was published, so that the seeds show what chance does",
        "k": "this project",
    },
}
