"""AdamW with the parameter groups and schedules of the papers."""

from __future__ import annotations

import torch
from torch import nn

from audiossl_lite.methods.teacher import cosine


def parameter_groups(model: nn.Module) -> list[dict]:
    """Two groups of the trainable parameters: decayed, and not decayed (biases and all 1-D tensors).

    CLS, position and mask tables have three dimensions and are decayed, as in ATST's official code.

    Where: ATST official code; chapter 05
    """
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.dim() == 1 or name.endswith(".bias") else decayed).append(parameter)
    return [
        {"params": decayed, "decayed": True},
        {"params": plain, "decayed": False, "weight_decay": 0.0},
    ]


def make_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    kind: str = "adamw",
) -> torch.optim.Optimizer:
    """AdamW over `parameter_groups` (the model's own, if it has that method), in its fused form.

    With weight decay 0 it is Adam; `kind="sgd"` is SGD with momentum `betas[0]`. A group's `lr_scale` and `decay_scale`
    multiply the schedules.

    Where: ATST Sec. 3.1; chapter 05
    """
    own = hasattr(model, "parameter_groups")
    groups = model.parameter_groups() if own else parameter_groups(model)
    options = {"lr": learning_rate, "weight_decay": weight_decay}
    if kind == "sgd":
        return torch.optim.SGD(groups, momentum=betas[0], **options)
    if kind != "adamw":
        raise ValueError(f"optimizer is 'sgd' or 'adamw', got {kind!r}")
    return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=True, **options)


def warmup_cosine(
    step: int, total_steps: int, warmup_steps: int, peak: float, final: float = 0.0
) -> float:
    """Linear from 0 to `peak` over `warmup_steps`, then half a cosine down to `final`; with `final=peak` constant.

    The last warm-up step reaches the peak; step 0 has rate 0 when there is a warm-up of two steps or more.

    Where: ATST Sec. 3.1; chapter 05
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warm-up must be shorter than the run, got {warmup_steps} of {total_steps} steps"
        )
    if step < warmup_steps:
        return peak * step / max(warmup_steps - 1, 1)
    return cosine(step - warmup_steps, total_steps - warmup_steps, peak, final)


def set_schedule(optimizer: torch.optim.Optimizer, step: int, config) -> dict[str, float]:
    """Set this step's learning rate and weight decay; return both for the history.

    `config` has `steps, warmup_steps, learning_rate, final_learning_rate, weight_decay, final_weight_decay`.

    Where: ATST Sec. 3.1; chapter 05
    """
    steps, peak = config.steps, config.learning_rate
    final = peak if config.schedule == "constant" else config.final_learning_rate
    rate = warmup_cosine(step, steps, config.warmup_steps, peak, final)
    decay = cosine(step, steps, config.weight_decay, config.final_weight_decay)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
        if group.get("decayed"):
            group["weight_decay"] = decay * group.get("decay_scale", 1.0)
    return {"learning_rate": rate, "weight_decay": decay}
