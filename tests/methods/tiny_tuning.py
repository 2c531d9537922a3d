"""A tuning method of a few thousand parameters and batches for it."""

from __future__ import annotations

import torch

from audiossl_lite.encoders.audiomae import AudioMAEEncoder
from audiossl_lite.methods.uamix import NNCLRTuning

B, T, MELS = 8, 32, 32


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_encoder(depth: int = 4) -> AudioMAEEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AudioMAEEncoder(16, depth, 2, n_frames=T, n_mels=MELS)


def make(trainable: str = "upper", *, encoder=None, seed: int = 1, **options) -> NNCLRTuning:
    sizes = {"hidden_dim": 24, "predictor_dim": 20, "projection_dim": 12, "queue_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NNCLRTuning(
            make_encoder() if encoder is None else encoder, trainable=trainable,
            generator=seeded(seed), **sizes | options,
        )  # fmt: skip


def batch(seed: int = 0, ids: torch.Tensor | None = None, lam=1.0) -> tuple:
    anchor, positive = torch.randn(2, B, T, MELS, generator=seeded(seed))
    ids = torch.arange(B) if ids is None else ids
    lam = torch.as_tensor(lam).view(-1, 1)  # one number, or one per clip
    labels = lam * torch.eye(B) + (1 - lam) * torch.eye(B).flip(1)
    return anchor, positive, labels, torch.stack([ids, ids.flip(0)], 1), ids
