"""Audio files, data sets and embedded sounds, all as `Clips` in memory."""

from audiossl_lite.data.datasets import load_clips

__all__ = ["load_clips"]
