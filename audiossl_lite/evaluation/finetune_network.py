"""An encoder with a classifier on top: heads as published, and drop path."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.encoders.atst import ATSTEncoder
from audiossl_lite.encoders.audiomae import AudioMAEEncoder, valid_patches
from audiossl_lite.encoders.transformer import DropPath
from audiossl_lite.evaluation.embed import any_length

# The encoder that a head is made for, and the standard deviation of its first weights.
HEADS = {"atst": ATSTEncoder, "audiomae": AudioMAEEncoder, "embedding": nn.Module}
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
        possible = [name for name, made_for in HEADS.items() if isinstance(encoder, made_for)]
        if head not in possible:
            raise ValueError(
                f"head {head!r} does not go with {type(encoder).__name__}; it takes {possible}"
            )
        if n_classes < 2:
            raise ValueError(f"a task has two classes or more, got {n_classes}")
        self.kind, self.chunk_frames, self.count_padding = head, chunk_frames, count_padding
        self.encoder = copy.deepcopy(encoder)
        self.encoder.requires_grad_(True)  # whatever was frozen before
        if isinstance(encoder, AudioMAEEncoder):
            self.encoder.pos_embed.requires_grad_(False)  # fixed sines
        if drop_path or drop_paths(encoder):
            set_drop_path(self.encoder, drop_path)
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
        """What the classifier sees before its norm, `(B, D)`, or `(B, 2 D)` for ATST."""
        if self.kind == "atst":
            return self.encoder.linear_features(
                spec, lengths, chunk_frames=self.chunk_frames, last=1
            )
        if self.kind == "embedding":
            if lengths is None:
                lengths = torch.full((len(spec),), spec.shape[1])
            return any_length(self.encoder)(spec, lengths)
        valid = None
        if lengths is not None and not self.count_padding:
            valid = valid_patches(lengths.to(spec.device), spec.shape[1], self.encoder.n_mels)
            valid = valid if kept is None else valid.gather(1, kept)
        visible = None if valid is None else F.pad(valid, (1, 0), value=True)
        tokens = self.encoder.sequence(spec, kept, visible)[:, 1:]
        if valid is None:
            return tokens.mean(1)
        return (tokens * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp_min(1)


def drop_paths(encoder: nn.Module) -> list[DropPath]:
    """The drop paths of an encoder's residual branches, from the first block to the last."""
    return [module for module in encoder.modules() if isinstance(module, DropPath)]


def set_drop_path(encoder: nn.Module, rate: float) -> None:
    """Let the residual branches of an encoder drop with a probability from 0 (first block) to `rate` (last one).

    Weights are not touched, and in eval mode nothing drops. Raises ValueError for an encoder without residual blocks or
    a rate outside [0, 1).

    Where: ATST official code; AudioMAE, official code; chapter 11
    """
    layers = drop_paths(encoder)
    if not layers:
        raise ValueError(f"{type(encoder).__name__} has no residual blocks, so no drop path")
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"a drop probability lies in [0, 1), got {rate}")
    for i, layer in enumerate(layers):
        layer.probability = rate * i / max(len(layers) - 1, 1)


@contextmanager
def drop_path(encoder: nn.Module, rate: float) -> Iterator[nn.Module]:
    """`set_drop_path` for the length of a `with` block, the probabilities of before restored at its end."""
    layers = drop_paths(encoder)
    before = [layer.probability for layer in layers]
    set_drop_path(encoder, rate)
    try:
        yield encoder
    finally:
        for layer, probability in zip(layers, before, strict=True):
            layer.probability = probability
