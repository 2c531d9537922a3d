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


def nnclr_projector(dim_in: int, dim_hidden: int = 2048, dim_out: int = 256) -> nn.Sequential:
    """Three linear layers without bias, batch-norm after each, ReLU between: `(B, dim_in) -> (B, dim_out)`.

    With the predictor `mlp_head(256, 4096, 256, bias=False)` it holds 8,405,504 parameters at width 768.

    Where: uaMix-MAE Sec. 4; NNCLR Sec. 3; chapter 07
    """
    layers: list[nn.Module] = []
    widths = (dim_in, dim_hidden, dim_hidden, dim_out)
    for i in range(3):
        layers += [nn.Linear(widths[i], widths[i + 1], bias=False), nn.BatchNorm1d(widths[i + 1])]
        if i < 2:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
