"""Linear classifiers of all learning rates, trained at once on the same features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.common.progress import progress_bar
from audiossl_lite.evaluation.labelled import Labelled
from audiossl_lite.evaluation.metrics import score
from audiossl_lite.evaluation.settings import LinearEvaluation
from audiossl_lite.methods.teacher import cosine
from audiossl_lite.training.loop import NotFiniteError


def step_rates(config: LinearEvaluation) -> Tensor:
    """The learning rates that are really used, `(R,)`: times batch_size / 256 where the settings ask for it.

    Raises ValueError for none or one that is not positive.

    Where: ATST Sec. 3.2 and official code; chapter 11
    """
    rates = torch.tensor(config.learning_rates, dtype=torch.float64)
    if not len(rates) or not (rates > 0).all():
        raise ValueError(f"learning rates are positive, got {config.learning_rates}")
    return rates * (config.batch_size / 256 if config.scale_rates else 1.0)


class ParallelHeads(nn.Module):
    """R linear classifiers behind one batch norm without parameters: `(B, D) -> (B, R, K)`.

    Features and their statistics are shared, so R classifiers cost one wide matrix product. All start from the same
    weights, drawn from N(0, init_std).

    Where: ATST Sec. 3.2 and official code; chapter 11
    """

    def __init__(
        self, n_heads: int, dim: int, n_classes: int, *, normalise: bool, init_std: float, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.norm = nn.BatchNorm1d(dim, affine=False) if normalise else nn.Identity()
        weight = init_std * torch.randn(dim, 1, n_classes, generator=generator)
        self.weight = nn.Parameter(weight.repeat(1, n_heads, 1))  # (D, R, K)
        self.bias = nn.Parameter(torch.zeros(n_heads, n_classes))

    def forward(self, features: Tensor) -> Tensor:
        logits = self.norm(features) @ self.weight.flatten(1)  # (B, R * K)
        return logits.unflatten(1, self.bias.shape) + self.bias

    def single(self, index: int) -> nn.Sequential:
        """One of the classifiers as batch norm and linear layer of its own, in eval mode: `(B, D) -> (B, K)`."""
        dim, _, n_classes = self.weight.shape
        linear = nn.utils.skip_init(nn.Linear, dim, n_classes)  # draws nothing
        linear.weight.data.copy_(self.weight.detach()[:, index].T)
        linear.bias.data.copy_(self.bias.detach()[index])
        norm = nn.Identity()
        if isinstance(self.norm, nn.BatchNorm1d):
            norm = nn.BatchNorm1d(dim, affine=False)
            norm.load_state_dict(self.norm.state_dict())
        return nn.Sequential(norm, linear).eval()


def head_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of every classifier: `logits (B, R, K)`, `targets (B,)` long or `(B, K)` of 0 and 1 -> `(R,)`.

    Cross-entropy for one label a clip, binary cross-entropy for several. The gradient of their sum gives every
    classifier its own, untouched by the others.
    """
    b, r, k = logits.shape
    if targets.dim() == 1:
        repeated = targets[:, None].expand(b, r)
        return F.cross_entropy(logits.transpose(1, 2), repeated, reduction="none").mean(0)
    repeated = targets[:, None].float().expand(b, r, k)
    return F.binary_cross_entropy_with_logits(logits, repeated, reduction="none").mean((0, 2))


def epoch_batches(n: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """A permutation of n clips in batches; a last clip that would stand alone joins the batch before."""
    batches = list(torch.randperm(n, generator=generator).split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm needs two
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@dataclass(frozen=True)
class BestHead:
    """The classifier with the best score on the data that chose it, its rate and epoch, and all scores `(E, R)`."""

    head: nn.Sequential
    score: float
    learning_rate: float
    epoch: int
    epochs: tuple[int, ...]
    scores: Tensor


def train_heads(
    train: Labelled,
    validation: Labelled,
    config: LinearEvaluation,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    stop_at: int | None = None,
    description: str = "linear evaluation",
) -> BestHead:
    """Train one classifier for every learning rate; keep the rate and epoch of the best score on `validation`.

    SGD with momentum, without weight decay; the rate falls by half a cosine, once an epoch. Between equal scores, which
    small validation data often give, the lower loss on them decides. A rate whose classifier diverges is never chosen;
    NotFiniteError if all of them do. `stop_at` ends the run after that many of its epochs.

    Where: ATST Sec. 3.2; chapter 11
    """
    rates = step_rates(config)
    n_classes = len(train.class_names)
    heads = ParallelHeads(
        len(rates), train.inputs.shape[1], n_classes,
        normalise=config.normalise, init_std=config.init_std, seed=seed,
    ).to(device)  # fmt: skip
    velocity = [torch.zeros_like(p) for p in heads.parameters()]
    inputs, targets = train.inputs.to(device), train.targets.to(device)
    asked, truth = validation.inputs.to(device), validation.targets.to(device)
    generator = torch.Generator().manual_seed(seed)
    best = (-1.0, 0.0, 0, 0, heads.single(0))  # score, minus loss, rate, epoch, classifier
    epochs, table = [], []
    last = config.epochs if stop_at is None else min(stop_at, config.epochs)
    with progress_bar(last, description) as bar:
        for epoch in range(last):
            share = cosine(epoch, config.epochs, 1.0, 0.0)
            step = config.final_learning_rate + (rates - config.final_learning_rate) * share
            step = step.float().to(device)[:, None]  # (R, 1): one rate a classifier
            heads.train()
            for index in epoch_batches(len(train), config.batch_size, generator):
                index = index.to(device)
                loss = head_losses(heads(inputs[index]), targets[index])
                gradients = torch.autograd.grad(loss.sum(), list(heads.parameters()))
                with torch.no_grad():
                    for p, v, g in zip(heads.parameters(), velocity, gradients, strict=True):
                        p -= step * v.mul_(config.momentum).add_(g)
            if (epoch + 1) % config.evaluate_every and epoch + 1 < last:
                bar.update(1)
                continue
            scores, losses = head_scores(heads, asked, truth)
            if scores.isnan().all():
                raise NotFiniteError(
                    f"all {len(rates)} classifiers diverged in epoch {epoch + 1}; lower the learning rates"
                )
            epochs.append(epoch + 1)
            table.append(scores)
            top = max(range(len(rates)), key=lambda i: (scores[i].nan_to_num(-1.0), -losses[i]))
            if (float(scores[top]), -float(losses[top])) > best[:2]:
                best = (float(scores[top]), -float(losses[top]), top, epoch + 1, heads.single(top))
            bar.update(1, **{validation.metric: best[0]})
    value, _, top, epoch, head = best
    return BestHead(
        head.cpu(), value, config.learning_rates[top], epoch, tuple(epochs), torch.stack(table)
    )


@torch.no_grad()
def head_scores(heads: ParallelHeads, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Accuracy or mean average precision, and loss, of every classifier: `(R,)` each, float64, on CPU.

    The score of a classifier that diverged is NaN.
    """
    logits = heads.eval()(features)  # (n, R, K)
    losses = head_losses(logits, targets).double().cpu()
    logits = logits.transpose(0, 1)
    sound = torch.isfinite(logits).flatten(1).all(1)
    scores = torch.full((len(logits),), torch.nan, dtype=torch.float64)
    if sound.any():
        scores[sound.cpu()] = score(logits[sound], targets).double().cpu()
    return scores, losses
