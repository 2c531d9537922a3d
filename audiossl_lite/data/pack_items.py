"""What is to be packed: the clips of a data root, their sizes before decoding, and the decoding itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
import soundfile
from torch import Tensor

from audiossl_lite.common.parameters import user_path
from audiossl_lite.data.audio import SAMPLE_RATE_HZ, AudioError, central, read_audio
from audiossl_lite.data.layouts import Listing, find_listing, is_esc50, is_fsdd
from audiossl_lite.data.recipes import Recipe, bytes_per_second, encode
from audiossl_lite.data.sounds import check_pool
from audiossl_lite.data.store_format import checksum, checksum_of

SAMPLED_FILES = 64
FEWEST_BYTES_PER_S = 1000.0  # 8 kbit/s: headers that claim more seconds are not believed
SHORTEST_REST_S = 1.0  # of a long file that becomes several clips; a shorter rest is left out
SILENCE = 1e-3  # of the loudest 10 ms of a clip: 60 dB below
FRAME = 160
NO_FILE = (-1, 0)


@dataclass(frozen=True)
class Item:
    """One clip to be packed, from a file or from memory; `about`: what else is known of it, as JSON can hold it."""

    name: str
    sound: Path | Callable[[], Tensor]
    about: dict[str, Any]

    def state(self) -> tuple[int, int]:
        """Bytes of the file, and when it or its place last changed, which no tool can set back.

        `NO_FILE` for what is no regular file, and for sounds in memory.
        """
        try:
            about = self.sound.stat() if isinstance(self.sound, Path) else None
        except (OSError, ValueError):
            return NO_FILE
        is_file = about is not None and S_ISREG(about.st_mode)
        return (about.st_size, about.st_ctime_ns) if is_file else NO_FILE

    def content(self) -> str:
        """Checksum of the file or of the samples in memory."""
        if isinstance(self.sound, Path):
            return checksum(self.sound)
        return checksum_of(self.sound().numpy().tobytes())

    def is_as_before(self, size: int, changed: int, content: str) -> bool:
        """Whether this is what was packed: by size and time of last change, else by its content."""
        now = self.state()
        if now == (size, changed) != NO_FILE:
            return True
        return now[0] == size and self.content() == content


@dataclass(frozen=True)
class Packed:
    """Raw data of a clip, `(S,)` int16 or `(T, F)` float16, several for a long file; `reason` when there are none.

    `spans`: where each piece of a waveform sounds. `cut_off`: the file has lost its end.
    `file`: state and content of what was read, see `is_as_before`.
    """

    pieces: list[np.ndarray] = field(default_factory=list)
    spans: list[tuple[int, int] | None] = field(default_factory=list)
    clipped: bool = False
    cut_off: bool = False
    reason: str = ""
    file: tuple[int, int, str] = (*NO_FILE, "")


def find_clips(data_root: str | Path, pool: str = "event") -> Listing:
    """The files that `load_clips(data_root, pool=pool)` would read; raises as it does, and where it has none.

    A folder without a layout of its own is packed by its manifest; ValueError names them when there are several: they
    are different choices of its clips, with and without those for evaluation.
    """
    check_pool(pool)
    if str(data_root).strip() in ("", "synthetic"):
        raise ValueError("embedded sounds need no store; give a folder or a CSV manifest")
    root = user_path(data_root)
    own_layout = not root.is_dir() or is_esc50(root) or is_fsdd(root)
    manifests = [] if own_layout else sorted(root.glob("manifest*.csv"))
    if len(manifests) > 1:
        names = ", ".join(path.name for path in manifests)
        raise ValueError(f"{root}: several manifests ({names}); give the path of the one to pack")
    listing = find_listing(manifests[0] if manifests else root, pool)
    if listing is None or not listing.entries:
        reasons = {skip.reason for skip in listing.skipped} if listing else {f"no pool {pool!r}"}
        raise ValueError(
            f"data_root {root}: no clip found ({', '.join(sorted(reasons)) or 'no audio file'})"
        )
    return listing


def estimate_bytes(items: Sequence[Item], recipe: Recipe) -> int:
    """About how much disk the clips will need, from the headers of some of them, evenly spaced."""
    seconds = []
    for item in items[:: max(len(items) // SAMPLED_FILES, 1)]:
        try:
            if not isinstance(item.sound, Path):
                seconds.append(len(item.sound()) / SAMPLE_RATE_HZ)
            elif (size := item.state()[0]) > 0:
                claimed = soundfile.info(item.sound).duration
                seconds.append(min(claimed, size / FEWEST_BYTES_PER_S))
        except (soundfile.SoundFileError, OSError, RuntimeError, ValueError):
            continue  # it will be skipped
    if not seconds:
        return 0
    longest = recipe["max_s"] or max(seconds)
    mean_s = sum(min(length, longest) for length in seconds) / len(seconds)
    return round(len(items) * mean_s * bytes_per_second(recipe))


def pack_item(item: Item, recipe: Recipe) -> Packed:
    """Decode, cut and encode one clip; what is wrong with a file becomes a reason, never an exception."""
    state = item.state()
    try:
        is_file = isinstance(item.sound, Path)
        waveform, cut_off = read_audio(item.sound) if is_file else (item.sound(), False)
        file = (*state, item.content())
        scaled = central(waveform, recipe["max_s"]) * recipe.get("gain", 1.0)
        raw, clipped = encode(scaled, recipe)
    except AudioError as error:
        return Packed(reason=error.reason, file=(*state, ""))
    except (ValueError, RuntimeError, OSError) as error:
        return Packed(reason=f"cannot be packed: {str(error).splitlines()[0]}", file=(*state, ""))
    pieces = _pieces(raw.numpy(), recipe.get("piece_s"))
    spans = [sounding_span(piece) if piece.ndim == 1 else None for piece in pieces]
    return Packed(pieces, spans, clipped, cut_off, "" if pieces else "silent", file)


def _pieces(raw: np.ndarray, piece_s: float | None) -> list[np.ndarray]:
    """A clip, or the pieces that a long one becomes, without those in which no sample is left."""
    longest = round(piece_s * SAMPLE_RATE_HZ) if piece_s else len(raw)
    pieces = [raw[first : first + longest] for first in range(0, len(raw), longest)]
    rest = SHORTEST_REST_S * SAMPLE_RATE_HZ
    return [p for i, p in enumerate(pieces) if p.any() and (i == 0 or len(p) >= rest)]


def sounding_span(samples: np.ndarray) -> tuple[int, int]:
    """First and last sample (exclusive) of the 10 ms frames that are within 60 dB of the loudest one."""
    n_frames = max(len(samples) // FRAME, 1)
    frames = samples[: n_frames * FRAME].astype(np.float32).reshape(n_frames, -1)
    level = np.sqrt(np.square(frames).mean(1))
    loud = np.flatnonzero(level >= SILENCE * level.max())
    last = len(samples) if loud[-1] == n_frames - 1 else (loud[-1] + 1) * FRAME
    return int(loud[0]) * FRAME, int(last)
