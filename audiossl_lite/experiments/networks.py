"""What is evaluated: a trained encoder or its random start with its frontend, and what needs no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from audiossl_lite import encoders
from audiossl_lite.data.clips import Clips
from audiossl_lite.encoders.atst import in_chunks
from audiossl_lite.evaluation.baselines import BASELINES
from audiossl_lite.evaluation.embed import embed_clips
from audiossl_lite.pretrained import PretrainedEncoder, load_shipped
from audiossl_lite.pretrained.shipped import describe_encoder

UNTRAINED = ", untrained"
# Encoders that come with the project, the same for every seed: name in tables, and for `load_shipped`.
SHIPPED = "shipped CNN"
SHIPPED_ENCODERS = {
    SHIPPED: "cnn_events",
    "shipped CNN, six hours": "cnn_sounds",
    "shipped ATST": "atst_sounds",
    "shipped AudioMAE": "audiomae_sounds",
    "shipped uaMix-MAE": "uamix_sounds",
}


@dataclass(frozen=True)
class Network:
    """An encoder with its frontend; `chunk_frames`: what a transformer was trained on, 0 for a CNN or whole clips."""

    name: str
    encoder: nn.Module
    frontend: nn.Module
    chunk_frames: int = 0

    def embed(
        self,
        clips: Clips,
        device: str | torch.device | None = None,
        features: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """One embedding per clip, `(n, D)`: what few-shot episodes and t-SNE look at; or other `features`.

        A transformer's is averaged over pieces of the length that it was trained on; a CNN takes whole clips.
        """
        return embed_clips(
            self.encoder,
            self.frontend,
            clips.waveforms,
            clips.lengths,
            features=features or in_chunks(self.encoder, self.chunk_frames),
            device=device,
        )


def network_of(name: str, ready: PretrainedEncoder) -> Network:
    """An encoder read from a file, by a name of its own."""
    return Network(name, ready.encoder, ready.frontend, ready.about["chunk_frames"])


def random_start(path: str | Path, seed: int) -> nn.Module:
    """The network of an encoder's file at its random start, in eval mode."""
    made = describe_encoder(path)["encoder"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(encoders, made["maker"])(**made["options"])
    return network.eval()


def shipped_network(name: str) -> Network | None:
    """The network of `SHIPPED_ENCODERS` that tables call by this name; None for another name."""
    if name not in SHIPPED_ENCODERS:
        return None
    return network_of(name, load_shipped(SHIPPED_ENCODERS[name]))


def baseline_features(clips: Sequence[Clips]) -> dict[str, list[Tensor]]:
    """What needs no training, by name: statistics of log-mel and of MFCC, one `(n, D)` for each set of clips."""
    return {
        name: [features(part.waveforms, part.lengths) for part in clips]
        for name, features in BASELINES.items()
    }
