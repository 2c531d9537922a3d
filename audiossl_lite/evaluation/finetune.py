"""Fine-tuning: encoder and classifier trained together on labels, the best epoch kept, interrupted runs resumed."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.evaluation.finetune_network import Classifier, scaled_groups
from audiossl_lite.evaluation.finetune_views import NEPER_PER_DB, FineTuneViews
from audiossl_lite.evaluation.folds import SELECTIONS, divide_for_choice
from audiossl_lite.evaluation.labelled import Labelled
from audiossl_lite.evaluation.linear import centre_crop
from audiossl_lite.evaluation.metrics import classes_without_positives, score
from audiossl_lite.frontends import reflect_end
from audiossl_lite.presets_eval import FineTuning
from audiossl_lite.progress import progress_bar
from audiossl_lite.training.identity import data_digest, run_identity
from audiossl_lite.training.loop import NotFiniteError, batch_indices, step_generator
from audiossl_lite.training.run_log import RunLog
from audiossl_lite.training.schedules import warmup_cosine


@torch.no_grad()
def clip_spectrograms(
    frontend: nn.Module,
    waveforms: Tensor,
    lengths: Tensor | None = None,
    *,
    max_s: float = 12.0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """The spectrogram of every clip `(n, S)`, computed once: `(n, T, F)` and valid frames `(n,)`.

    Clips are cut to their central `max_s` seconds first (0: not cut). Past a clip's end stands the frontend's padding,
    zeros if it has none.

    Where: ATST Sec. 3.2; chapter 11
    """
    if lengths is None:
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
    if max_s:
        waveforms, lengths = centre_crop(waveforms, lengths, max_s)
    shortest = max(frontend.min_samples, 8 * 160)
    waveforms = F.pad(waveforms, (0, max(shortest - waveforms.shape[1], 0)))
    lengths = lengths.clamp_min(shortest)
    frames = frontend.n_frames(lengths)
    multiple = getattr(frontend, "frame_multiple", 1)
    width = -(-int(frames.max()) // multiple) * multiple
    parts = []
    for index in torch.arange(len(waveforms)).split(batch_size):
        wave = reflect_end(waveforms[index], lengths[index], frontend.edge_samples)
        spec = frontend(wave)[:, :width]
        past_end = torch.arange(width) >= frames[index][:, None]
        parts.append(spec.masked_fill(past_end[..., None], getattr(frontend, "pad_value", 0.0)))
    return torch.cat(parts), frames


def log_power_scale(frontend: nn.Module) -> float:
    """s such that the frontend's spectrograms are ln(power) / s up to a constant.

    Where: AudioMAE, official code; chapter 11
    """
    if hasattr(frontend, "min_db"):  # decibels, mapped to [-1, 1]
        return (frontend.max_db - frontend.min_db) / 2.0 * NEPER_PER_DB
    return frontend.std * (2.0 if hasattr(frontend, "target_frames") else 1.0)


def soft_loss(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """Mean binary cross-entropy (`"bce"`) or cross-entropy (`"ce"`) of logits and soft labels `(B, K)`.

    Where: ATST Sec. 3.2; AudioMAE Sec. 4; chapter 11
    """
    if kind not in ("bce", "ce"):
        raise ValueError(f"loss is 'bce' or 'ce', got {kind!r}")
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, labels)
    return F.cross_entropy(logits, labels)


def make_finetune_optimizer(model: Classifier, config: FineTuning) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over groups with their `lr_scale`; only weights are decayed.

    Where: ATST Sec. 3.2; AudioMAE, official code; chapter 11
    """
    groups = scaled_groups(model, config.layer_decay, stem_apart=config.stem_apart)
    for group in groups:
        group["weight_decay"] = config.weight_decay if group["decayed"] else 0.0
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0)
    raise ValueError(f"optimizer is 'sgd' or 'adamw', got {config.optimizer!r}")


@torch.no_grad()
def predict(
    model: Classifier, data: Labelled, *, batch_size: int = 64, device: torch.device | str = "cpu"
) -> Tensor:
    """Logits `(n, K)` of all clips, in eval mode, on CPU; the mode is restored.

    Where: ATST Sec. 3.2; chapter 11
    """
    was_training = model.training
    model.eval()
    out = []
    for index in torch.arange(len(data)).split(batch_size):
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

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the best epoch of an interrupted run."""
        self.score, self.loss = state["score"], state["loss"]
        self.epoch, self.weights = state["epoch"], state["weights"]


@dataclass(frozen=True)
class FineTuneResult:
    """The network of the chosen epoch and its score on the test data; shares in [0, 1].

    `last_score` is the test score after the last epoch, which the present official code of ATST reports, without any
    choice. `history` has a row an epoch. `selected_on="test"` makes `score` too good: the test data chose.

    Where: ATST Sec. 3.2; uaMix-MAE Table 4; chapter 11
    """

    model: Classifier
    metric: str
    score: float
    last_score: float
    selected_on: str
    selection_score: float
    epoch: int
    outputs: Tensor
    history: list[dict]
    seconds: float
    without_positives: tuple[str, ...]
    n_train: int
    n_test: int

    def row(self, name: str) -> dict[str, Any]:
        """A line of a record: name, mean, no interval (one run), and how the epoch was chosen."""
        return {
            "name": name,
            "mean": self.score,
            "ci95": None,
            "metric": self.metric,
            "selected_on": SELECTIONS[self.selected_on],
            "n": self.n_test,
            "epoch": self.epoch,
            "last_epoch": self.last_score,
            "without_positives": list(self.without_positives),
        }


def fine_tune(
    encoder: nn.Module,
    frontend: nn.Module,
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

    The epoch is chosen on `validation`, or on `config.validation_share` of the training data, held out by group;
    `select_on="test"`: all training data are trained on and the test data choose. `frontend` made the spectrograms
    (`clip_spectrograms`). With an `output_dir`, `history.jsonl` and `last.pt` are written after every epoch, and a run
    found there is resumed: on CPU it ends bit-identical. `stop_after` ends the call after that many epochs. Raises
    ValueError naming what is wrong with data or settings, NotFiniteError when the loss is no number.

    Where: ATST Sec. 3.2; AudioMAE Sec. 4; uaMix-MAE Sec. 4.3; chapter 11
    """
    if not 0 <= config.warmup_epochs < config.epochs:
        raise ValueError(
            f"warm-up must be shorter than the run, got {config.warmup_epochs} of {config.epochs} epochs"
        )
    if config.loss == "ce" and train.multi_label:
        raise ValueError("loss 'ce' needs one label a clip; use 'bce' for a multi-label task")
    train, validation = divide_for_choice(
        train, test, validation=validation, select_on=select_on,
        share=config.validation_share, seed=seed,
    )  # fmt: skip
    place = "cuda" if device in ("auto", "gpu") and torch.cuda.is_available() else device
    place = torch.device("cpu" if place in ("auto", "gpu") else place)
    model = Classifier(
        encoder, len(train.class_names), head=config.head, drop_path=config.drop_path,
        chunk_frames=config.chunk_frames, count_padding=config.count_padding,
        generator=torch.Generator().manual_seed(seed),
    ).to(place)  # fmt: skip
    views = FineTuneViews(
        config, scale=log_power_scale(frontend), fill=getattr(frontend, "pad_value", 0.0)
    )
    optimizer = make_finetune_optimizer(model, config)
    start = torch.cat([p.detach().flatten().cpu() for p in encoder.parameters()])
    identity = run_identity(model, views, train.inputs, config) | {
        "seed": seed,
        "start": data_digest(start),
        "targets": data_digest(train.shares()),
        "chosen_on": f"{select_on}, {len(validation)} clips",
    }
    best = BestWeights()
    # Drop path and dropout draw from the global state: give it back as it was.
    with torch.random.fork_rng(devices=[]), closing(RunLog(output_dir)) as log:
        log.start({"method": model, "views": best, "optimizer": optimizer}, identity)
        _run_epochs(
            model, views, optimizer, train, validation, config, seed, place, log, best,
            stop_after, description,
        )  # fmt: skip
    last = float(score(predict(model, test, device=place), test.targets))
    if best.weights:  # none when the call ended before the first look at the validation data
        model.load_state_dict(best.weights)
    outputs = predict(model, test, device=place)
    return FineTuneResult(
        model=model.cpu().eval(),
        metric=test.metric,
        score=float(score(outputs, test.targets)),
        last_score=last,
        selected_on=select_on,
        selection_score=best.score,
        epoch=best.epoch,
        outputs=outputs,
        history=log.history,
        seconds=log.seconds,
        without_positives=(
            classes_without_positives(test.targets, test.class_names) if test.multi_label else ()
        ),
        n_train=len(train),
        n_test=len(test),
    )


def _run_epochs(
    model, views, optimizer, train, validation, config, seed, place, log, best, stop_after, text
) -> None:
    """All epochs that are left, one row and one checkpoint each."""
    per_epoch = max(len(train) // config.batch_size, 1)
    steps, warmup = config.epochs * per_epoch, config.warmup_epochs * per_epoch
    peak = config.learning_rate * config.batch_size / 256
    inputs, labels = train.inputs.to(place), train.shares().to(place)
    lengths = train.lengths
    if lengths is None:
        lengths = torch.full((len(train),), inputs.shape[1])
    lengths = lengths.to(place)
    began, spent = time.perf_counter(), log.seconds
    last_epoch = config.epochs if stop_after is None else min(config.epochs, stop_after)
    first_epoch = log.step // per_epoch
    with progress_bar(max(last_epoch - first_epoch, 0), text) as bar:
        for epoch in range(first_epoch, last_epoch):
            model.train()
            total = 0.0
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                generator = step_generator(seed, step)
                torch.manual_seed(generator.initial_seed())
                rate = warmup_cosine(step, steps, warmup, peak, config.final_learning_rate)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["lr_scale"]
                chosen = batch_indices(len(train), config.batch_size, step, seed).to(place)
                spec, target, kept = views(
                    inputs[chosen], labels[chosen], generator, lengths[chosen]
                )
                with torch.autocast(
                    place.type, torch.bfloat16, enabled=config.precision == "bf16-mixed"
                ):
                    logits = model(spec, lengths[chosen], kept)
                loss = soft_loss(logits.float(), target, config.loss)
                optimizer.zero_grad()
                loss.backward()
                if config.clip_norm:
                    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
                optimizer.step()
                total += float(loss.detach())
            _check_finite(torch.tensor(total), "loss", epoch, rate)
            row = {"epoch": epoch + 1, "loss": total / per_epoch, "learning_rate": rate}
            if (epoch + 1) % config.evaluate_every == 0 or epoch + 1 == config.epochs:
                outputs = predict(model, validation, device=place)
                _check_finite(outputs, "outputs", epoch, rate)
                row[validation.metric] = float(score(outputs, validation.targets))
                row["validation_loss"] = float(soft_loss(outputs, validation.shares(), config.loss))
                best.offer(row[validation.metric], row["validation_loss"], epoch + 1, model)
            log.seconds = spent + time.perf_counter() - began
            log.write(**row, seconds=round(log.seconds, 3))
            log.save((epoch + 1) * per_epoch, log.seconds)
            bar.update(1, **{k: row[k] for k in ("loss", validation.metric) if k in row})


def _check_finite(values: Tensor, what: str, epoch: int, rate: float) -> None:
    """Spoiled weights must not become a checkpoint."""
    if not torch.isfinite(values).all():
        raise NotFiniteError(
            f"NaN or infinity in the {what} in epoch {epoch + 1} (learning rate {rate:.2g}); lower the learning rate, "
            "lengthen the warm-up, or look for broken clips with Clips.report()"
        )
