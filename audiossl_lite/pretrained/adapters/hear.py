"""Our encoders under the HEAR protocol: a suite that speaks it is given the name of this module.

Its three functions are those of the protocol; as model file it takes what `load_any` takes, a name or a path.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.frontends import SAMPLE_RATE_HZ
from audiossl_lite.pretrained.recognise import load_any

DEFAULT = "cnn_events"
HOP_MS = 50.0
WINDOW_S = 1.0  # of sound around each timestamp
WINDOWS_AT_ONCE = 32


class HearModel(nn.Module):
    """An encoder of `load_any` with the attributes that the protocol asks for; `forward(audio (n, S)) -> (n, D)`."""

    def __init__(self, name_or_file: str) -> None:
        super().__init__()
        self.model = load_any(name_or_file)
        self.encoder, self.frontend = (
            self.model.encoder,
            self.model.frontend,
        )  # so that .to() moves them
        self.sample_rate = SAMPLE_RATE_HZ
        size = self.model.embed(torch.zeros(1, SAMPLE_RATE_HZ)).shape[1]
        self.scene_embedding_size = self.timestamp_embedding_size = size
        self.eval()

    def forward(self, audio: Tensor) -> Tensor:
        return self.model.embed(audio)


def load_model(model_file_path: str = "") -> HearModel:
    """The encoder by a name or file; the shipped CNN without one. Errors as `load_any`."""
    return HearModel(model_file_path or DEFAULT)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """One embedding a clip: `audio (n, S)` at `model.sample_rate` -> `(n, D)`."""
    return model(audio)


def get_timestamp_embeddings(
    audio: Tensor, model: HearModel, hop_ms: float = HOP_MS
) -> tuple[Tensor, Tensor]:
    """An embedding every `hop_ms`, `(n, N, D)`, and its times in milliseconds `(n, N)`.

    Each is that of the second of sound around its time, zeros beyond the ends of the clip.
    """
    hop, window = round(hop_ms * SAMPLE_RATE_HZ / 1000), round(WINDOW_S * SAMPLE_RATE_HZ)
    n_times = audio.shape[1] // hop + 1
    padded = nn.functional.pad(audio, (window // 2, window // 2))
    windows = padded.unfold(1, window, hop)[
        :, :n_times
    ]  # (n, N, window), a view: nothing is copied
    vectors = [torch.cat([model(w) for w in clip.split(WINDOWS_AT_ONCE)]) for clip in windows]
    times = (torch.arange(n_times, device=audio.device) * hop_ms).expand(len(audio), -1)
    return torch.stack(vectors), times
