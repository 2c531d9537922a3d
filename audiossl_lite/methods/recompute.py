"""Less memory for more arithmetic: parts of a forward pass that are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audiossl_lite.methods.distributed import JointBatchNorm


def in_parts(function: Callable[..., Tensor], n_parts: int, *inputs: Tensor | None) -> Tensor:
    """`function(*inputs)` with the rows cut into `n_parts` that pass one after the other, `(B, ...)` each.

    Only the outputs of a part stay in memory; in the backward pass each part is computed again. What follows sees the
    outputs of the whole batch, so batch norm, negatives and mixtures are those of the whole batch, and the gradient
    is the same. `function` must treat rows independently. Inputs that are None are passed on.
    """
    n_rows = next(len(x) for x in inputs if x is not None)
    if n_parts <= 1 or n_rows < 2:
        return function(*inputs)
    size = -(-n_rows // n_parts)
    outputs = []
    for first in range(0, n_rows, size):
        part = [None if x is None else x[first : first + size] for x in inputs]
        if torch.is_grad_enabled():
            outputs.append(checkpoint(function, *part, use_reentrant=False))
        else:
            outputs.append(function(*part))
    return torch.cat(outputs)


def looks_across_rows(module: nn.Module) -> bool:
    """Whether a module holds batch norm, so that its rows are not independent."""
    norms = (nn.modules.batchnorm._BatchNorm, JointBatchNorm)
    return any(isinstance(part, norms) for part in module.modules())
