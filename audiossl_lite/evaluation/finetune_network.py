"""An encoder with a classifier on top: heads as published, learning rates layer by layer, drop path."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.encoders.audiomae import AudioMAEEncoder, valid_patches
from audiossl_lite.encoders.transformer import DropPath

HEADS = ("atst", "audiomae", "embedding")
HEAD_STD = {"atst": 0.01, "audiomae": 2e-5, "embedding": 0.01}


class Classifier(nn.Module):
    """A copy of an encoder and a new classifier: spectrograms `(B, T, F)`, valid `lengths (B,)` -> logits `(B, K)`.

    `head="atst"`: CLS and token mean of the last block, averaged over chunks, batch norm without parameters, linear.
    `"audiomae"`: mean of the patch tokens with a new layer norm in place of the encoder's final one, linear; `kept
    (B, M)` shows the encoder these patches only. `"embedding"`: what the encoder embeds, batch norm, linear: for any
    encoder. The given encoder is left as it is. Raises ValueError for a head that does not go with the encoder.

    Where: ATST Sec. 3.2; AudioMAE Sec. 4, official code; chapter 11
    """

    def __init__(
        self,
        encoder: nn.Module,
        n_classes: int,
        *,
        head: str = "embedding",
        drop_path: float = 0.0,
        chunk_frames: int = 601,
        count_padding: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        fits = {
            "atst": hasattr(encoder, "linear_features"),
            "audiomae": isinstance(encoder, AudioMAEEncoder),
            "embedding": hasattr(encoder, "embed_dim"),
        }
        if not fits.get(head, False):
            possible = [name for name in HEADS if fits[name]]
            raise ValueError(
                f"head {head!r} does not go with {type(encoder).__name__}; it takes {possible}"
            )
        if n_classes < 2:
            raise ValueError(f"a task has two classes or more, got {n_classes}")
        self.kind, self.chunk_frames, self.count_padding = head, chunk_frames, count_padding
        self.encoder = copy.deepcopy(encoder)
        for name, parameter in self.encoder.named_parameters():
            # AudioMAE's positions are fixed sines; everything else learns, whatever was frozen before.
            fixed = isinstance(encoder, AudioMAEEncoder) and name == "pos_embed"
            parameter.requires_grad_(not fixed)
        if any(isinstance(module, DropPath) for module in self.encoder.modules()):
            set_drop_path(self.encoder, drop_path)
        elif drop_path:
            raise ValueError(f"{type(encoder).__name__} has no residual blocks, so no drop path")
        dim = encoder.embed_dim * (2 if head == "atst" else 1)
        if head == "audiomae":
            self.encoder.norm = nn.Identity()
            self.norm: nn.Module = nn.LayerNorm(dim, eps=1e-6)
        else:
            self.norm = nn.BatchNorm1d(dim, affine=False)
        self.head = nn.utils.skip_init(nn.Linear, dim, n_classes)
        draw = torch.randn(n_classes, dim, generator=generator)
        with torch.no_grad():
            self.head.weight.copy_(HEAD_STD[head] * draw)
            self.head.bias.zero_()

    def forward(
        self, spec: Tensor, lengths: Tensor | None = None, kept: Tensor | None = None
    ) -> Tensor:
        return self.head(self.norm(self.features(spec, lengths, kept)))

    def features(
        self, spec: Tensor, lengths: Tensor | None = None, kept: Tensor | None = None
    ) -> Tensor:
        """What the classifier sees before its norm, `(B, D)`, or `(B, 2 D)` for ATST.

        Where: ATST Sec. 3.2; AudioMAE, official code; chapter 11
        """
        if self.kind == "atst":
            return self.encoder.linear_features(
                spec, lengths, chunk_frames=self.chunk_frames, last=1
            )
        if self.kind == "embedding":
            return self.encoder(spec, lengths)
        valid = None
        if lengths is not None and not self.count_padding:
            valid = valid_patches(lengths.to(spec.device), spec.shape[1], self.encoder.n_mels)
            valid = valid if kept is None else valid.gather(1, kept)
        visible = None if valid is None else F.pad(valid, (1, 0), value=True)
        tokens = self.encoder.sequence(spec, kept, visible)[:, 1:]
        if valid is None:
            return tokens.mean(1)
        return (tokens * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp_min(1)


def set_drop_path(encoder: nn.Module, rate: float) -> list[float]:
    """Let the residual branches of an encoder drop with a probability from 0 (first block) to `rate` (last one).

    Weights are not touched, and in eval mode nothing drops. Returns the probabilities from before. Raises ValueError
    for an encoder without residual blocks or a rate outside [0, 1).

    Where: ATST official code; AudioMAE, official code; chapter 11
    """
    layers = [module for module in encoder.modules() if isinstance(module, DropPath)]
    if not layers:
        raise ValueError(f"{type(encoder).__name__} has no residual blocks, so no drop path")
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"a drop probability lies in [0, 1), got {rate}")
    before = [layer.probability for layer in layers]
    for i, layer in enumerate(layers):
        layer.probability = rate * i / max(len(layers) - 1, 1)
    return before


@contextmanager
def drop_path(encoder: nn.Module, rate: float) -> Iterator[nn.Module]:
    """`set_drop_path` for the length of a `with` block, the probabilities of before restored at its end.

    Where: ATST official code; chapter 11
    """
    before = set_drop_path(encoder, rate)
    try:
        yield encoder
    finally:
        layers = [module for module in encoder.modules() if isinstance(module, DropPath)]
        for layer, probability in zip(layers, before, strict=True):
            layer.probability = probability


def encoder_depth(encoder: nn.Module) -> int:
    """How many steps of layer-wise decay an encoder has: its blocks, or the four stages of BYOL-A's CNN.

    Where: ATST official code; chapter 11
    """
    if hasattr(encoder, "blocks"):
        return len(encoder.blocks)
    convolutions = [m for m in getattr(encoder, "features", []) if isinstance(m, nn.Conv2d)]
    if not convolutions:
        raise ValueError(f"{type(encoder).__name__} has neither blocks nor convolution stages")
    return len(convolutions) + 1


def layer_of(name: str, depth: int) -> int:
    """The layer of an encoder's parameter by its name: 0 the stem, 1 to `depth` the blocks, `depth` the final norm.

    For BYOL-A's CNN, 1 to 3 are the convolution blocks and 4 is the frame-wise network.

    Where: ATST official code; chapter 11
    """
    if found := re.match(r"blocks\.(\d+)\.", name):
        return int(found[1]) + 1
    if found := re.match(r"features\.(\d+)\.", name):  # four modules a convolution block
        return int(found[1]) // 4 + 1
    return depth if name.startswith(("fc.", "norm.")) else 0


def layer_scales(model: Classifier, decay: float, *, stem_apart: bool = False) -> dict[str, float]:
    """Factor on the learning rate of every parameter of a classifier, by name.

    The head has 1, layer i of L has decay ** (L + 1 - i). The stem (patches, CLS, positions) shares the factor of the
    first block, as in ATST; with `stem_apart` it is one step further down, as in AudioMAE.

    Where: ATST official code; AudioMAE, official code; chapter 11
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"the layer decay lies in (0, 1], got {decay}")
    if decay == 1.0:
        return {name: 1.0 for name, _ in model.named_parameters()}
    depth = encoder_depth(model.encoder)
    scales = {}
    for name, _ in model.named_parameters():
        if name.startswith("encoder."):
            layer = layer_of(name.removeprefix("encoder."), depth)
            layer = layer if stem_apart else max(layer, 1)
            scales[name] = decay ** (depth + 1 - layer)
        else:
            scales[name] = 1.0
    return scales


def scaled_groups(model: Classifier, decay: float, *, stem_apart: bool = False) -> list[dict]:
    """Parameter groups with `lr_scale`, and `decayed`: weights of two and more dimensions, without the tables.

    Where: ATST official code; AudioMAE, official code; chapter 11
    """
    scales = layer_scales(model, decay, stem_apart=stem_apart)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        table = name.rsplit(".", 1)[-1] in ("cls_token", "pos_embed", "mask_embed")
        key = (scales[name], parameter.dim() > 1 and not table)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr_scale": scale, "decayed": decayed}
        | ({} if decayed else {"weight_decay": 0.0})
        for (scale, decayed), parameters in groups.items()
    ]
