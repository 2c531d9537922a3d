"""Bad files of every kind among good ones, read and packed: `python -m tests.data.bad_sounds --bad 1000 --good 100`.

It ends with an error when a good clip is missing, when a bad one is not counted exactly once with its reason, when
the memory grows beyond a bound, or when something blocks.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from audiossl_lite.data.audio import LONGEST_S
from audiossl_lite.data.datasets import load_clips
from audiossl_lite.data.packing import pack
from tests.data.sounds import hum, put

MEMORY_LIMIT_MIB = (
    1500  # four threads, each with half an hour at 8 to 48 kHz before it is refused as too long
)
TIME_LIMIT_S = 900
FLAC_LENGTH_AT, FLAC_LENGTH_BITS = 18, 36
RATES = (16_000, 44_100, 8_000, 22_051, 11_127, 96_000)
GOOD_SUFFIXES = ("wav", "flac", "ogg", "mp3", "aiff")


def state_flac_length(path: Path, n_samples: int) -> Path:
    """Write another number of samples into the header of a FLAC; 0 stands for an unknown one."""
    content = bytearray(path.read_bytes())
    fields = int.from_bytes(content[FLAC_LENGTH_AT : FLAC_LENGTH_AT + 8], "big")
    fields = fields >> FLAC_LENGTH_BITS << FLAC_LENGTH_BITS | n_samples
    content[FLAC_LENGTH_AT : FLAC_LENGTH_AT + 8] = fields.to_bytes(8, "big")
    path.write_bytes(content)
    return path


def twice(path: Path, **options) -> Path:
    """Two whole files, one after the other in one."""
    put(path, hum(2.0), **options)
    path.write_bytes(path.read_bytes() * 2)
    return path


def cut(path: Path, share: float, seconds: float = 2.0) -> Path:
    """The first part of a file."""
    content = put(path, hum(seconds)).read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    return path


def silence_of(path: Path, seconds: float, rate_hz: int = 8_000) -> Path:
    """A FLAC of a few kB that holds long silence."""
    with soundfile.SoundFile(path, "w", rate_hz, 1, format="FLAC") as sound:
        block = np.zeros(60 * rate_hz, np.int16)
        for _ in range(round(seconds / 60)):
            sound.write(block)
    return path


def with_bytes(path: Path, at: int, value: bytes) -> Path:
    """A WAV with some bytes of its header overwritten."""
    content = bytearray(put(path, hum(1.0)).read_bytes())
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return path


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket is at most 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


def _linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe").name)


# What a bad file is: its suffix, the reason that it is counted with, and how it is made.
KINDS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "pipe": ("wav", "not a file", os.mkfifo),
    "link to a pipe": ("flac", "not a file", _linked_pipe),
    "link to a device": ("wav", "not a file", lambda path: path.symlink_to("/dev/zero")),
    "socket": ("wav", "not a file", _socket),
    "folder": ("wav", "not a file", Path.mkdir),
    "link to nothing": ("ogg", "no such file", lambda path: path.symlink_to("nothing.ogg")),
    "link to itself": ("wav", "cannot be opened", lambda path: path.symlink_to(path.name)),
    "0 bytes": ("wav", "unreadable", Path.touch),
    "text": ("flac", "unreadable", lambda path: path.write_text("no sound\n")),
    "web page": ("mp3", "unreadable", lambda path: path.write_text("<html>not found</html>")),
    "noise": ("ogg", "unreadable", lambda path: path.write_bytes(os.urandom(5000))),
    "header alone": ("wav", "empty", lambda path: put(path, hum()[:0])),
    "silence": ("wav", "silent", lambda path: put(path, 0 * hum())),
    "too short": ("wav", "too short", lambda path: put(path, hum(0.01))),
    "NaN": ("wav", "not finite", lambda path: put(path, hum() + np.nan, subtype="FLOAT")),
    "near the end of float32": (
        "wav", "too loud",
        lambda path: put(path, np.full((8000, 2), 3e38, np.float32), subtype="FLOAT"),
    ),
    "half an hour and more": ("flac", "too long", lambda path: silence_of(path, LONGEST_S + 60)),
    "the same of unknown length": (
        "flac", "too long",
        lambda path: state_flac_length(silence_of(path, LONGEST_S + 60), 0),
    ),
    "rate in the header": (
        "wav", "rate too high", lambda path: with_bytes(path, 24, b"\xff\xff\xff\x7f"),
    ),
    "length 0 in the header": (
        "wav", "more than its header says", lambda path: with_bytes(path, 40, bytes(4)),
    ),
    "length too small in the header": (
        "wav", "more than its header says",
        lambda path: with_bytes(path, 40, (8000).to_bytes(4, "little")),
    ),
    "joined OGG": ("ogg", "more than its header says", twice),
    "joined MP3": ("mp3", "more than its header says", twice),
    "joined FLAC": ("flac", "more than its header says", twice),
    "cut FLAC": ("flac", "unreadable", lambda path: cut(path, 0.5, 8.0)),
    "other format": (
        "m4a", "format that is not read (.m4a)", lambda path: path.write_bytes(bytes(100)),
    ),
    "name in Latin-1": ("wav", "name that is not UTF-8", None),
}  # fmt: skip


def make_good(root: Path, number: int) -> str:
    """A clip of one second in one of two classes; returns its name."""
    suffix, rate_hz = GOOD_SUFFIXES[number % 5], RATES[number % 6]
    rate_hz = 44_100 if suffix == "mp3" else rate_hz
    name = f"{'ab'[number % 2]}/good{number}.{suffix}"
    put(root / name, hum(1.0, rate_hz), rate_hz)
    return name


def make_bad(root: Path, number: int) -> tuple[str, str, str]:
    """A bad file of the kind that is next; returns kind, the name that is counted, and the reason."""
    kind = list(KINDS)[number % len(KINDS)]
    suffix, reason, write = KINDS[kind]
    path = root / "ab"[number % 2] / f"bad{number}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if write is None:
        os.rename(put(path), os.fsencode(path.parent) + b"/\xe9" + os.fsencode(path.name))
        return kind, f"{path.parent.name}/\\xe9{path.name}", reason
    write(path)
    return kind, path.relative_to(root).as_posix(), reason


def sweep(root: Path, n_bad: int, n_good: int) -> list[str]:
    """Read and pack a folder of good and bad files; returns what is wrong with the outcome, and prints a table."""
    good = {make_good(root, number) for number in range(n_good)}
    made = [make_bad(root, number) for number in range(n_bad)]
    kind_of = {name: kind for kind, name, _ in made}
    expected = {name: reason for _, name, reason in made}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clips = load_clips(root)
    with tempfile.TemporaryDirectory() as folder:
        store = pack(root, folder, workers=4)
        packed = set(store.manifest["names"])
    faults = []
    skips = [(s.name, s.reason) for s in clips.skipped]
    outcomes = {
        "load_clips": (set(clips.names), skips),
        "pack": (packed, [(s.name, s.reason) for s in store.skipped]),
    }
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for what, (read, skipped) in outcomes.items():
        faults += [f"{what}: {name} is missing" for name in sorted(good - read)]
        faults += [f"{what}: {name} was let in" for name in sorted(read - good)]
        counts = Counter(name for name, _ in skipped)
        for name in sorted(expected.keys() | counts.keys()):
            if counts[name] != 1 or dict(skipped)[name] != expected.get(name):
                said = [reason for skip, reason in skipped if skip == name]
                faults.append(f"{what}: {name} ({kind_of.get(name)}) is counted as {said}")
    if grown_mib > MEMORY_LIMIT_MIB:
        faults.append(f"memory grew by {grown_mib:.0f} MiB, more than {MEMORY_LIMIT_MIB}")
    for kind, count in sorted(Counter(kind_of.values()).items()):
        print(f"{count:5d} x {kind}: {KINDS[kind][1]}")
    print(f"{len(clips)} read, {len(skips)} counted, memory grew by {grown_mib:.0f} MiB")
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep in a temporary folder; 0 when every count is right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bad", type=int, default=1000)
    parser.add_argument("--good", type=int, default=100)
    asked = parser.parse_args(arguments)
    signal.alarm(TIME_LIMIT_S)  # what blocks is ended by the system
    with tempfile.TemporaryDirectory() as folder:
        faults = sweep(Path(folder), asked.bad, asked.good)
    print("\n".join(faults) or "every good file was read, every bad one counted once")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
