"""Pairs of the data path: a batch of two views per clip, by the library and clip by clip.

The clip-by-clip side is the plain recipe of published training code: a data set whose items are made one at a time
from a sound file (decode, cut two segments, two mels, log-mixup-exp with a memory, random resized crop by bicubic
`interpolate`), then stacked. Both sides make the same random draws, so their views must agree.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from audiossl_lite.data.packing import pack
from audiossl_lite.data.recipes import make_recipe, recipe_frontend
from audiossl_lite.frontends import ATSTFrontend
from audiossl_lite.views.augmentations import RandomResizedCrop, uniform
from audiossl_lite.views.segments import ViewMaker, random_starts
from tests.benchmarks.pairs import Pair

EPS = torch.finfo(torch.float32).eps
CLIP_S, SEGMENT_S = 10.0, 6.0  # ATST on AudioSet
EDGE = 512  # samples that the first and the last frame reach beyond their segment
MAX_RATIO = 0.4


def sound_files(n_clips: int, clip_s: float) -> Path:
    """A folder of 16-bit FLAC files: noise whose loudness and colour change within each clip."""
    folder = Path(tempfile.mkdtemp(prefix="data_pairs_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(0)
    n_samples = round(clip_s * 16_000)
    clock = torch.arange(n_samples) / 16_000
    (folder / "sounds" / "all").mkdir(parents=True)
    for number in range(n_clips):
        noise = torch.randn(n_samples, generator=generator)
        beat, pitch = torch.rand(2, generator=generator).tolist()
        loudness = 0.02 + 0.05 * (torch.sin(6.28 * (1 + 3 * beat) * clock) > 0)
        tone = 0.2 * torch.sin(6.28 * (200 + 2000 * pitch) * clock)
        samples = (loudness * noise + tone).clamp(-1, 0.99)
        path = folder / "sounds" / "all" / f"{number:05d}.flac"
        soundfile.write(path, samples.numpy(), 16_000, "PCM_16")
    return folder


@dataclass
class Draws:
    """The random choices of a batch of two views, in the order in which `ViewMaker` makes them."""

    starts: list[Tensor]
    ratios: list[Tensor | None]
    picks: list[Tensor | None]
    windows: list[dict[str, Tensor]]


class OneByOne:
    """The clip-by-clip pipeline: `cut` says whether segments start at samples or at whole-clip frames."""

    def __init__(
        self, files: list[Path], frontend: ATSTFrontend, size: int, cut: str, memory_size: int
    ) -> None:
        self.files, self.frontend, self.size, self.cut = files, frontend, size, cut
        self.memories: list[deque[Tensor]] = [deque(maxlen=memory_size) for _ in range(2)]
        self.generator = torch.Generator().manual_seed(1)

    def draw(self, n_clips: int, length: int, n_frames: int) -> Draws:
        """Draws for a batch; every clip then uses its own."""
        generator, cpu = self.generator, torch.device("cpu")
        lengths = torch.full((n_clips,), length)
        draws = Draws([random_starts(lengths, self.size, generator) for _ in range(2)], [], [], [])
        for memory in self.memories:
            if memory:
                draws.ratios.append(uniform(n_clips, 0.0, MAX_RATIO, generator, cpu))
                draws.picks.append(torch.randint(len(memory), (n_clips,), generator=generator))
            else:
                draws.ratios.append(None)
                draws.picks.append(None)
        crop = RandomResizedCrop()
        draws.windows = [crop.draw(n_clips, n_frames, 64, generator) for _ in range(2)]
        return draws

    def mel(self, waveform: Tensor, start: int) -> Tensor:
        """The normalised log-mel `(T, F)` of one segment."""
        frontend = self.frontend
        if self.cut == "waveform":
            return frontend(waveform[None, start : start + self.size])[0]
        # Cut from the whole clip's frames: with the sound on both sides of the segment.
        padded = pad(waveform[None, None], (EDGE, EDGE), mode="reflect")[0, 0]
        first = start * 160
        piece = padded[first : first + (self.size - 1) * 160 + 2 * EDGE]
        spectrum = torch.stft(
            piece, 1024, 160, len(frontend.power.window), frontend.power.window,
            center=False, return_complex=True,
        )  # fmt: skip
        power = spectrum.abs().square().T @ frontend.power.mel_bank
        db = 10.0 * torch.log10(power.clamp_min(1e-10))
        return (db - frontend.min_db) / (frontend.max_db - frontend.min_db) * 2.0 - 1.0

    def item(self, place: int, index: int, draws: Draws, old: list[list[Tensor]]) -> list[Tensor]:
        """Two views of one clip, read from its file."""
        samples, _ = soundfile.read(self.files[index], dtype="float32")
        waveform = torch.from_numpy(samples)
        views = []
        for view in range(2):
            mel = self.mel(waveform, int(draws.starts[view][place]))
            mixed = mel
            ratio, pick = draws.ratios[view], draws.picks[view]
            if ratio is not None:
                share, other = ratio[place], old[view][int(pick[place])]
                mixed = torch.log((1 - share) * mel.exp() + share * other.exp() + EPS)
            self.memories[view].append(mel)
            window = {name: int(value[place]) for name, value in draws.windows[view].items()}
            views.append(resized(mixed, **window))
        return views

    def __call__(self, indices: Tensor, length: int, n_frames: int) -> tuple[Tensor, Tensor]:
        """Two views `(B, T, F)` of a batch, item after item."""
        draws = self.draw(len(indices), length, n_frames)
        # What the batched memory holds while it mixes this batch: the clips before it.
        old = [list(memory) for memory in self.memories]
        items = [self.item(place, i, draws, old) for place, i in enumerate(indices.tolist())]
        first, second = (torch.stack([views[view] for views in items]) for view in range(2))
        return first, second


def resized(mel: Tensor, top: int, left: int, bands: int, frames: int) -> Tensor:
    """Random resized crop of one spectrogram on its canvas, by `interpolate`."""
    n_frames, n_bands = mel.shape
    margin = (int(n_frames * 1.5) - n_frames) // 2 + 1
    canvas = pad(mel, (0, 0, margin, margin))
    piece = canvas[margin + left : margin + left + frames, top : top + bands]
    return interpolate(
        piece[None, None], size=(n_frames, n_bands), mode="bicubic", align_corners=True
    )[0, 0]


@dataclass(frozen=True)
class ViewsPair(Pair):
    """Both sides return two views, as a method takes them."""

    def difference(self) -> float:
        """The largest absolute difference of either view."""
        return max(
            float((a - b).abs().max()) for a, b in zip(self.fast(), self.obvious(), strict=True)
        )


def views_pair(
    cut: str, n_clips: int = 32, clip_s: float = CLIP_S, segment_s: float = SEGMENT_S
) -> Pair:
    """A store and `ViewMaker` against the clip-by-clip pipeline; both cut from `cut`.

    "waveform": mels of the segments on both sides. "spectrogram": the store keeps each clip's log-mel, made once,
    as float16; the clip-by-clip pipeline makes its two mels every time, as its recipe does.
    """
    folder = sound_files(2 * n_clips, clip_s)
    kind = "waveform" if cut == "waveform" else "atst_paper"
    store = pack(folder / "sounds", folder / "store", kind=kind, workers=0)
    frames = round(segment_s * 100)
    size, n_frames = (frames * 160 if cut == "waveform" else frames + 1), frames + 1
    frontend = recipe_frontend(make_recipe("atst_paper"))
    memory_size = 4 * n_clips
    views = ViewMaker(size, crop_from=cut, frontend=frontend, memory_size=memory_size)
    files = sorted((folder / "sounds" / "all").iterdir())
    one_by_one = OneByOne(files, frontend, size, cut, memory_size)
    generator = torch.Generator().manual_seed(1)
    length = int(store.lengths[0])

    def fast(indices: Tensor) -> tuple[Tensor, Tensor]:
        clips, lengths = store.batch(indices, "cpu")
        return views(clips, generator, lengths)

    first, second = torch.arange(2 * n_clips).split(n_clips)
    fast(first)  # fills the memories: only later batches are mixed
    one_by_one(first, length, n_frames)
    what = "log-mels" if cut == "spectrogram" else "waveforms"
    # float16 keeps 11 bits of a value below 2; mixing and bicubic weights make at most twice that.
    tolerance = 1e-4 if cut == "waveform" else 2e-3
    return ViewsPair(
        f"two views of {n_clips} clips, store of {what}",
        lambda: fast(second),
        lambda: one_by_one(second, length, n_frames),
        tolerance,
    )


def spectrogram_views_pair(n_clips: int = 32) -> Pair:
    """The data path of the paper's jobs: log-mels made once, everything else on the device."""
    return views_pair("spectrogram", n_clips)


def waveform_views_pair(n_clips: int = 32) -> Pair:
    """The same with mels made at every step on both sides."""
    return views_pair("waveform", n_clips)


DATA_PAIRS = (spectrogram_views_pair, waveform_views_pair)
