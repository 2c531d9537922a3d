"""A folder of recordings through an encoder: any length, rate and format, few files in memory at a time, resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audiossl_lite._version import __version__
from audiossl_lite.common.parameters import user_path
from audiossl_lite.common.progress import progress_bar
from audiossl_lite.data.audio import TOO_LONG, AudioError, is_loud, read_audio
from audiossl_lite.data.clips import Skip
from audiossl_lite.data.corpus import Sound, list_sounds
from audiossl_lite.data.packing import VANISHED_SHARE
from audiossl_lite.evaluation.embed import SHORTEST
from audiossl_lite.frontends import SAMPLE_RATE_HZ
from audiossl_lite.pretrained.parts import REMARKS, ROWS, part_path, read_part, write_part
from audiossl_lite.pretrained.tables import Embeddings
from audiossl_lite.pretrained.weights import PretrainedEncoder, WeightsError

BATCH_S = (
    320.0  # seconds of sound, padding included, that are read at once; a longer file is read alone
)
CHUNKS_AT_ONCE = 32
DECODING_THREADS = 4
PART_VERSION = 3  # of what a finished batch says: one of an older version is done again
GONE = (0, 0)  # size and time of a file that is not there
REASONS_SHOWN = 5


def embed_folder(
    root: str | Path,
    model: PretrainedEncoder,
    *,
    sounds: Sequence[Sound] | None = None,
    left_out: Sequence[Skip] = (),
    chunk_s: float = 10.0,
    keep_chunks: bool = False,
    device: str | torch.device = "cpu",
    parts: str | Path | None = None,
) -> Embeddings:
    """Embed every sound of a folder, a data set or a CSV manifest (see `data.corpus.list_sounds`), in its order.

    Longer files are cut into chunks of `chunk_s` seconds, whose embeddings are averaged by their length, or kept one
    a row with `keep_chunks`; a rest of less than 80 ms does not count. `parts`: a folder for finished batches, from
    which the same call goes on. `sounds`: those of the folder, when they have been listed, and what was `left_out`
    then. Raises ValueError for a chunk that is too short or when no file is left, WeightsError for an encoder that
    gives no row for each clip, and FileNotFoundError when the folder vanishes meanwhile, or many of its files.
    """
    root = user_path(root)
    left_out = list(left_out)
    sounds = list_sounds(root, skipped=left_out) if sounds is None else sounds
    if not chunk_s * SAMPLE_RATE_HZ >= SHORTEST:
        raise ValueError(f"chunk_s must be {SHORTEST / SAMPLE_RATE_HZ} or more, got {chunk_s}")
    base = root.parent if root.is_file() else root
    job = _Job(model.to(device), device, round(chunk_s * SAMPLE_RATE_HZ), keep_chunks)
    rows: list[tuple[int, int, int, np.ndarray]] = []
    skipped: dict[int, str] = {}
    remarks: dict[str, list[int]] = {remark: [] for remark in REMARKS}
    there = [_size_and_time(sound.path) != GONE for sound in sounds]
    vanished: list[str] = []
    if parts is not None:
        Path(parts).mkdir(parents=True, exist_ok=True)
    with progress_bar(len(sounds), f"embedding, {model.name or 'encoder'}") as bar:
        for batch in _batches([_seconds(sound.path) for sound in sounds]):
            content = job.finished([Path(sounds[i].path) for i in batch], parts)
            for place, start, end, vector in zip(*(content[key] for key in ROWS)):
                rows.append((batch[place], int(start), int(end), vector))
            for place, reason in zip(content["skipped"], content["reasons"]):
                i = batch[place]
                skipped[i] = str(reason)
                if there[i] and _size_and_time(sounds[i].path) == GONE:
                    vanished.append(sounds[i].path)
            _stop_if_gone(root, vanished, sum(there), parts)
            for remark, places in remarks.items():
                places += [batch[place] for place in content[remark]]
            bar.update(len(batch))
    names = [Path(os.path.relpath(sound.path, base)).as_posix() for sound in sounds]
    if not rows:
        reasons = sorted(set(skipped.values()))
        more = f" and {n} more reasons" if (n := len(reasons) - REASONS_SHOWN) > 0 else ""
        why = ", ".join(reasons[:REASONS_SHOWN]) + more
        raise ValueError(f"{root}: none of {len(sounds)} files could be embedded: {why}")
    rows.sort(key=lambda row: row[:2])
    return Embeddings(
        sounds=tuple(sounds[row[0]] for row in rows),
        places=np.array([row[0] for row in rows]),
        files=tuple(names[row[0]] for row in rows),
        start_s=np.array([row[1] for row in rows]) / SAMPLE_RATE_HZ,
        end_s=np.array([row[2] for row in rows]) / SAMPLE_RATE_HZ,
        vectors=np.stack([row[3] for row in rows]),
        skipped=(*left_out, *(Skip(names[i], skipped[i]) for i in sorted(skipped))),
        **{remark: tuple(names[i] for i in sorted(places)) for remark, places in remarks.items()},
    )


def _stop_if_gone(
    root: Path, vanished: Sequence[str], n_there: int, parts: str | Path | None
) -> None:
    """A file may vanish while others are embedded; FileNotFoundError when it is more than a share, or all of them."""
    many = len(vanished) > max(1, VANISHED_SHARE * n_there)
    if many or (vanished and not os.path.exists(root)):
        kept = "" if parts is None else ": it goes on from the finished parts, which are kept"
        raise FileNotFoundError(
            f"{root}: of {n_there} files {len(vanished)} vanished while they were embedded, the first is "
            f"{vanished[0]}; make the data readable again and start the same again{kept}"
        )


def _seconds(path: str) -> float:
    """Length by the header, for the order of work alone; 0 where it cannot be read."""
    try:
        return soundfile.info(path).duration if Path(path).is_file() else 0.0
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError):
        return 0.0


def _batches(seconds: Sequence[float]) -> list[list[int]]:
    """Numbers of files in batches of similar length, of at most `BATCH_S` seconds with their padding."""
    batches: list[list[int]] = []
    for i in sorted(range(len(seconds)), key=lambda i: (seconds[i], i)):
        longest = max(seconds[i], 1.0)  # the last one of a batch is its longest
        if not batches or (len(batches[-1]) + 1) * longest > BATCH_S:
            batches.append([])
        batches[-1].append(i)
    return batches


@dataclass
class _Job:
    """What is done with each batch of files, and where its result is kept."""

    model: PretrainedEncoder
    device: str | torch.device
    chunk: int
    keep_chunks: bool
    width: int = 0  # of an embedding, once there is one

    def finished(self, files: Sequence[Path], parts: str | Path | None) -> dict[str, np.ndarray]:
        """The rows of a batch: read where they were written by an earlier call, else computed and written."""
        if parts is None:
            return self.compute(files)
        key = self._key(files)
        content = read_part(part_path(parts, key), len(files))
        if content is None:
            content = self.compute(files)
            if self._key(files) == key:  # else a file vanished or changed meanwhile
                write_part(part_path(parts, key), content)
        if len(content["vectors"]):
            self._agree(content["vectors"].shape[1])
        return content

    def _agree(self, width: int) -> None:
        """All embeddings have one width, else WeightsError."""
        if self.width not in (0, width):
            raise WeightsError(
                f"{self.model.name or 'the encoder'} gave {self.width} numbers for one clip and {width} for another; "
                "it must give as many for each"
            )
        self.width = width

    def _key(self, files: Sequence[Path]) -> str:
        """Names the result: the encoder, the way of cutting, and each file by name, size and time of change."""
        known = [[str(f), *_size_and_time(f)] for f in files]
        settings = [
            PART_VERSION,
            __version__,
            self.model.name,
            self.model.identity,
            self.chunk,
            self.keep_chunks,
        ]
        return hashlib.sha256(json.dumps([settings, known]).encode()).hexdigest()[:24]

    def compute(self, files: Sequence[Path]) -> dict[str, np.ndarray]:
        """Rows: `place` in the batch, `start` and `end` in samples, `vectors`; `skipped`, for `reasons`; `REMARKS`."""
        with ThreadPoolExecutor(DECODING_THREADS) as threads:
            decoded = list(threads.map(_decode, files))
        reasons = {i: text for i, text in enumerate(decoded) if isinstance(text, str)}
        whole = {i: pair for i, pair in enumerate(decoded) if i not in reasons}
        pieces = [
            (i, start, wave[start : start + self.chunk])
            for i, (wave, _) in whole.items()
            for start in range(0, len(wave), self.chunk)
            if start == 0 or len(wave) - start >= SHORTEST
        ]
        pieces.sort(key=lambda piece: len(piece[2]))
        by_file: dict[int, list[tuple[int, int, np.ndarray]]] = {}
        for first in range(0, len(pieces), CHUNKS_AT_ONCE):
            part = pieces[first : first + CHUNKS_AT_ONCE]
            for (i, start, wave), vector in zip(part, self._embed([p[2] for p in part])):
                if isinstance(vector, str):
                    reasons[i] = vector
                elif not np.isfinite(vector).all():
                    reasons[i] = "the embedding is not finite"
                else:
                    by_file.setdefault(i, []).append((start, start + len(wave), vector))
        rows, used = [], sorted(whole.keys() - reasons.keys())
        for i in used:
            chunks = sorted(by_file[i], key=lambda chunk: chunk[0])
            rows += [(i, *chunk) for chunk in (chunks if self.keep_chunks else [_average(chunks)])]
        return {
            "place": _places(row[0] for row in rows),
            "start": _places(row[1] for row in rows),
            "end": _places(row[2] for row in rows),
            "vectors": np.array([row[3] for row in rows], dtype=np.float32),
            "skipped": _places(sorted(reasons)),
            "reasons": np.array([reasons[i] for i in sorted(reasons)], dtype=np.str_),
            "cut_off": _places(i for i in used if whole[i][1]),
            "loud": _places(i for i in used if is_loud(whole[i][0])),
        }

    def _embed(self, waves: Sequence[Tensor]) -> list[np.ndarray | str]:
        """A vector for each chunk; where the encoder refuses a batch, each alone, or why it refuses that one."""
        lengths = torch.tensor([len(wave) for wave in waves])
        padded = pad_sequence(list(waves), batch_first=True)
        try:
            rows = self.model.embed(padded.to(self.device), lengths).float().cpu().numpy()
        except WeightsError:  # it gives no row for each clip: that of another would be taken for it
            raise
        except Exception as error:  # anyone's code
            if len(waves) == 1:
                text = (str(error) or type(error).__name__).splitlines()[0]
                return [f"the encoder cannot take it: {text[:200]}"]
            return [self._embed([wave])[0] for wave in waves]
        self._agree(rows.shape[1])
        return list(rows)


def _decode(path: Path) -> tuple[Tensor, bool] | str:
    """The waveform of a file `(S,)` and whether its end is lost, or why it cannot be used."""
    try:
        return read_audio(path)
    except AudioError as error:
        return error.full if error.reason == TOO_LONG else error.reason


def _average(chunks: Sequence[tuple[int, int, np.ndarray]]) -> tuple[int, int, np.ndarray]:
    """One row for a file: its chunks weighted by their length."""
    weights = [end - start for start, end, _ in chunks]
    vector = np.average([chunk[2] for chunk in chunks], axis=0, weights=weights)
    return chunks[0][0], chunks[-1][1], vector.astype(np.float32)


def _places(numbers: Iterable[int]) -> np.ndarray:
    return np.array([*numbers], dtype=np.int64)


def _size_and_time(path: str | Path) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # ValueError: no path at all
        return GONE
    return state.st_size, state.st_mtime_ns
