"""Make one bad input of every kind and collect what the library says about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiossl_lite.data import datasets
from audiossl_lite.data.audio import AudioError, load_audio
from audiossl_lite.data.datasets import load_clips
from audiossl_lite.parameters import make_parameters
from tests.data.bad_sounds import KINDS
from tests.data.sounds import hum, put


@dataclass(frozen=True)
class Said:
    """One bad input, the short reason in a report (empty for errors), and the whole message."""

    what: str
    reason: str
    message: str


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def bad_files(root: Path) -> Iterator[Said]:
    """Files that cannot be used as audio: in a data set a skip, alone an AudioError."""
    sine, spoiled = hum(), hum()
    spoiled[100] = np.nan
    cancelling = np.stack([sine, -sine], axis=1)
    files = {
        "file that is not there": root / "gone.wav",
        "folder named like a sound": root / "folder.wav",
        "file of 0 bytes": _text(root / "nothing.wav", ""),
        "text, a web page or a Git LFS pointer with the suffix .wav": _text(
            root / "text.wav", "not audio\n"
        ),
        "header without samples": put(root / "header.wav", sine[:0]),
        "NaN or infinity among the samples": put(root / "nan.wav", spoiled, subtype="FLOAT"),
        "shorter than 0.05 s": put(root / "click.wav", sine[:320]),
        "digital silence": put(root / "silence.wav", 0 * sine),
        "stereo whose channels cancel": put(root / "cancel.wav", cancelling, subtype="FLOAT"),
        "pipe, socket or device named like a sound": root / "pipe.wav",
        "link that leads to itself": root / "loop.wav",
        "samples near the end of float32": root / "loud.wav",
        "half an hour and more": root / "long.flac",
        "a sample rate that no recorder has": root / "rate.wav",
        "joined streams, a length that is missing or too small": root / "joined.ogg",
    }
    for name, kind in {
        "pipe.wav": "pipe", "loop.wav": "link to itself", "loud.wav": "near the end of float32",
        "long.flac": "half an hour and more", "rate.wav": "rate in the header", "joined.ogg": "joined OGG",
    }.items():  # fmt: skip
        KINDS[kind][2](root / name)
    (root / "folder.wav").mkdir()
    for what, path in files.items():
        try:
            load_audio(path)
        except AudioError as error:
            yield Said(what, error.reason, _tidy(str(error), root))


def bad_rows(root: Path) -> Iterator[Said]:
    """Rows and names that contradict a data set's own layout: always a skip."""
    name = "1-100-A-0.wav"
    rows = [
        ("row whose target is not the one in the file name", "1-101-A-0.wav", 1, 9, 101),
        ("row whose fold or source is not the one in the file name", "1-102-A-0.wav", 2, 0, 102),
        ("file name of another pattern", "dog.wav", 1, 0, 103),
        ("second row of a file", name, 1, 0, 100),
    ]
    esc = root / "esc"
    lines = ["filename,fold,target,category,src_file", f"{name},1,0,dog,100"]
    for _, file, fold, target, source in rows:
        put(esc / "audio" / file)
        lines.append(f"{file},{fold},{target},dog,{source}")
    put(esc / "audio" / "1-999-A-0.wav")
    _text(esc / "meta" / "esc50.csv", "\n".join(lines) + "\n")
    what = {file: text for text, file, *_ in rows} | {"1-999-A-0.wav": "file without a row"}
    for skip in load_clips(esc).skipped:
        yield Said(f"ESC-50: {what[skip.name]}", skip.reason, "")

    put(root / "fsdd" / "recordings" / "3_ada_0.wav")
    put(root / "fsdd" / "recordings" / "three_ada.wav")
    for skip in load_clips(root / "fsdd", pool="voice").skipped:
        yield Said("FSDD: file name of another pattern", skip.reason, "")

    put(root / "classes" / "bell" / "a.wav")
    put(root / "classes" / "stray.wav")
    put(root / "classes" / "_background_noise_" / "b.wav")
    (root / "classes" / "bell" / "b.m4a").touch()
    (root / "classes" / "bell" / "again").symlink_to(root / "classes")
    (root / "classes" / "bell" / "c.wav").symlink_to("a.wav")
    what = {
        "stray.wav": "sound beside the class folders",
        "_background_noise_/b.wav": "the noise of Speech Commands",
        "bell/b.m4a": "sound in a format that is not read",
        "bell/again": "link to a folder that is read already, or to one above",
        "bell/c.wav": "link to a file that is read already",
    }
    for skip in load_clips(root / "classes").skipped:
        yield Said(f"class folders: {what[skip.name]}", skip.reason, "")

    put(root / "list" / "a.wav")
    _text(root / "list" / "clips.csv", "path,label\na.wav,bell\n,bell\nb.wav,\na.wav,bell\n")
    kinds = {
        "empty path": "row without a path",
        "empty label": "row without a label",
        "listed twice": "second row of a file",
    }
    for skip in load_clips(root / "list" / "clips.csv").skipped:
        yield Said(f"manifest: {kinds[skip.reason]}", skip.reason, "")


def bad_requests(root: Path) -> Iterator[Said]:
    """What stops at once, since no clip could be used or the request contradicts itself."""
    put(root / "one" / "bell" / "a.wav")
    (root / "empty").mkdir()
    _text(root / "nolabel.csv", "path,class\na.wav,bell\n")
    (root / "latin.csv").write_bytes("path,label\nglöckchen.wav,bell\n".encode("latin-1"))
    _text(root / "comma.csv", "path,label\na.wav,bell, small\n")
    _text(root / "quote.csv", 'path,label\na.wav,bell\n"b.wav,bell\nc.wav,bell\n')
    _text(root / "twice.csv", "path,label,label\na.wav,bell,ring\n")
    put(root / "urban" / "audio" / "fold1" / "a.wav")

    def too_much() -> None:
        limit, datasets.MEMORY_LIMIT_GIB = datasets.MEMORY_LIMIT_GIB, 1e-6
        try:
            load_clips(root / "one")
        finally:
            datasets.MEMORY_LIMIT_GIB = limit

    requests: dict[str, Callable[[], object]] = {
        "`data_root` that is not there": lambda: load_clips(root / "gone"),
        "the same as a chapter's parameter": lambda: make_parameters({"data_root": "gone"}),
        "`data_root` that is a sound": lambda: load_clips(root / "one" / "bell" / "a.wav"),
        "folder without any sound": lambda: load_clips(root / "empty"),
        "manifest without a needed column": lambda: load_clips(root / "nolabel.csv"),
        "manifest that is not UTF-8": lambda: load_clips(root / "latin.csv"),
        "manifest with a comma outside quotes": lambda: load_clips(root / "comma.csv"),
        "manifest with an open quote": lambda: load_clips(root / "quote.csv"),
        "manifest with two columns of one name": lambda: load_clips(root / "twice.csv"),
        "UrbanSound8K as downloaded": lambda: load_clips(root / "urban"),
        "unknown task": lambda: load_clips(root / "one", task="family"),
        "unknown pool": lambda: load_clips(root / "one", pool="music"),
        "more audio than fits (here with a tiny limit)": too_much,
    }
    for what, request in requests.items():
        try:
            request()
        except (ValueError, FileNotFoundError) as error:
            yield Said(what, "", _tidy(str(error), root))


def _tidy(message: str, root: Path) -> str:
    """The message without the places of this machine."""
    message = message.replace(str(root), "FOLDER").replace(str(Path.cwd()), "FOLDER")
    return re.sub(r"need \d+ GiB, more than [\d.e-]+", "need N GiB, more than 8", message)
