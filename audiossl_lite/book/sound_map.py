"""A map of sounds: points in the plane that say what they are when pointed at, and play when clicked."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import Tensor

from audiossl_lite.book.players import (
    MAX_TOTAL_BYTES,
    SAMPLE_RATE_HZ,
    described,
    one_waveform,
    sound_address,
)
from audiossl_lite.book.words import escaped, printable, show_html

STORED_RATE_HZ = 8_000
PEAK = 0.7
FADE_S = 0.01
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Okabe and Ito's colours, told apart by most readers; each with the ink that is read on it.
COLOURS = (
    ("#E69F00", "#000"), ("#56B4E9", "#000"), ("#009E73", "#fff"), ("#F0E442", "#000"),
    ("#0072B2", "#fff"), ("#D55E00", "#fff"), ("#CC79A7", "#000"), ("#444444", "#fff"),
)  # fmt: skip
CORNERS = (0, 4, 3, 4)  # of the shapes; 0 is a circle, the second square stands on its tip
TURNS = (0.0, math.pi / 4, 0.0, 0.0)
SIZES = (8.0, 9.9, 11.5, 10.5)
SIDE = 380.0
MARGIN = 18.0
_numbers = itertools.count(1)


def loudest_part(waveform: Any, *, max_s: float = 1.0, name: str = "sound") -> np.ndarray:
    """The `max_s` seconds of a waveform (S,) that hold most energy, at 8 kHz, at one peak, faded at both ends.

    The waveform is at 16 kHz. A shorter one stays whole; silence stays silent. Raises ValueError naming the sound for
    another shape, NaN or infinite samples, or a length that is not positive.
    """
    wave = torch.from_numpy(one_waveform(waveform, name))
    if not max_s > 0:
        raise ValueError(f"max_s is positive, got {max_s} s")
    width = min(max(1, round(max_s * SAMPLE_RATE_HZ)), len(wave))
    energy = torch.cat([torch.zeros(1, dtype=wave.dtype), wave.square().cumsum(0)])
    start = int((energy[width:] - energy[:-width]).argmax())
    part = wave[start : start + width].float()
    part = torchaudio.functional.resample(part, SAMPLE_RATE_HZ, STORED_RATE_HZ).numpy()
    ramp = np.minimum(np.arange(len(part)) / (FADE_S * STORED_RATE_HZ), 1.0)
    part = part * ramp * ramp[::-1]
    peak = float(np.abs(part).max())
    return part * (PEAK / peak) if peak > 0 else part


def sound_map_html(
    points: Tensor | Mapping[str, Tensor],
    labels: Tensor | Sequence[int],
    class_names: Sequence[str],
    waveforms: Tensor | Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    title: str = "sound map",
    max_s: float = 1.0,
) -> str:
    """Clips as points `(n, 2)` to point at and to click, as one HTML block with its own style, script and sounds.

    `points`: one plane, or several by title, side by side: the same clip lights up in all. `labels (n,)` index
    `class_names`; colour, shape and letter tell the class. `waveforms`: `(n, S)` or n of any length; the loudest
    `max_s` seconds of each go into the page once, at 8 kHz and one level. Raises ValueError naming what is wrong:
    points that are not finite, shapes that do not fit, labels without a name, more than 4 MB.

    Where: uaMix-MAE Fig. 6; chapter 12
    """
    panels = points if isinstance(points, Mapping) else {"": points}
    label = torch.as_tensor(labels).long()
    n = len(label)
    places = {str(name): _checked_points(plane, n, str(name)) for name, plane in panels.items()}
    names = [f"clip {i + 1}" for i in range(n)] if names is None else list(map(printable, names))
    _check(places, label, class_names, waveforms, names)
    parts = [loudest_part(w, max_s=max_s, name=x) for w, x in zip(waveforms, names, strict=True)]
    sounds = [sound_address(part, STORED_RATE_HZ) for part in parts]
    names = [
        f"{x}; {described(part, STORED_RATE_HZ)}" for x, part in zip(names, parts, strict=True)
    ]
    kinds = label.tolist()
    svgs = "".join(
        panel_svg(place, kinds, class_names, names, panel or title)
        + (f"<figcaption>{escaped(panel)}</figcaption>" if panel else "")
        + "</figure>"
        for panel, place in places.items()
    )
    body = (
        f'<div class="sm-title">{escaped(title)}</div><div class="sm-panels">{svgs}</div>'
        f"{legend_html(kinds, class_names)}"
        '<div class="sm-say" aria-live="polite">Point at a clip to see what it is, click it to hear it. '
        "Keys: Tab to a map, arrows to a clip, Enter to hear it.</div>"
        "<noscript>Without JavaScript the points are seen and not heard.</noscript>"
    )
    n_bytes = len(body) + sum(len(sound) for sound in sounds)
    if n_bytes > MAX_TOTAL_BYTES:
        raise ValueError(
            f"{n} clips of {max_s:g} s would put {n_bytes / 1e6:.1f} MB into the page, more than "
            f"{MAX_TOTAL_BYTES / 1e6:g}; show fewer clips or lower max_s"
        )
    digest = hashlib.sha256((body + "".join(sounds)).encode()).hexdigest()[:8]
    key = f"sound-map-{digest}-{next(_numbers)}"  # the same map twice on a page is two maps
    listed = ",".join(f'"{sound}"' for sound in sounds)
    return (
        f'<div id="{key}" class="sound-map" role="group" aria-label="{escaped(title)}">'
        f"<style>{_beside('css').replace('#ROOT', '#' + key)}</style>{body}"
        f'<script>(function () {{ const root = document.getElementById("{key}");\n'
        f"const sounds = [{listed}];\n{_beside('js')}}})();</script></div>"
    )


def show_sound_map(
    points: Tensor | Mapping[str, Tensor],
    labels: Tensor | Sequence[int],
    class_names: Sequence[str],
    waveforms: Tensor | Sequence[Any],
    **options: Any,
) -> None:
    """Show the map of `sound_map_html`: what is near what, and how does it sound?"""
    page = sound_map_html(points, labels, class_names, waveforms, **options)
    panels = ", ".join(map(printable, points)) if isinstance(points, Mapping) else "one plane"
    kinds = [printable(class_names[k]) for k in sorted(set(torch.as_tensor(labels).tolist()))]
    title = printable(options.get("title", "sound map"))
    plain = f"sound map {title!r}: {len(labels)} clips of {', '.join(kinds)}; {panels}"
    show_html(page, plain)


def _checked_points(plane: Any, n: int, panel: str) -> np.ndarray:
    place = np.asarray(plane.detach().cpu() if isinstance(plane, Tensor) else plane, dtype=float)
    where = f"panel {panel!r}" if panel else "the map"
    if place.shape != (n, 2) or not n:
        raise ValueError(f"{where} needs points ({n}, 2), one per label, got {place.shape}")
    bad = np.flatnonzero(~np.isfinite(place).all(1)).tolist()
    if bad:
        raise ValueError(f"{where}: the points of clips {bad[:8]} are NaN or infinite")
    return place


def _check(
    places: Mapping[str, np.ndarray],
    label: Tensor,
    class_names: Sequence[str],
    waveforms: Tensor | Sequence[Any],
    names: Sequence[str],
) -> None:
    n = len(label)
    if not places:
        raise ValueError("a map needs points; got a dict without panels")
    if label.ndim != 1 or not 0 <= int(label.min()) <= int(label.max()) < len(class_names):
        raise ValueError(
            f"labels are (clips,) from 0 to {len(class_names) - 1}, one name each; "
            f"got {tuple(label.shape)} from {int(label.min())} to {int(label.max())}"
        )
    if len(label.unique()) > len(LETTERS):
        raise ValueError(
            f"a map tells {len(LETTERS)} classes apart by letters, got {len(label.unique())}"
        )
    if len(waveforms) != n or len(names) != n:
        raise ValueError(f"{n} labels, but {len(waveforms)} waveforms and {len(names)} names")


def mark_svg(kind: int, x: float = 0.0, y: float = 0.0) -> str:
    """The mark of a class at (x, y): its colour, its shape, its letter."""
    fill, ink = COLOURS[kind % len(COLOURS)]
    turn = (kind // len(COLOURS) + kind) % 4  # the second round of colours comes in other shapes
    corners, size = CORNERS[turn], SIZES[turn]
    if corners:
        angles = [TURNS[turn] - math.pi / 2 + 2 * math.pi * c / corners for c in range(corners)]
        path = " ".join(
            f"{x + size * math.cos(a):.1f},{y + size * math.sin(a):.1f}" for a in angles
        )
        shape = f'<polygon points="{path}"'
    else:
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}"'
    base = y + (4.4 if corners == 3 else 3.4)  # the middle of a triangle lies low
    return (
        f'{shape} fill="{fill}" stroke="#222" stroke-width="0.8"/>'
        f'<text x="{x:.1f}" y="{base:.1f}" text-anchor="middle" font-size="9.5" font-weight="700" '
        f'font-family="sans-serif" fill="{ink}">{LETTERS[kind]}</text>'
    )


def panel_svg(
    place: np.ndarray,
    kinds: Sequence[int],
    class_names: Sequence[str],
    names: Sequence[str],
    title: str,
) -> str:
    """One plane as SVG in an open `<figure>`: a mark for each clip, with its name to read, and a ring to light one up.

    `place (n, 2)`, `kinds`: class indices. Both axes have the same scale. The first clip can be reached by Tab, the
    others from there.
    """
    letter = letters_of(kinds)
    low, high = place.min(0), place.max(0)
    scale = (SIDE - 2 * MARGIN) / max(float((high - low).max()), 1e-9)
    at = (place - (low + high) / 2) * scale * (1.0, -1.0) + SIDE / 2
    marks = []
    for i, ((x, y), kind, name) in enumerate(zip(at.tolist(), kinds, names, strict=True)):
        what = f"{LETTERS[letter[kind]]}, {class_names[kind]}: {name}"
        marks.append(
            f'<g class="sm-point" role="button" tabindex="{-1 if i else 0}" data-i="{i}" '
            f'data-kind="{kind}" data-at="{x:.1f} {y:.1f}" data-what="{escaped(what)}" '
            f'aria-label="{escaped(what)}"><title>{escaped(what)}</title>'
            f"{mark_svg(letter[kind], x, y)}</g>"
        )
    return (
        f'<figure><svg class="sm-plane" viewBox="0 0 {SIDE:g} {SIDE:g}" role="group" '
        f'aria-label="{escaped(title)}: {len(marks)} clips in the plane">'
        f'{"".join(marks)}<circle class="sm-halo" r="14" cx="0" cy="0"/></svg>'
    )


def legend_html(kinds: Sequence[int], class_names: Sequence[str]) -> str:
    """A button for each class that is there: pointing at it dims the others, a click keeps them so."""
    buttons = "".join(
        f'<button type="button" data-kind="{kind}" aria-pressed="false">'
        f'<svg width="22" height="22" viewBox="-11.5 -12 23 23" aria-hidden="true">{mark_svg(letter)}</svg>'
        f"{escaped(class_names[kind])}</button>"
        for kind, letter in letters_of(kinds).items()
    )
    return f'<div class="sm-legend" role="group" aria-label="classes">{buttons}</div>'


def letters_of(kinds: Sequence[int]) -> dict[int, int]:
    """Number of the letter of each class that is there, in the order of the classes."""
    return {kind: number for number, kind in enumerate(sorted(set(kinds)))}


def _beside(suffix: str) -> str:
    """The style or the script of a map, which stand in files of their own."""
    return Path(__file__).with_suffix(f".{suffix}").read_text(encoding="utf-8")
