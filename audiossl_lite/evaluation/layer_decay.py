"""Layer-wise learning rates of fine-tuning: the nearer to the input, the slower a layer learns."""

from __future__ import annotations

import re

from torch import nn

from audiossl_lite.encoders.byola import BYOLAEncoder

TABLES = ("cls_token", "pos_embed", "mask_embed")  # of ATST and AudioMAE; they are not decayed


def layer_scales(model: nn.Module, decay: float, *, stem_apart: bool = False) -> dict[str, float]:
    """Factor on the learning rate of every parameter of a `Classifier`, by name.

    The head has 1, layer i of L has decay ** (L + 1 - i). The stem (patches, CLS, positions) shares the factor of the
    first block, as in ATST; with `stem_apart` it is one step further down, as in AudioMAE.

    Where: ATST official code; AudioMAE, official code; chapter 11
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"the layer decay lies in (0, 1], got {decay}")
    if decay == 1.0:  # for encoders without layers, too
        return {name: 1.0 for name, _ in model.named_parameters()}
    is_cnn = isinstance(model.encoder, BYOLAEncoder)
    depth = 4 if is_cnn else len(model.encoder.blocks)
    scales = {}
    for name, _ in model.named_parameters():
        layer = depth + 1
        if name.startswith("encoder."):
            layer = max(layer_of(name.removeprefix("encoder."), depth), 0 if stem_apart else 1)
        scales[name] = decay ** (depth + 1 - layer)
    return scales


def layer_of(name: str, depth: int) -> int:
    """The layer of an encoder's parameter by its name: 0 the stem, 1 to `depth` the blocks, `depth` the final norm.

    For BYOL-A's CNN, 1 to 3 are the convolution blocks and 4 is the frame-wise network.
    """
    if match := re.match(r"blocks\.(\d+)\.", name):
        return int(match[1]) + 1
    if match := re.match(r"features\.(\d+)\.", name):  # four modules a convolution block
        return int(match[1]) // 4 + 1
    return depth if name.startswith(("fc.", "norm.")) else 0


def scaled_groups(model: nn.Module, decay: float, *, stem_apart: bool = False) -> list[dict]:
    """Parameter groups with `lr_scale`, and `decayed`: weights of two and more dimensions, without the tables."""
    scales = layer_scales(model, decay, stem_apart=stem_apart)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.dim() > 1 and name.rsplit(".", 1)[-1] not in TABLES
            groups.setdefault((scales[name], decayed), []).append(parameter)
    return [
        {"params": parameters, "lr_scale": scale, "decayed": decayed}
        | ({} if decayed else {"weight_decay": 0.0})
        for (scale, decayed), parameters in groups.items()
    ]
