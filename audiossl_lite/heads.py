"""Small networks on top of an encoder: projector and predictor."""

from __future__ import annotations

from torch import nn


def mlp_head(
    dim_in: int, dim_hidden: int = 4096, dim_out: int = 256, *, bias: bool = True
) -> nn.Sequential:
    """Linear, batch-norm, ReLU, Linear: `(B, dim_in) -> (B, dim_out)`; BYOL's projector and its predictor.

    `bias=True`: BYOL-A's linear layers; `False`: ATST's official code. Keys are `0, 1, 3` as published.

    Where: BYOL-A Sec. 4.1; ATST Sec. 2.1; chapter 04
    """
    return nn.Sequential(
        nn.Linear(dim_in, dim_hidden, bias=bias),
        nn.BatchNorm1d(dim_hidden),
        nn.ReLU(inplace=True),
        nn.Linear(dim_hidden, dim_out, bias=bias),
    )
