"""Audio files, data sets and embedded sounds, all as `Clips` in memory."""

from audiossl_lite.data.audio import SAMPLE_RATE_HZ, AudioError, load_audio, save_audio
from audiossl_lite.data.clips import Clips, Skip
from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.sounds import describe, synthetic_clips

__all__ = [
    "SAMPLE_RATE_HZ",
    "AudioError",
    "Clips",
    "Skip",
    "describe",
    "load_audio",
    "load_clips",
    "save_audio",
    "synthetic_clips",
]
