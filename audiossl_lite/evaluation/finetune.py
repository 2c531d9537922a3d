"""Fine-tuning: encoder and classifier as a method for `train`, the epoch chosen on validation data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.common.ranges import check_ranges
from audiossl_lite.evaluation.finetune_network import Classifier
from audiossl_lite.evaluation.finetune_views import FineTuneViews
from audiossl_lite.evaluation.folds import divide_for_choice
from audiossl_lite.evaluation.labelled import Labelled
from audiossl_lite.evaluation.layer_decay import scaled_groups
from audiossl_lite.evaluation.metrics import score
from audiossl_lite.evaluation.settings import FineTuning
from audiossl_lite.training import loop
from audiossl_lite.training.loop import NotFiniteError, TrainConfig
from audiossl_lite.training.sources import data_digest


def soft_loss(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """Mean binary cross-entropy (`"bce"`) or cross-entropy (`"ce"`) of logits and soft labels `(B, K)`."""
    if kind not in ("bce", "ce"):
        raise ValueError(f"loss is 'bce' or 'ce', got {kind!r}")
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, labels)
    return F.cross_entropy(logits, labels)


@torch.no_grad()
def predict(model: Classifier, data: Labelled) -> Tensor:
    """Logits `(n, K)` of all clips on CPU, from the model where it is, in eval mode; the mode is restored."""
    was_training, device = model.training, model.head.weight.device
    model.eval()
    out = []
    for index in torch.arange(len(data)).split(64):
        lengths = None if data.lengths is None else data.lengths[index].to(device)
        out.append(model(data.inputs[index].to(device), lengths).float().cpu())
    model.train(was_training)
    return torch.cat(out)


@dataclass
class BestWeights:
    """The weights of the epoch with the best score so far; between equal scores the lower loss decides."""

    score: float = -math.inf
    loss: float = math.inf
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, value: float, loss: float, epoch: int, model: nn.Module) -> None:
        """Keep the model's weights if score and loss are better than any before."""
        if (value, -loss) > (self.score, -self.loss):
            self.score, self.loss, self.epoch = value, loss, epoch
            self.weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


class FineTuningMethod(nn.Module):
    """A classifier trained on soft labels, as `train` calls it, with the best weights so far."""

    def __init__(self, classifier: Classifier, config: FineTuning) -> None:
        super().__init__()
        self.classifier, self.kind = classifier, config.loss
        self.layer_decay, self.stem_apart = config.layer_decay, config.stem_apart
        self.best, self.steps = BestWeights(), 0

    def forward(
        self,
        spec: Tensor,
        lengths: Tensor,
        kept: Tensor | None,
        labels: Tensor,
        *,
        monitors: bool = False,
    ) -> dict[str, Tensor]:
        """`loss` of what `FineTuneViews` gives: spectrograms `(B, T, F)` with soft labels `(B, K)`."""
        logits = self.classifier(spec, lengths, kept)
        return {"loss": soft_loss(logits.float(), labels, self.kind)}

    def parameter_groups(self) -> list[dict]:
        """Parameter groups with their `lr_scale`; only weights are decayed."""
        return scaled_groups(self.classifier, self.layer_decay, stem_apart=self.stem_apart)

    def update_teacher(self, momentum: float) -> None:
        """There is no teacher: a step is counted."""
        self.steps += 1

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The network that is tuned."""
        return {"tuned": self.classifier.encoder}

    def get_extra_state(self) -> dict[str, Any]:
        """Steps and best epoch, for checkpoints."""
        return {"steps": self.steps, "best": vars(self.best)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up an interrupted run."""
        self.steps, self.best = state["steps"], BestWeights(**state["best"])


@dataclass(frozen=True)
class FineTuneResult:
    """The network of the chosen epoch and its score on the test data; shares in [0, 1].

    `selection_score` is that of the data that chose; chosen on the test data, `score` is too good. `last_score` is the
    test score after the last epoch, which the present official code of ATST reports, without any choice. `outputs
    (n, K)` of the test clips; `history` has a row an epoch.
    """

    model: Classifier
    score: float
    last_score: float
    selection_score: float
    epoch: int
    outputs: Tensor
    history: list[dict]
    n_train: int


def fine_tune(
    encoder: nn.Module,
    frontend: nn.Module | None,
    train: Labelled,
    test: Labelled,
    config: FineTuning,
    *,
    validation: Labelled | None = None,
    select_on: str = "validation",
    seed: int = 0,
    device: str = "auto",
    output_dir: str | Path | None = None,
    stop_after: int | None = None,
    description: str = "fine-tuning",
) -> FineTuneResult:
    """Train a copy of the encoder with a new classifier on spectrograms `(n, T, F)`; score it on the test data.

    Which data choose the epoch: see `divide_for_choice`. `frontend` made the spectrograms (`spectrograms`); None for
    features. With an `output_dir`, `last.pt` is written after every epoch, and a
    run there is resumed: see `train`. `stop_after` ends the call after that many epochs. Raises ValueError naming what
    is wrong with data or settings, NotFiniteError when the loss is no number.

    Where: ATST Sec. 3.2; AudioMAE Sec. 4; uaMix-MAE Sec. 4.3; chapter 11
    """
    check_ranges(config)
    if config.loss == "ce" and train.multi_label:
        raise ValueError("loss 'ce' needs one label a clip; use 'bce' for a multi-label task")
    train, validation = divide_for_choice(
        train, test, validation=validation, select_on=select_on,
        share=config.validation_share, seed=seed,
    )  # fmt: skip
    model = Classifier(
        encoder, len(train.class_names), head=config.head, drop_path=config.drop_path,
        chunk_frames=config.chunk_frames, count_padding=config.count_padding,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    method = FineTuningMethod(model, config)
    # What else tells a run from another one in the same folder.
    method.starts_from = data_digest(nn.utils.parameters_to_vector(encoder.parameters()).cpu())
    method.chosen_on = f"{select_on}, {len(validation)} clips"
    log_unit, fill = (frontend.log_unit, frontend.pad_value) if frontend else (1.0, 0.0)
    views = FineTuneViews(config, train.shares(), log_unit=log_unit, fill=fill)
    per_epoch = max(len(train) // config.batch_size, 1)

    def look(method: FineTuningMethod) -> dict[str, float]:
        """The validation data at the end of an epoch; NotFiniteError for spoiled weights."""
        epoch = method.steps // per_epoch
        if not epoch or (epoch % config.evaluate_every and epoch < config.epochs):
            return {}
        outputs = predict(model, validation)
        if not torch.isfinite(outputs).all():
            raise NotFiniteError(
                f"NaN or infinity in the outputs after epoch {epoch}; lower the learning rate, lengthen the warm-up, "
                "or look for broken clips with Clips.report()"
            )
        value = float(score(outputs, validation.targets))
        loss = float(soft_loss(outputs, validation.shares(), config.loss))
        method.best.offer(value, loss, epoch, model)
        return {"epoch": epoch, validation.metric: value, "validation_loss": loss}

    result = loop.train(
        method,
        views,
        train.inputs,
        finetune_train_config(config, per_epoch, seed),
        lengths=train.lengths,
        device=device,
        output_dir=output_dir,
        probe=look,
        description=description,
        stop_after=None if stop_after is None else stop_after * per_epoch,
    )
    last = float(score(predict(model, test), test.targets))
    if method.best.weights:  # none when the call ended before the first look at the validation data
        model.load_state_dict(method.best.weights)
    outputs = predict(model, test)
    return FineTuneResult(
        model=model.cpu().eval(),
        score=float(score(outputs, test.targets)),
        last_score=last,
        selection_score=method.best.score,
        epoch=method.best.epoch,
        outputs=outputs,
        history=by_epoch(result.history, per_epoch),
        n_train=len(train),
    )


def finetune_train_config(config: FineTuning, per_epoch: int, seed: int) -> TrainConfig:
    """The part of the settings that the training loop reads, for epochs of `per_epoch` steps."""
    return TrainConfig(
        steps=config.epochs * per_epoch,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate * config.batch_size / 256,
        final_learning_rate=config.final_learning_rate,
        warmup_steps=config.warmup_epochs * per_epoch,
        weight_decay=config.weight_decay,
        final_weight_decay=config.weight_decay,
        optimizer=config.optimizer,
        betas=(config.momentum, 0.999),
        clip_norm=config.clip_norm,
        seed=seed,
        precision=config.precision,
        log_every=1,
        save_every=per_epoch,
        probe_every=config.evaluate_every * per_epoch,
    )


def by_epoch(history: list[dict], per_epoch: int) -> list[dict]:
    """A row an epoch: the mean loss of its steps, its last learning rate, and what the validation data said."""
    steps = [row for row in history if "loss" in row]
    looks = {row["epoch"]: row for row in history if "epoch" in row}
    rows = []
    for epoch, part in enumerate(zip(*[iter(steps)] * per_epoch, strict=False), start=1):
        loss = sum(row["loss"] for row in part) / per_epoch
        last = {"learning_rate": part[-1]["learning_rate"], "seconds": part[-1]["seconds"]}
        rows.append({"epoch": epoch, "loss": loss, **last, **looks.get(epoch, {})})
    return rows
