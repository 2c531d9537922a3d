"""Our encoders in EVAR (nttcslab/eval-audio-repr), for linear evaluation: what its `BaseAudioRepr` asks for.

In EVAR's folder, `evar/ar_audiossl_lite.py` imports `AR_AudiosslLite` from here, `lineareval.py` imports that file
beside the others, and a configuration names both: `audio_repr: ar_audiossl_lite.AR_AudiosslLite`, `weight_file:` a name
or file of `load_any`, `sample_rate: 16000`, and the training parameters of any other configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from audiossl_lite.frontends import SAMPLE_RATE_HZ
from audiossl_lite.pretrained.adapters.hear import HearModel


class AR_AudiosslLite(HearModel):
    """A frozen encoder of `load_any`; `forward(audio (B, S)) -> (B, D)`.

    `cfg`: EVAR's settings, of which `weight_file` and `sample_rate` are read. Raises ValueError for another rate, and
    as `load_any`.
    """

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        if cfg["sample_rate"] != SAMPLE_RATE_HZ:
            raise ValueError(f"sample_rate is {cfg['sample_rate']}; set it to {SAMPLE_RATE_HZ}")
        super().__init__(cfg["weight_file"])
        self.cfg = cfg

    def precompute(self, device: str | torch.device, data_loader: Iterable) -> None:
        """Nothing: the frontends bring their statistics."""

    def encode_frames(self, batch_audio: Tensor) -> Tensor:
        """The embedding as its only frame, `(B, D, 1)`."""
        return self(batch_audio)[:, :, None]
