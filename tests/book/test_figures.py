"""Pin: no figure without words, right axes, white ground, frames that move without a kernel."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import base64
import io
import re

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from matplotlib import pyplot as plt
from PIL import Image

from audiossl_lite.book.figures import (
    DPI,
    METHOD_COLOURS,
    curve_bands,
    figure_png,
    figure_style,
    frames_slider,
    image_html,
    interval_bars,
    method_colour,
    show_figure,
    show_spectrogram,
    starts_and_ends,
)


def test_a_figure_is_shown_with_its_words_on_white_and_closed(shown: list) -> None:
    figure_style()
    figure, ax = plt.subplots()
    ax.plot([0, 1])
    show_figure('A line that goes "up".')
    assert not plt.fignum_exists(figure.number)
    page = shown[0]["text/html"]
    assert 'alt="A line that goes &quot;up&quot;."' in page
    data = re.search(r"base64,([^\"]+)", page)
    assert data is not None
    corner = (
        Image.open(io.BytesIO(base64.b64decode(data.group(1)))).convert("RGBA").getpixel((0, 0))
    )
    assert corner == (255, 255, 255, 255)


def test_a_caption_of_its_own_stands_in_place_of_the_beginning_of_the_words(shown: list) -> None:
    show_figure("Two squares: one is black.", plt.figure(), caption="Labels <mixed>")
    assert "<figcaption>Labels &lt;mixed&gt;</figcaption>" in shown[0]["text/html"]
    show_figure("Two squares, of which one is black. More.", plt.figure())
    assert "<figcaption>Two squares, of which one is black</figcaption>" in shown[1]["text/html"]


@pytest.mark.parametrize("alt", ["", "   ", "figure"])
def test_a_figure_without_words_is_an_error(alt: str) -> None:
    with pytest.raises(ValueError, match="alt text"):
        image_html(b"png", alt, 100)


def test_spectrogram_axes_are_seconds_and_hertz() -> None:
    ax = show_spectrogram(
        torch.rand(200, 64), hop_s=0.01, start_s=1.0, frequencies_hz=np.linspace(60, 7800, 64)
    )
    assert ax.get_xlim() == (1.0, 3.0)
    assert ax.get_xlabel() == "time (s)"
    assert ax.get_ylabel() == "frequency (Hz)"
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "60" and labels[-1] == "7800"
    assert ax.images[0].get_array().shape == (64, 200), "frequency goes up, time to the right"
    plt.close(ax.figure)


def test_spectrogram_without_frequencies_counts_bands_and_draws_into_given_axes() -> None:
    figure, ax = plt.subplots()
    assert show_spectrogram(torch.rand(1, 20, 8), ax, title="one clip") is ax
    assert ax.get_ylabel() == "band"
    plt.close(figure)


def test_spectrogram_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="frames, bands"):
        show_spectrogram(torch.rand(3, 20, 8))
    with pytest.raises(ValueError, match="7 frequencies for 8 bands"):
        show_spectrogram(torch.rand(20, 8), frequencies_hz=range(7))


def test_a_slider_holds_every_frame_and_starts_in_the_middle(shown: list) -> None:
    figures = [plt.figure() for _ in range(3)]
    frames_slider(figures, labels=["a", "b", "<c>"], title="epoch", caption="Loss < 1, by epoch.")
    page = BeautifulSoup(shown[0]["text/html"], "html.parser")
    (slider,) = page.find_all("input", type="range")
    assert slider["aria-label"] == "epoch" and slider["aria-valuetext"] == "b"
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "1")
    frames = page.select(".frames > div")
    assert [frame["data-label"] for frame in frames] == ["a", "b", "<c>"]
    assert [frame.has_attr("hidden") for frame in frames] == [True, False, True]
    alts = [frame.img["alt"] for frame in frames]
    assert alts == ["epoch, frame a", "epoch, frame b", "epoch, frame <c>"]
    assert (
        page.figure["class"] == ["shown"] and page.figure.figcaption.string == "Loss < 1, by epoch."
    )
    assert shown[0]["text/plain"] == "Figure: Loss < 1, by epoch. Slider 'epoch': a, b, <c>"
    assert not any(plt.fignum_exists(figure.number) for figure in figures)


def test_pictures_keep_their_colours_and_their_white_ground() -> None:
    figure_style()
    figure, ax = plt.subplots(figsize=(3, 3))
    ax.imshow(np.random.default_rng(0).random((64, 64)).cumsum(0), interpolation="nearest")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor="white")
    png = figure_png(figure)
    exact, small = (np.asarray(Image.open(x).convert("RGB"), int) for x in (drawn, io.BytesIO(png)))
    assert np.abs(exact - small).mean() < 1 and (small[0, 0] == 255).all()
    assert len(png) < 0.7 * len(drawn.getvalue())
    plt.close(figure)


def test_slider_refuses_lists_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="no figures"):
        frames_slider([], caption="Nothing.")
    figure = plt.figure()
    with pytest.raises(ValueError, match="1 figures, 2 labels"):
        frames_slider([figure], labels=["a", "b"], caption="One.")
    plt.close(figure)


def test_interval_bars_stand_in_reading_order_with_their_intervals_and_chance() -> None:
    _, axes = plt.subplots(1, 2, sharey=True)
    for ax in axes:
        interval_bars(
            {"a": (40.0, 2.0), "b": (30.0, float("nan"))}, 20.0, ax, colours=["C0", "0.6"]
        )
        assert ax.yaxis_inverted()
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["a", "b"]
    assert [bar.get_width() for bar in axes[0].patches] == [40.0, 30.0]
    (intervals,) = axes[0].collections
    ends = [segment[:, 0].tolist() for segment in intervals.get_segments()]
    assert ends == [[38.0, 42.0], [30.0, 30.0]]
    chance = next(line for line in axes[0].lines if line.get_linestyle() == ":")
    assert list(chance.get_xdata()) == [20.0, 20.0]
    plt.close(axes[0].figure)


def test_a_band_reaches_from_the_lowest_seed_to_the_highest():
    ax = curve_bands({"ATST": ([0, 10], [[1.0, 3.0], [4.0, 8.0]])}, colours={"ATST": "C3"})
    (line,), (band,) = ax.lines, ax.collections
    assert line.get_ydata().tolist() == [2.0, 6.0] and line.get_color() == "C3"
    edges = band.get_paths()[0].vertices
    assert {tuple(p) for p in edges} >= {(0, 1), (0, 3), (10, 4), (10, 8)}


def test_a_method_has_one_colour_under_each_of_its_names():
    colour = method_colour
    assert colour("ATST") == colour("ATST, untrained") == colour("shipped ATST")
    assert colour("uaMix-MAE") == colour("T-CutMix, rule linear") == colour("uaMix-MAE, T-CutMix")
    assert len({colour(name) for name in METHOD_COLOURS}) == len(METHOD_COLOURS) - 1
    assert colour("something else") == "k"


def test_bars_start_at_zero():
    ax = interval_bars({"a": (40.0, 1.0), "b": (45.0, float("nan"))}, 20.0)
    assert ax.get_xlim()[0] == 0
    plt.close(ax.figure)


def test_a_start_and_an_end_are_a_ring_and_a_dot_with_the_gain_in_words() -> None:
    _, ax = plt.subplots()
    starts_and_ends({"ATST": (40.0, 45.7), "BYOL-A": (42.0, 41.0)}, {"log-mel": 43.0}, ax)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["ATST", "BYOL-A"]
    assert [text.get_text() for text in ax.texts] == ["+5.7", "-1.0"]
    places = [tuple(dots.get_offsets()[0]) for dots in ax.collections]
    assert places == [(40.0, 0.0), (45.7, 0.0), (42.0, 1.0), (41.0, 1.0)]
    *_, line = ax.lines
    assert line.get_label() == "log-mel" and set(line.get_xdata()) == {43.0}
    assert ax.get_xlim()[1] > 45.7 and ax.yaxis.get_inverted()
    plt.close()
