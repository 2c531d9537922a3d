"""Several processes, one batch: what a loss needs when every process holds a part of the clips.

Without a process group every function here is the identity, so methods call them always. With one, each process runs
the same code on its own clips; `gather` gives the clips of all, with gradient, and `JointBatchNorm` averages over all.
The loop averages gradients over processes. A loss that is the mean over a process's own clips, or one that every
process computes on the gathered batch, then has the gradient of the joint batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as dist_functional

from audiossl_lite.common.devices import total, world_size


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, `(B, ...) -> (processes * B, ...)`, in the order of the processes.

    The gradient reaches every process's rows. All processes hold equally many rows.
    """
    if world_size() == 1:
        return x
    if x.is_floating_point() and x.requires_grad:
        return torch.cat(dist_functional.all_gather(x.contiguous()))
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def gather_labels(labels: Tensor) -> Tensor:
    """Labels `(B, B)` of each process over its own clips to labels over the joint batch, one block a process.

    Where: uaMix-MAE Eq. 3; chapter 13
    """
    if world_size() == 1:
        return labels
    return torch.block_diag(*gather(labels).chunk(world_size()))


def joint_mean(mean: Tensor, n: Tensor) -> Tensor:
    """A process's own mean over `n` items, scaled so that its average over processes is the mean over all items."""
    if world_size() == 1:
        return mean
    return mean * (n * world_size() / total(n))


class JointBatchNorm(nn.Module):
    """Batch norm over the clips of all processes, `(B, C, ...)`; takes over a `BatchNorm1d` or `BatchNorm2d`.

    On one process it is that module itself. Mean and variance come from summed sums and squares, so the gradient of
    every clip's output reaches the clips of every process. torch's own `SyncBatchNorm` does this on GPUs only, and
    waits for the device in every layer: it takes processes without clips out by a boolean index.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps, self.momentum, self.affine = norm.eps, norm.momentum, norm.affine
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            use_batch = self.training or self.running_mean is None
            if use_batch and self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias,
                use_batch, self.momentum, self.eps,
            )  # fmt: skip
        over = [0, *range(2, x.dim())]
        values = x.float()
        count = values.new_full((1,), values.numel() // values.shape[1])
        sums = torch.cat([values.sum(over), values.square().sum(over), count])
        *sums, n = dist_functional.all_reduce(sums).split([x.shape[1], x.shape[1], 1])
        mean, square = (each / n for each in sums)
        variance = (square - mean.square()).clamp_min(0.0)
        if self.running_mean is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean.detach(), self.momentum)
                self.running_var.lerp_(variance.detach() * n / (n - 1.0), self.momentum)
        shape = (1, -1, *(1,) * (x.dim() - 2))
        out = (values - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)


def join_batch_norms(module: nn.Module) -> nn.Module:
    """Replace every batch norm in `module` by one over all processes; names of parameters and buffers stay."""
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            setattr(module, name, JointBatchNorm(child))
        else:
            join_batch_norms(child)
    return module


def looks_across_rows(module: nn.Module) -> bool:
    """Whether a module holds batch norm, so that its rows are not independent."""
    norms = (nn.modules.batchnorm._BatchNorm, JointBatchNorm)
    return any(isinstance(part, norms) for part in module.modules())
