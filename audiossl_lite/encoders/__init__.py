"""Encoders: a spectrogram `(B, T, F)` in, an embedding `(B, D)` out."""

from audiossl_lite.encoders.atst import (
    ATSTEncoder,
    atst_base,
    atst_compact,
    atst_mini,
    atst_small,
    atst_tiny,
)
from audiossl_lite.encoders.audiomae import (
    AudioMAEEncoder,
    audiomae_base,
    audiomae_compact,
    audiomae_small,
    audiomae_tiny,
)
from audiossl_lite.encoders.byola import BYOLAEncoder, byola_cnn, byola_small, byola_tiny

__all__ = [
    "ATSTEncoder",
    "AudioMAEEncoder",
    "BYOLAEncoder",
    "atst_base",
    "atst_compact",
    "atst_mini",
    "atst_small",
    "atst_tiny",
    "audiomae_base",
    "audiomae_compact",
    "audiomae_small",
    "audiomae_tiny",
    "byola_cnn",
    "byola_small",
    "byola_tiny",
]
