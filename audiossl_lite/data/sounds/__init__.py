"""The embedded sounds: events, notes and spoken words, made anew each time from a few formulas."""

from audiossl_lite.data.sounds.synthetic import POOLS, check_pool, describe, synthetic_clips

__all__ = ["POOLS", "check_pool", "describe", "synthetic_clips"]
