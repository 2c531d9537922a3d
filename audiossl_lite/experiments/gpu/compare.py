"""How two results are compared: a relative error, a row of a record, weights that everybody can make up alike."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Row = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """`measure()` gives the rows of one comparison; on a card's host it takes about so many `seconds`."""

    name: str
    measure: Callable[[], Iterable[Row]]
    seconds: float = 2.0


def row(
    name: str,
    error: float | None,
    tolerance: float | None,
    detail: str = "",
    *,
    passed: bool | None = False,
) -> Row:
    """A row of the record; with an `error` it has passed when that is within the tolerance (NaN is not)."""
    if error is not None:
        passed = error <= tolerance
    return {
        "name": name, "mean": error, "ci95": None, "tolerance": tolerance, "passed": passed,
        "detail": detail,
    }  # fmt: skip


def relative(out: Tensor, reference: Tensor) -> float:
    """||out - reference|| / ||reference||; of whole numbers and truth values the share that differs."""
    out, reference = out.detach().cpu(), reference.detach().cpu()
    if out.shape != reference.shape:
        raise ValueError(f"shapes differ: {tuple(out.shape)} and {tuple(reference.shape)}")
    if not reference.is_floating_point():
        return float((out != reference).double().mean())
    distance = (out.double() - reference.double()).norm()
    return float(distance / reference.double().norm().clamp_min(1e-30))


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """All values in one vector, float64 on the CPU."""
    return torch.cat([x.detach().flatten().double().cpu() for x in tensors])


def made_up_weights(keys: Iterable[tuple[str, Iterable[int]]]) -> dict[str, Tensor]:
    """The fill rule of the reference outputs: every key has its own seeded normal draw, so a file is not needed.

    `keys`: name and shape of every weight.
    """
    state = {}
    for key, shape in keys:
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        value = 0.02 * torch.randn(tuple(shape), generator=generator)
        state[key] = value + 1 if key.endswith("weight") and "norm" in key else value
    return state
