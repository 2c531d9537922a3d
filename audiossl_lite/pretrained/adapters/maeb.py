"""Our encoders in MAEB, the audio tasks of `mteb`: `mteb.evaluate(MAEBEncoder("cnn_events"), tasks)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from audiossl_lite.data.audio import resample
from audiossl_lite.pretrained.adapters.hear import HearModel


class MAEBEncoder(HearModel):
    """An encoder of `load_any` under mteb's `EncoderProtocol`; similarity is the cosine.

    `model_name`: as `load_any`. `revision` is what mteb passes, and is not used: the weights have a checksum.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_name)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.to(self.device)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb files the results under: name, checksum, sizes."""
        from mteb.models import ModelMeta
        from mteb.models.model_meta import ScoringFunction

        return ModelMeta.create_empty(
            {
                "name": f"audiossl_lite/{self.model.name}",
                "revision": self.model.identity,
                "embed_dim": self.scene_embedding_size,
                "n_parameters": sum(p.numel() for p in self.parameters()),
                "modalities": ["audio"],
                "framework": ["PyTorch"],
                "similarity_fn_name": ScoringFunction.COSINE,
            }
        )

    def encode(self, inputs: Iterable[Mapping[str, Any]], **kwargs: Any) -> np.ndarray:
        """Embeddings `(n, D)` of a loader's batches, whose `"audio"` are clips with `"array"` and `"sampling_rate"`.

        What else mteb passes (task, split, prompt) does not change an embedding.
        """
        return np.concatenate([self._embed(batch["audio"]) for batch in inputs])

    def _embed(self, clips: Iterable[Mapping[str, Any]]) -> np.ndarray:
        waves = [_mono(clip["array"], clip["sampling_rate"]) for clip in clips]
        padded = pad_sequence(waves, batch_first=True).to(self.device)
        lengths = torch.tensor([len(wave) for wave in waves])
        return self.model.embed(padded, lengths).float().cpu().numpy()

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines of all pairs, `(n, D)` and `(m, D)` -> `(n, m)`."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines row by row, `(n, D)` and `(n, D)` -> `(n,)`."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(-1)


def _mono(array: Any, rate_hz: int) -> Tensor:
    """A clip `(S,)` or `(channels, S)` at 16 kHz, `(S,)`."""
    wave = torch.as_tensor(np.asarray(array), dtype=torch.float32)
    return resample(wave.mean(0) if wave.dim() > 1 else wave, rate_hz)


def _unit(embeddings: Any) -> Tensor:
    return normalize(torch.as_tensor(embeddings, dtype=torch.float32), dim=-1)
