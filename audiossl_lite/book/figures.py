"""Figures with words: every picture carries a description, and frames move without a kernel."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter
from PIL import Image

from audiossl_lite.book.words import escaped, printable, show_html

DPI = 110
MIN_ALT_CHARACTERS = 12
MIN_CAPTION_CHARACTERS, MAX_CAPTION_CHARACTERS = 25, 190  # two lines under a figure
PARTS = re.compile(r"(Left|Top|Above)\b")  # half of such a description says the wrong thing
LOOK = {
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "savefig.transparent": False, "figure.figsize": (7.0, 3.2), "figure.dpi": DPI,
    "figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": "medium", "image.cmap": "magma", "legend.frameon": False,
}  # fmt: skip
# One colour for a method on every page; of several words in a name the first one here counts.
METHOD_COLOURS = {
    "statistics": "C7", "No Mixing": "C3", "MixUp": "C4", "TF-CutMix": "C8", "T-CutMix": "C2",
    "uaMix-MAE": "C2", "AudioMAE": "C1", "ATST": "C0", "BYOL": "C9", "CNN": "C5", "EAT": "C6",
}  # fmt: skip
# What a slider does when it is moved; of the frames beside it one is seen.
SHOW_FRAME = (
    "[...this.parentNode.children].slice(1).forEach((frame, i) => frame.hidden = i != this.value);"
    "this.ariaValueText = this.parentNode.children[+this.value + 1].dataset.label"
)


def figure_style() -> None:
    """Set one look for all figures: white ground (readable in dark mode), colour-blind palette."""
    import seaborn as sns

    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.9)
    plt.rcParams.update(LOOK)
    # One installed font with the signs of East Asia, where there is one, after those that are usual.
    more = [f.name for f in font_manager.fontManager.ttflist if "CJK" in f.name][:1]
    plt.rcParams["font.sans-serif"] = [*plt.rcParams["font.sans-serif"], *more]


def _drawable(text: str) -> str:
    """A text with a code in place of each sign that no font of the figures has."""
    families = ("DejaVu Sans", plt.rcParams["font.sans-serif"][-1])
    properties = [font_manager.FontProperties(family=[family]) for family in families]
    fonts = [font_manager.get_font(font_manager.findfont(one)) for one in properties]
    return "".join(
        c if c == "\n" or any(font.get_char_index(ord(c)) for font in fonts) else ascii(c)[1:-1]
        for c in text
    )


def _draw_names(figure: Figure) -> None:
    """Make all words of a figure what they are: without mathematics, and with signs that can be drawn.

    The powers of ten of a logarithmic axis stay mathematics.
    """
    powers = set()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        labels = axis.get_ticklabels(which="both")
        if isinstance(axis.get_major_formatter(), LogFormatter):
            powers |= set(labels)
        elif any(_drawable(label.get_text()) != label.get_text() for label in labels):
            axis.set_ticks(axis.get_ticklocs(), [_drawable(x.get_text()) for x in labels])
    for text in set(figure.findobj(Text)) - powers:
        text.set_text(_drawable(text.get_text()))
        text.set_parse_math(False)


def _check_alt(alt: str) -> str:
    text = printable(alt)
    if len(text) < MIN_ALT_CHARACTERS:
        raise ValueError(f"alt text {alt!r} is too short; say in a sentence what the figure shows.")
    return text


def figure_png(figure: Figure, dpi: int = DPI) -> bytes:
    """Draw a figure as PNG bytes on white ground, in 256 colours: a quarter of the bytes, and no eye tells."""
    _draw_names(figure)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, facecolor="white", transparent=False)
    image = Image.open(drawn).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def image_html(png: bytes, alt: str, width_px: int) -> str:
    """Return an image with its bytes inside and its description beside them, in a box that a phone can move."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<div class="wide"><img class="dark-light" alt="{escaped(_check_alt(alt))}" '
        f'style="max-width:100%;height:auto;background:white" width="{width_px}" '
        f'src="data:image/png;base64,{data}"></div>'
    )


def caption_of(alt: str) -> str:
    """The first sentence of a description; of one that fills more than two lines, what says what a figure is.

    That is what stands before its first colon, semicolon or bracket, unless it is too short to say something
    ("Diagram"). A description of parts ("Left: ... Right: ...") stays whole.
    """
    if PARTS.match(alt):
        return alt.rstrip(".")
    for stops in (r"\.(?=\s|$)", r"[.:;](?=\s|$)| \("):
        ends = [m.start() for m in re.finditer(stops, alt)]
        text = alt[: next((end for end in ends if end >= MIN_CAPTION_CHARACTERS), len(alt))]
        if len(text) <= MAX_CAPTION_CHARACTERS:
            break
    return text


def show_figure(alt: str, figure: Figure | None = None, *, caption: str = "") -> None:
    """Show a figure (default: the current one) as PNG with its description and a caption, and close it.

    alt: a sentence on what the picture shows, for those who cannot see it. caption: for those who can, where the
    beginning of `alt` does not say the point. Errors: ValueError when the description is too short.
    """
    text = _check_alt(alt)
    figure = figure or plt.gcf()
    image = image_html(figure_png(figure), text, round(figure.get_figwidth() * 100))
    plt.close(figure)
    show_html(_figure_html(image, caption or caption_of(text)), f"Figure: {text}")


def _as_image(spec: Any) -> np.ndarray:
    if hasattr(spec, "detach"):
        spec = spec.detach().cpu().numpy()
    image = np.asarray(spec, dtype=np.float64)
    if image.ndim == 3 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 2:
        raise ValueError(f"a spectrogram is (frames, bands), got shape {image.shape}.")
    return image


def show_spectrogram(
    spec: Any,
    ax: Axes | None = None,
    *,
    hop_s: float = 0.01,
    start_s: float = 0.0,
    frequencies_hz: Sequence[float] | None = None,
    title: str = "",
    colorbar: bool = False,
    unit: str = "",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Axes:
    """Draw a spectrogram (T, F) with time in seconds and frequency in Hz or mel bands.

    frequencies_hz: centre of each band (F,), for ticks in Hz; without it the axis counts bands.
    unit: the name of the values, shown at the colour bar. Returns the axes; follow with
    `show_figure(alt, ax.figure)`. Errors: ValueError for another shape.
    """
    image = _as_image(spec)
    n_frames, n_bands = image.shape
    if frequencies_hz is not None and len(frequencies_hz) != n_bands:
        raise ValueError(f"{len(frequencies_hz)} frequencies for {n_bands} bands.")
    if ax is None:
        _, ax = plt.subplots()
    extent = (start_s, start_s + n_frames * hop_s, -0.5, n_bands - 0.5)
    look = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    drawn = ax.imshow(image.T, extent=extent, vmin=vmin, vmax=vmax, **look)
    ax.set_xlabel("time (s)")
    if frequencies_hz is None:
        ax.set_ylabel("band")
    else:
        ticks = np.unique(np.linspace(0, n_bands - 1, 5).round().astype(int))
        ax.set_yticks(ticks, [f"{frequencies_hz[tick]:.0f}" for tick in ticks])
        ax.set_ylabel("frequency (Hz)")
    if title:
        ax.set_title(title)
    if colorbar:
        ax.figure.colorbar(drawn, ax=ax, label=unit)
    return ax


def interval_bars(
    scores: Mapping[str, tuple[float, float]],
    chance: float,
    ax: Axes | None = None,
    *,
    colours: Sequence[str] | str = "C0",
    xlabel: str = "accuracy (%), bars: 95 % interval, dotted: chance",
) -> Axes:
    """Draw horizontal bars, first name on top, with intervals and a dotted line at chance.

    scores: name to mean and half width of its interval (NaN: none). colours: one, or one a bar. Returns the axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7.5, 2.9))
    means, halves = zip(*scores.values(), strict=True)
    ax.barh(list(scores), means, xerr=np.nan_to_num(halves), color=colours, capsize=3)
    ax.axvline(chance, color="0.3", ls=":", lw=1)
    ax.yaxis.set_inverted(True)
    ax.set(xlabel=xlabel, xlim=(0, None))
    return ax


def starts_and_ends(
    rows: Mapping[str, tuple[float, float]], lines: Mapping[str, float], ax: Axes
) -> Axes:
    """Draw what training did: one row a name, first on top, a ring at its start, a dot at its end, the gain beside it.

    rows: name to both scores. lines: scores without training, as vertical lines with their names. Returns the axes.
    """
    for y, (name, (start, end)) in enumerate(rows.items()):
        colour = method_colour(name)
        ax.plot([start, end], [y, y], color=colour, lw=2, zorder=1)
        ax.scatter(start, y, s=42, facecolor="white", edgecolor=colour, lw=1.6, zorder=2)
        ax.scatter(end, y, s=52, color=colour, zorder=3)
        ax.annotate(
            f"{end - start:+.1f}", (max(start, end), y), (7, 0), textcoords="offset points",
            va="center", fontsize="small", bbox={"facecolor": "white", "lw": 0, "pad": 1},
        )  # fmt: skip
    for (name, score), style in zip(lines.items(), ("--", ":", "-."), strict=False):
        ax.axvline(score, color="0.45", lw=1.2, ls=style, label=name, zorder=0)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.1 * (high - low))
    ax.set_yticks(range(len(rows)), list(rows))
    ax.yaxis.set_inverted(True)
    return ax


def method_colour(name: str) -> str:
    """The colour of the method that a row or curve is named after; black for another name.

    Untrained encoders have that of their method: draw them dashed, or beside it.
    """
    return next((colour for word, colour in METHOD_COLOURS.items() if word in name), "k")


def curve_bands(
    curves: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]],
    ax: Axes | None = None,
    *,
    colours: Mapping[str, str] | None = None,
) -> Axes:
    """Draw curves over seeds: the mean as a line, from the lowest to the highest seed as a band.

    curves: name to places `(n,)` and values `(n, seeds)`. colours: by name, else in order. Returns the axes.
    """
    if ax is None:
        _, ax = plt.subplots()
    for k, (name, (places, values)) in enumerate(curves.items()):
        seeds, colour = np.asarray(values, dtype=float), (colours or {}).get(name, f"C{k}")
        ax.plot(places, seeds.mean(1), color=colour, label=name)
        ax.fill_between(places, seeds.min(1), seeds.max(1), color=colour, alpha=0.2, lw=0)
    return ax


def slider_html(frames: Sequence[str], labels: Sequence[str], title: str) -> str:
    """Return pieces of HTML of which one is seen at a time, the middle one first, under a slider with a name.

    The slider is the browser's own, so it works with the keyboard, on a phone and without a kernel.
    """
    middle = len(frames) // 2
    name, words = escaped(title), [escaped(label) for label in labels]
    shown = "".join(
        f'<div data-label="{label}"{"" if index == middle else " hidden"}>'
        f"<div>{name}: <strong>{label}</strong></div>{frame}</div>"
        for index, (frame, label) in enumerate(zip(frames, words, strict=True))
    )
    return (
        f'<div class="frames" role="group" aria-label="{name}">'
        f'<input type="range" min="0" max="{len(frames) - 1}" value="{middle}" aria-label="{name}" '
        f'aria-valuetext="{words[middle]}" oninput="{SHOW_FRAME}" style="width:min(30em,95%)">'
        f"{shown}</div>"
    )


def frames_slider(
    figures: Sequence[Figure],
    labels: Sequence[str] | None = None,
    *,
    caption: str,
    alts: Sequence[str] | None = None,
    title: str = "frame",
) -> None:
    """Show figures one at a time under a slider that also works on the built page.

    labels: text above each figure (default: its number). caption: what they show together, with a full stop. alts:
    description of each figure (default: the title and the label). The figures are closed. Errors: ValueError for no
    figures or lists of other lengths.
    """
    if not figures:
        raise ValueError("frames_slider got no figures.")
    labels = [printable(label) for label in (labels or range(1, len(figures) + 1))]
    alts = list(alts) if alts is not None else [f"{title}, frame {label}" for label in labels]
    if not len(figures) == len(labels) == len(alts):
        raise ValueError(
            f"{len(figures)} figures, {len(labels)} labels and {len(alts)} descriptions."
        )
    frames = []
    for figure, alt in zip(figures, alts, strict=True):
        width_px = round(figure.get_figwidth() * 100)
        frames.append(image_html(figure_png(figure, dpi=80), alt, width_px))
        plt.close(figure)
    plain = f"Figure: {caption} Slider {printable(title)!r}: {', '.join(labels)}"
    show_html(_figure_html(slider_html(frames, labels, title), caption), plain)


def _figure_html(shown: str, caption: str) -> str:
    """What is shown with its caption; the build writes a number before it."""
    return f'<figure class="shown">{shown}<figcaption>{escaped(caption)}</figcaption></figure>'
