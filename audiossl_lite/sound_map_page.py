"""What a map of sounds is made of on the page: points as SVG, a legend, a style and a script without a library."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

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

STYLE = """
#ROOT { background:#fff; color:#1a1a1a; border:1px solid #bbb; border-radius:4px; padding:.6em .8em;
  font-family:sans-serif; font-size:.9rem; }
#ROOT .sm-title { font-weight:600; margin-bottom:.3em; }
#ROOT .sm-panels { display:flex; flex-wrap:wrap; gap:.6em; }
#ROOT figure { flex:1 1 180px; max-width:460px; margin:0 !important; }
#ROOT figcaption { text-align:center; color:#1a1a1a; font-size:.85rem; }
#ROOT svg.sm-plane { width:100%; height:auto; background:#fafafa; border:1px solid #ddd; display:block; }
#ROOT .sm-point { cursor:pointer; outline:none; user-select:none; }
#ROOT .sm-point.sm-dim { opacity:.12; }
#ROOT .sm-halo { fill:none; stroke:#000; stroke-width:3; pointer-events:none; visibility:hidden; }
#ROOT .sm-halo.sm-on { visibility:visible; }
#ROOT .sm-legend { margin:.5em 0 .3em; display:flex; flex-wrap:wrap; gap:.3em; }
#ROOT .sm-legend button { display:flex; align-items:center; gap:.35em; background:#fff; color:#1a1a1a;
  border:1px solid #999; border-radius:3px; padding:.1em .45em; font:inherit; font-size:.8rem; cursor:pointer; }
#ROOT .sm-legend button[aria-pressed=true] { background:#222; color:#fff; }
#ROOT .sm-say { min-height:1.5em; color:#1a1a1a; }
"""

# `root` and `sounds` are set before it. A click plays; pointing and focus tell; all panels light up together.
SCRIPT = """
const all = [...root.querySelectorAll(".sm-point")], say = root.querySelector(".sm-say");
const keys = [...root.querySelectorAll(".sm-legend button")];
let player = null, pressed = null;
const place = p => p.dataset.at.split(" ").map(Number);
function light(p) {
  root.querySelectorAll(".sm-plane").forEach(plane => {
    const twin = plane.querySelector(`.sm-point[data-i="${p.dataset.i}"]`), [x, y] = place(twin);
    const halo = plane.querySelector(".sm-halo");
    halo.setAttribute("cx", x); halo.setAttribute("cy", y); halo.classList.add("sm-on");
  });
  say.textContent = p.dataset.what;
}
function play(p) {
  light(p);
  if (player) player.pause();
  player = new Audio("data:audio/wav;base64," + sounds[p.dataset.i]);
  const mine = player;
  player.onplaying = () => { root.dataset.playing = p.dataset.i; say.textContent = "\\u25b6 " + p.dataset.what; };
  player.onended = () => { delete root.dataset.playing; root.dataset.played = p.dataset.i; };
  player.play().catch(e => {
    if (mine === player) say.textContent = p.dataset.what + " (not played: " + e.message + ")";
  });
}
function step(p, dx, dy) {
  const [x, y] = place(p), mates = [...p.parentNode.querySelectorAll(".sm-point")];
  let best = null, least = Infinity;
  for (const q of mates) {
    const [u, v] = place(q), ahead = (u - x) * dx + (v - y) * dy, aside = Math.abs((u - x) * dy - (v - y) * dx);
    if (q !== p && ahead > 0 && ahead + 2 * aside < least) { best = q; least = ahead + 2 * aside; }
  }
  if (!best) return;
  mates.forEach(q => q.setAttribute("tabindex", q === best ? 0 : -1));
  best.focus();
}
function highlight(kind) {
  all.forEach(p => p.classList.toggle("sm-dim", kind !== null && p.dataset.kind !== kind));
}
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
all.forEach(p => {
  p.addEventListener("pointerenter", () => light(p));
  p.addEventListener("focus", () => light(p));
  p.addEventListener("click", () => play(p));
  p.addEventListener("keydown", e => {
    if (e.key === "Enter" || e.key === " ") play(p);
    else if (arrows[e.key]) step(p, ...arrows[e.key]);
    else return;
    e.preventDefault(); e.stopPropagation();
  });
});
keys.forEach(b => {
  const kind = b.dataset.kind;
  b.addEventListener("pointerenter", () => highlight(kind));
  b.addEventListener("pointerleave", () => highlight(pressed));
  b.addEventListener("click", () => {
    pressed = pressed === kind ? null : kind;
    keys.forEach(other => other.setAttribute("aria-pressed", other.dataset.kind === pressed));
    highlight(pressed);
  });
});
"""


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
            f'data-kind="{kind}" data-at="{x:.1f} {y:.1f}" data-what="{html.escape(what, quote=True)}" '
            f'aria-label="{html.escape(what, quote=True)}"><title>{html.escape(what)}</title>'
            f"{mark_svg(letter[kind], x, y)}</g>"
        )
    return (
        f'<figure><svg class="sm-plane" viewBox="0 0 {SIDE:g} {SIDE:g}" role="group" '
        f'aria-label="{html.escape(title, quote=True)}: {len(marks)} clips in the plane">'
        f'{"".join(marks)}<circle class="sm-halo" r="14" cx="0" cy="0"/></svg>'
    )


def legend_html(kinds: Sequence[int], class_names: Sequence[str]) -> str:
    """A button for each class that is there: pointing at it dims the others, a click keeps them so."""
    buttons = "".join(
        f'<button type="button" data-kind="{kind}" aria-pressed="false">'
        f'<svg width="22" height="22" viewBox="-11.5 -12 23 23" aria-hidden="true">{mark_svg(letter)}</svg>'
        f"{html.escape(class_names[kind])}</button>"
        for kind, letter in letters_of(kinds).items()
    )
    return f'<div class="sm-legend" role="group" aria-label="classes">{buttons}</div>'


def letters_of(kinds: Sequence[int]) -> dict[int, int]:
    """Number of the letter of each class that is there, in the order of the classes."""
    return {kind: number for number, kind in enumerate(sorted(set(kinds)))}
