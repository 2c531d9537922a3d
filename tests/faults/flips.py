"""Flipped bits and zeroed blocks in checkpoints and weight files: `python -m tests.faults.flips`.

Counts how many damaged files are refused, how many load with everything as it was (bits that nobody reads), how many
load with something changed, and how many raise another error than the one that names the file. Exit status 1 unless
the last two are 0.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiossl_lite.encoders import byola_tiny
from audiossl_lite.frontends import BYOLAFrontend
from audiossl_lite.pretrained import load_encoder
from audiossl_lite.pretrained.shipped import save_encoder
from audiossl_lite.pretrained.weights import read_weights
from audiossl_lite.training import load_checkpoint, save_checkpoint

N_FLIPS, N_BLOCKS = 300, 20
REFUSED, SAME, CHANGED, RAW = "refused", "as it was", "changed", "raw error"


def flipped(content: bytes, bit: int) -> bytes:
    """`content` with one bit turned over."""
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


def zeroed(content: bytes, share: float, n_bytes: int = 4096) -> bytes:
    """`content` with a block of zeros from `share` of its length on."""
    start = int(share * len(content))
    return (
        content[:start] + bytes(len(content[start : start + n_bytes])) + content[start + n_bytes :]
    )


def same(ours: Any, theirs: Any) -> bool:
    """Equal to the last bit, NaN included, through dictionaries and lists."""
    if isinstance(ours, Tensor):
        equal = isinstance(theirs, Tensor) and (ours.dtype, ours.shape) == (
            theirs.dtype,
            theirs.shape,
        )
        return equal and ours.numpy().tobytes() == theirs.numpy().tobytes()
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def sweep(
    path: Path, load: Callable[[Path], Any], *, n_flips: int = N_FLIPS, n_blocks: int = N_BLOCKS
) -> Counter[str]:
    """How loading ended for each damage to the file at `path`, which is whole again afterwards."""
    whole, expected, draw = path.read_bytes(), load(path), random.Random(0)
    damaged = [flipped(whole, draw.randrange(8 * len(whole))) for _ in range(n_flips)]
    damaged += [zeroed(whole, draw.random()) for _ in range(n_blocks)]
    endings: Counter[str] = Counter()
    for content in damaged:
        if content == whole:  # zeros over zeros
            continue
        path.write_bytes(content)
        try:
            endings[SAME if same(load(path), expected) else CHANGED] += 1
        except ValueError as error:
            endings[REFUSED if str(path) in str(error) else RAW] += 1
        except Exception:
            endings[RAW] += 1
    path.write_bytes(whole)
    return endings


def content_of(pretrained: Any) -> dict[str, Any]:
    """Everything of a loaded encoder that embeddings depend on."""
    return {
        "state": dict(pretrained.encoder.state_dict()),
        "frontend": vars(pretrained.frontend).get("mean"),
    }


def targets(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A small file of each kind, and how it is loaded."""
    torch.manual_seed(0)
    encoder = byola_tiny().eval()
    paths = {name: folder / name for name in ("last.pt", "published.pth", "encoder.safetensors")}
    state = {"method": encoder.state_dict(), "step": 3, "history": [{"step": 1, "loss": 0.5}]}
    save_checkpoint(paths["last.pt"], state)
    torch.save(encoder.state_dict(), paths["published.pth"])
    save_encoder(
        paths["encoder.safetensors"], encoder, BYOLAFrontend(-4.0, 3.0), maker="byola_tiny"
    )
    return {
        "checkpoint (last.pt)": (paths["last.pt"], load_checkpoint),
        "own weights (.safetensors)": (
            paths["encoder.safetensors"],
            lambda path: content_of(load_encoder(path)),
        ),
        "published weights (.pth)": (paths["published.pth"], read_weights),
    }


def main() -> int:
    """Print a line for each kind of file; status 1 when damage went unnoticed or was told by a raw error."""
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: sweep(*target) for name, target in targets(Path(folder)).items()}
    for name, row in rows.items():
        counts = ", ".join(f"{row[ending]} {ending}" for ending in (REFUSED, SAME, CHANGED, RAW))
        print(f"{name:<28}{sum(row.values())} damaged files: {counts}")
    return int(any(row[CHANGED] or row[RAW] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
