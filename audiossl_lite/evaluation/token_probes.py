"""Probes of what one pooled vector hides: all layers under a learnt gate, and tokens by their nearest prototypes.

Each pool stands where `fine_tune` expects an encoder, with features of a frozen encoder for spectrograms: it is learnt
together with the linear classifier, and the epoch is chosen in the same way.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.common.padding import valid_frames
from audiossl_lite.encoders.atst import ATSTEncoder
from audiossl_lite.encoders.audiomae import PATCH, AudioMAEEncoder
from audiossl_lite.evaluation.embed import spectrograms
from audiossl_lite.evaluation.finetune import FineTuneResult, fine_tune
from audiossl_lite.evaluation.labelled import Labelled
from audiossl_lite.evaluation.settings import FineTuning

LEAST = 4  # frames that a piece needs: one token of ATST


class GatedLayers(nn.Module):
    """Outputs of all layers `(B, L, D)` to their weighted sum `(B, D)`; the softmax of the gate makes the weights."""

    def __init__(self, n_layers: int, dim: int) -> None:
        super().__init__()
        self.embed_dim = dim
        self.gate = nn.Parameter(torch.zeros(n_layers))

    def forward(self, layers: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.gate.softmax(0) @ layers


class PrototypePool(nn.Module):
    """Tokens `(B, N, D)` to the cosine of the nearest token to each of the prototypes `(P, D)`: `(B, P)`.

    The prototypes start as given (`drawn_tokens`) and are learnt. `lengths (B,)`: the first tokens of a clip count.
    """

    def __init__(self, prototypes: Tensor) -> None:
        super().__init__()
        self.embed_dim = len(prototypes)
        self.prototypes = nn.Parameter(prototypes.clone())

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        cosines = F.normalize(tokens, dim=2) @ F.normalize(self.prototypes, dim=1).T  # (B, N, P)
        if lengths is not None:
            valid = valid_frames(lengths.to(tokens.device), tokens.shape[1])[..., None]
            cosines = cosines.masked_fill(~valid, -1.0)
        return cosines.amax(1)


def drawn_tokens(data: Labelled, per_class: int, *, seed: int = 0) -> Tensor:
    """`per_class` tokens of each class `(K * per_class, D)`, drawn from the valid ones of `data.inputs (n, N, D)`."""
    generator = torch.Generator().manual_seed(seed)
    n_tokens = data.inputs.shape[1]
    lengths = torch.full((len(data),), n_tokens) if data.lengths is None else data.lengths
    valid = valid_frames(lengths.cpu(), n_tokens)
    drawn = []
    for of_class in (data.shares() > 0).T:
        tokens = data.inputs[of_class][valid[of_class]]  # (m, D)
        if not len(tokens):
            raise ValueError("a class without clips has no tokens; leave it out")
        drawn.append(tokens[torch.randint(len(tokens), (per_class,), generator=generator)])
    return torch.cat(drawn)


def pool_probe(
    pool: nn.Module, train: Labelled, test: Labelled, config: FineTuning, **options
) -> FineTuneResult:
    """`fine_tune` of a pool on features `(n, L, D)` or `(n, N, D)`: nothing is mixed, covered or hidden.

    Rate, epochs and loss are those of the settings; `options`: as for `fine_tune`.
    """
    plain = replace(
        config, head="embedding", drop_path=0.0, layer_decay=1.0, mixup_probability=0.0,
        resized_crop=False, spec_frames=0, spec_bands=0, gain_db=0.0, mask_time=0.0, mask_freq=0.0,
    )  # fmt: skip
    return fine_tune(pool, None, train, test, plain, **options)


@torch.no_grad()
def frozen_tokens(
    encoder: nn.Module,
    frontend: nn.Module,
    waveforms: Tensor,
    lengths: Tensor | None = None,
    *,
    chunk_frames: int = 0,
    batch_size: int = 32,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the pools see of clips `(n, S)`, from the encoder in eval mode where it is, on the CPU.

    The mean of the valid tokens after every block `(n, L, D)`, the tokens of the last one `(n, N, D)`, and how many of
    them are valid `(n,)`. Longer clips are encoded in pieces of `chunk_frames`.
    """
    specs, frames = spectrograms(frontend, waveforms, lengths)
    was_training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    rows = []
    try:
        for spec, n in zip(specs.split(batch_size), frames.split(batch_size), strict=True):
            tokens, counts = block_tokens(encoder, spec.to(device), n.to(device), chunk_frames)
            valid = valid_frames(counts, tokens[0].shape[1])[..., None]
            means = [(x * valid).sum(1) / counts[:, None] for x in tokens]
            rows.append((torch.stack(means, 1).cpu(), tokens[-1].cpu(), counts.cpu()))
    finally:
        encoder.train(was_training)
    layers, last, counts = map(torch.cat, zip(*rows, strict=True))
    return layers, last, counts


def block_tokens(
    encoder: nn.Module, spec: Tensor, lengths: Tensor, chunk_frames: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Tokens after every block and the final norm, each `(B, N, D)`, and how many of a clip are valid `(B,)`.

    `spec (B, T, F)` and its valid frames `lengths (B,)` are where the encoder is. BYOL-A's CNN has one layer. With
    `chunk_frames` pieces of that length, to which the encoder's positions were trained, are encoded one by one.
    """
    if 0 < chunk_frames < spec.shape[1]:
        outputs, counts = [], []
        for start in range(0, spec.shape[1] - LEAST + 1, chunk_frames):
            part, left = spec[:, start : start + chunk_frames], lengths - start
            tokens, n = block_tokens(encoder, part, left.clamp(LEAST, part.shape[1]))
            outputs.append(tokens)
            counts.append(torch.where(left >= LEAST, n, 0))
        return [torch.cat(layer, 1) for layer in zip(*outputs, strict=True)], sum(counts)
    if isinstance(encoder, ATSTEncoder):
        outputs, counts = encoder.block_outputs(spec, lengths)
    elif isinstance(encoder, AudioMAEEncoder):
        bands = encoder.n_mels // PATCH
        counts = -(-lengths // PATCH) * bands
        valid = valid_frames(counts, spec.shape[1] // PATCH * bands)
        outputs = []
        hooks = [
            block.register_forward_hook(lambda _, __, out: outputs.append(encoder.norm(out)))
            for block in encoder.blocks
        ]
        encoder.sequence(spec, visible=F.pad(valid, (1, 0), value=True))
        for hook in hooks:
            hook.remove()
    else:
        return [encoder.tokens(spec, lengths)], lengths // 8
    return [out[:, 1:] for out in outputs], counts  # without CLS
