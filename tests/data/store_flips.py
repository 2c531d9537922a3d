"""Single-bit flips in the files of a small store: which of them do a reader, `verify` and packing again notice?"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from audiossl_lite.data.packing import pack
from audiossl_lite.data.store import PackedStore
from audiossl_lite.data.store_format import StoreError, verify_store
from tests.data.sounds import put

FAULTS = ("read", "raw", "verified", "blessed")
PATTERNS = {"data": "part-*.bin", "manifest": "part-*.json", "index": "store.json"}


def small_store(folder: Path) -> tuple[Path, Path]:
    """Sounds in two classes and a store of two parts made of them; returns both folders."""
    noise = np.random.default_rng(0)
    for number in range(8):
        samples = noise.integers(-3000, 3000, 1600 + 100 * number).astype(np.int16)
        put(folder / "sounds" / f"class{number % 2}" / f"{number}.wav", samples)
    pack(folder / "sounds", folder / "store", workers=0, clips_per_part=4)
    return folder / "sounds", folder / "store"


def reading(folder: Path) -> str:
    """What a reader of all clips ends with: "read", "refused", or "raw" for an error that is not the store's."""
    try:
        store = PackedStore(folder)
        store.batch(torch.arange(len(store)), "cpu")
    except StoreError:
        return "refused"
    except Exception:
        return "raw"
    return "read"


def flip_bits(folder: Path, n_flips: int, seed: int = 0) -> dict[str, Counter[str]]:
    """For each kind of file: how flips are read (see `reading`), how many `verify` passes and how many are blessed.

    Blessed: packing again takes the store, and `verify` is content with what is not the store that was packed.
    """
    root, store = small_store(folder)
    whole = {path: path.read_bytes() for path in store.iterdir() if path.name[0] != "."}
    generator = np.random.default_rng(seed)
    counts = {kind: Counter() for kind in PATTERNS}
    for number in range(n_flips):
        kind = list(PATTERNS)[number % len(PATTERNS)]
        paths = sorted(store.glob(PATTERNS[kind]))
        path = paths[generator.integers(len(paths))]
        content = bytearray(whole[path])
        bit = int(generator.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        counts[kind]["flips"] += 1
        counts[kind][reading(store)] += 1
        with contextlib.suppress(Exception):
            counts[kind]["verified"] += not verify_store(store)
        with contextlib.suppress(Exception):
            pack(root, store, workers=0, clips_per_part=4)
            now = {p: p.read_bytes() for p in store.iterdir() if p.name[0] != "."}
            counts[kind]["blessed"] += not verify_store(store) and now != whole
        for path in store.iterdir():
            if path not in whole:
                path.unlink()
        for path, content in whole.items():
            path.write_bytes(content)
    return counts
