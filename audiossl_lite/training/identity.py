"""Which run a folder holds: its settings, data, method and views, so that no other run is mistaken for it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from audiossl_lite.training.sources import ClipSource, InMemory, data_digest, data_sums, same_sums

# How a step is computed, which does not change the run.
COMPUTE_ONLY = ("training", "n_parts", "recompute")


def run_identity(
    method: nn.Module, views: nn.Module, data: Tensor | ClipSource, config: Any
) -> dict[str, Any]:
    """All settings of a run by name, with short digests of its method, views and data.

    Of data in memory there are sums instead of a digest, so that a run can go on where spectrograms round differently.
    """
    settings = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
    }
    held = data.data if isinstance(data, InMemory) else data
    lengths = getattr(data, "lengths", None)
    return settings | {
        "n_clips": len(data),
        "lengths": None if lengths is None else data_digest(lengths.cpu()),
        "data": data_sums(held) if isinstance(held, Tensor) else held.digest(),
        "method": module_digest(method),
        "views": module_digest(views),
    }


def differences(past: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of what two identities do not share; data in memory may differ by rounding."""

    def same(key: str) -> bool:
        ours, theirs = now.get(key), past.get(key)
        in_memory = key == "data" and isinstance(ours, dict) and isinstance(theirs, dict)
        return same_sums(ours, theirs) if in_memory else ours == theirs

    return [key for key in sorted(past | now) if not same(key)]


def module_digest(module: nn.Module) -> str:
    """Eight hex digits over the plain attributes and parameter shapes of a module and all its parts.

    Numbers count to six digits: a statistic of the data may differ in its last bits between machines.
    """
    lines = []
    for name, part in module.named_modules():
        plain = {
            key: f"{value:.6g}" if isinstance(value, float) else value
            for key, value in vars(part).items()
            if isinstance(value, (bool, int, float, str, tuple))
            and key not in COMPUTE_ONLY
            and not key.startswith("_")
        }
        lines.append(f"{name} {type(part).__name__} {sorted(plain.items())}")
    lines += [f"{name} {tuple(p.shape)}" for name, p in module.named_parameters()]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=4).hexdigest()
