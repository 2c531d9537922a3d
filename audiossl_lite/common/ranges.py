"""Which numbers a setting or a command's option may be: one table for presets, overrides, job files and commands."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable
from typing import Any

# Lowest and highest value, and the names of what it holds for.
LIMITS: dict[tuple[float, float], str] = {
    (2, 10**6): "batch_size head_batch_size atst_batch_size byola_batch_size n_way ways batch",
    (1, 10**9): "steps head_steps tuning_steps mae_steps atst_steps byola_steps epochs iterations log_every save_every "
    "evaluate_every clips_per_class clips_per_part n_episodes grid_episodes n_query memory_size shots episodes",
    (1, 1000): "n_seeds seeds processes threads attempts",
    (0, 10**9): "warmup_steps warmup_epochs probe_every show clip_norm chunk_frames spec_bands spec_frames queue_size",
    (0, 1000): "workers prefetch k block utterance_weight",
    (1, 65_536): "n_parts n_frames n_mels decoder_dim hidden_dim projection_dim predictor_dim",
    (1, 64): "decoder_depth decoder_heads decoder_groups decoder_kernel top_blocks n_masks",
    (0.01, 3600): "clip_s segment_s chunk_s",
    (0, 86_400): "max_s pause",
    (0, 10**7): "timeout cell_timeout",
    (0.1, 3600): "patience",
    (0.01, 10**5): "minutes",
    (0, 100): "learning_rate final_learning_rate head_learning_rate weight_decay final_weight_decay init_std",
    (0, 1): "momentum final_momentum eps layer_decay mixup_probability validation_share collapse_share "
    "mask_time mask_freq head_decay_scale block_extra",
    (0, 0.9999): "beta_2 drop_path warmup_share",
    (0.01, 0.99): "mask_ratio time_ratio freq_ratio",
    (1e-4, 1000): "temperature alpha mixup_alpha",
    (0, 120): "gain_db",
}  # fmt: skip
RANGES = {name: limits for limits, names in LIMITS.items() for name in names.split()}


def check_range(name: str, value: Any) -> Any:
    """`value` when it is no number, or one within the range of the setting or option `name`.

    Errors: ValueError naming it, the range and the value; where no range is known a number must be finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    low, high = RANGES.get(name, (-math.inf, math.inf))
    if not low <= value <= high or (isinstance(value, float) and not math.isfinite(value)):
        wanted = f"between {low:,} and {high:,}" if name in RANGES else "a finite number"
        raise ValueError(f"{name} must be {wanted}, got {value}.")
    return value


def check_ranges(settings: Any) -> None:
    """`check_range` of every field of a dataclass; ValueError, too, when a warm-up is not shorter than its run."""
    values = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    for name, value in values.items():
        check_range(name, value)
    for unit in ("steps", "epochs"):
        warmup = values.get(f"warmup_{unit}", 0)
        if unit in values and warmup >= values[unit]:
            raise ValueError(
                f"warmup_{unit} must be less than {unit}, got warmup_{unit}={warmup} of {unit}={values[unit]}; "
                "set both"
            )


def ranged(name: str, kind: type) -> Callable[[str], Any]:
    """The `type` of a command's option: text as `kind`, within the range of `name`."""

    def read(text: str) -> Any:
        value = kind(text)
        try:
            return check_range(name, value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    read.__name__ = kind.__name__  # which argparse names when the text is no number
    return read
