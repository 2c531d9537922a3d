"""Pin: names from data are text wherever they are shown; a verdict is what its numbers allow, else silent."""

from __future__ import annotations

import base64
import io
import math
import re
from types import SimpleNamespace

import matplotlib
import mistune
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from matplotlib import pyplot as plt
from PIL import Image

from audiossl_lite.book.figures import figure_style, frames_slider, show_figure
from audiossl_lite.book.notebook import provenance, show_table
from audiossl_lite.book.players import play_grid
from audiossl_lite.book.sound_map import sound_map_html
from audiossl_lite.book.words import (
    counted,
    differences,
    judged,
    legend_name,
    means_moved,
    ordered,
    paired,
    plain,
    printable,
    reveal,
    say,
    verdict,
)
from audiossl_lite.common.parameters import Parameters
from audiossl_lite.evaluation.statistics import verdict as word_for

matplotlib.use("Agg")

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</details><script>alert(1)</script>",
    "*em* __strong__ `code` [link](javascript:alert(1)) ![i](x)",
    "| a | b |",
    "# heading",
    "1. item",
    "- item",
    "{{ version }} {ref}`x` {eval-rst}",
    "$\\frac{$",
    "x$_$y",
    "\\(x\\)",
    "&lt;b&gt; &amp;",
    "\"quoted\" 'name'",
    "_hidden",
    "\u202eevil\u200b\x07\ud800",
    "\u72ac\u306e\u58f0",
)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The markup of what a cell would show."""
    caught: list[str] = []

    def show(what: object, raw: bool = False) -> None:
        data = what["text/html"] if isinstance(what, dict) else getattr(what, "data", "")
        caught.append(data)

    monkeypatch.setattr("IPython.display.display", show)
    return caught


def test_a_name_in_a_sentence_is_that_name_and_nothing_else(seen: list[str]) -> None:
    """By CommonMark, which pages are made with, and by mistune, which nbconvert uses."""
    for name in HOSTILE:
        say(f"**Best**: {plain(name)}.", f"{plain(name)} again.")
        reveal(f"It is <b>{plain(name)}</b>.")
        text = printable(name)
        for read in (MarkdownIt("commonmark").enable("table").render, mistune.html):
            soup = BeautifulSoup(read(seen[-2]), "html.parser")
            assert soup.get_text().strip() == f"Best: {text}. {text} again.", name
            tags = {tag.name for tag in soup.find_all(True)}
            assert tags <= {"p", "strong", "span"}, (name, tags)
        soup = BeautifulSoup(seen[-1], "html.parser")
        assert soup.b.get_text() == text
        tags = {tag.name for tag in soup.find_all(True)}
        assert tags <= {"details", "summary", "b", "span"}, (name, tags)


def test_a_name_that_was_not_escaped_is_no_tag(seen: list[str]) -> None:
    for name in HOSTILE:
        say(f"It is {name}.")
        reveal(f"It is <b>{name}</b>.", title=name)
        for page, tags in (
            (MarkdownIt("commonmark").render(seen[-2]), {"p", "em", "strong", "code", "a", "img"}),
            (seen[-1], {"details", "summary", "b", "em"}),
        ):
            soup = BeautifulSoup(page, "html.parser")
            assert {tag.name for tag in soup.find_all(True)} <= tags, name
            assert not [t for t in soup.find_all(True) if {"onerror", "onload"} & set(t.attrs)]
            assert "javascript:" not in " ".join(a["href"] for a in soup("a"))
    say("1 < 2, and a <b> is shown")
    assert seen[-1] == "1 < 2, and a &lt;b> is shown"


def test_no_formula_begins_in_a_name() -> None:
    for name in HOSTILE:
        soup = BeautifulSoup(plain(name), "html.parser")
        for span in soup.select(".tex2jax_ignore"):
            span.decompose()
        assert not set("$\\") & set(soup.get_text()), name


def test_what_is_not_seen_is_left_out_of_a_name() -> None:
    assert printable("\u202eevil\u200b\x07\ud800 name\n") == "evil name"
    assert printable("e\u0301") == "\u00e9"
    assert plain("Geräusch, 犬") == "Geräusch, 犬"


def test_every_helper_shows_hostile_names_as_text(seen: list[str]) -> None:
    tone = np.sin(np.arange(2000) / 5)
    for name in HOSTILE:
        show_table([{name: name}], name)
        play_grid({name: tone}, title=name)
        provenance(Parameters(device="cpu"), data=name)
        show_figure(f"A figure about {name}.", plt.figure(figsize=(1, 1)))
        n = [name, "b"]
        seen.append(sound_map_html(torch.rand(2, 2), [0, 1], n, [tone, tone], names=n, title=name))
    for page in seen:
        soup = BeautifulSoup(page, "html.parser")
        known = {"table", "caption", "thead", "tbody", "tr", "th", "td", "div", "audio", "img"}
        known |= {"figure", "figcaption", "details", "summary", "svg", "g", "title", "text"}
        known |= {"circle", "polygon", "button", "noscript"}
        assert {t.name for t in soup.find_all(True)} <= known | {"style", "script", "small"}
        assert all(s.get("src") is None and "alert" not in s.get_text() for s in soup("script"))
        assert not [t for t in soup.find_all(True) if any(a.startswith("on") for a in t.attrs)]
        assert len(soup("img")) == len(soup.find_all("img", src=re.compile("^data:image/png")))


def test_figures_draw_hostile_names_as_they_are(seen: list[str]) -> None:
    figure_style()
    for names in (("plain",), HOSTILE):
        _, ax = plt.subplots(figsize=(7, 8))
        for name in names:
            ax.loglog([1, 100], [1, 100], label=legend_name(name))
        ax.set_xlabel("\n".join(names))
        ax.legend()
        drawn = [text.get_text().strip() for text in ax.get_legend().get_texts()]
        assert drawn == list(map(printable, names))
        show_figure("Lines in a figure with names.")
        _, ax = plt.subplots(figsize=(7, 8))
        ax.barh([*names, "other"], range(len(names) + 1))
        show_figure("Bars with names beside them.")
        figure, ax = plt.subplots()
        ax.set_yticks(range(len(names)), names)
        frames_slider([figure], names[:1], title="names", caption="Names.")
    pictures = [
        re.search(r"base64,([^\"]+)", page)
        for page in seen
        if "data:image" in page and "<input" not in page
    ]
    sizes = {Image.open(io.BytesIO(base64.b64decode(p.group(1)))).size for p in pictures}
    assert len(pictures) == 2 * 2 and len(sizes) == 1


def test_a_dollar_is_drawn_and_powers_of_ten_stay_powers() -> None:
    from audiossl_lite.book.figures import figure_png

    figure, ax = plt.subplots()
    ax.loglog([1, 100], [1, 100])
    ax.set_title("x$_$y")
    figure_png(figure)
    assert not ax.title.get_parse_math()
    assert all(label.get_parse_math() for label in ax.get_xticklabels())
    plt.close(figure)


def test_sentences_are_joined_and_the_empty_ones_left_out(seen: list[str]) -> None:
    say("One.", False, "", None, "Two", ", three.", "- a", "- b c", "After.")
    assert seen == ["One. Two, three.\n\n- a\n- b c\n\nAfter."]
    say(False)
    say("A\n\nB")
    assert seen[1] == "A\n\nB"


def test_a_verdict_is_made_from_its_numbers() -> None:
    assert verdict("A", "B", 3.04, 1.0) == "A is above B (+3.0 ± 1.0 points)."
    assert verdict("A", "B", -3.0, 1.0) == "A is below B (-3.0 ± 1.0 points)."
    assert verdict("A", "B", -3.0, 1.0, words=("farther than", "nearer than")).startswith(
        "A is nearer"
    )
    assert verdict("A", "B", 0.5, 1.0) == "A and B cannot be told apart (+0.5 ± 1.0 points)."
    assert verdict("A", "B", 15.6, math.nan) == ""


def test_differences_are_paired_and_counted() -> None:
    rng = np.random.default_rng(0)
    luck = 20 * rng.standard_normal((1, 400))
    scores = {"a": {"x": 50 + luck}, "b": {"x": 49 + luck}, "c": {"x": 50 - luck}}
    rows = differences(scores, [("a", "b"), ("b", "a")], ["x"])
    assert [row["x"] for row in rows] == ["+1.0 ± 0.0: better", "-1.0 ± 0.0: worse"]
    rows += differences(scores, [("Which?", "a", "c")], ["x"])
    assert list(rows[2]) == ["question", "a minus b", "x"]
    assert counted(rows) == "1 better, 1 worse, 1 unclear"
    assert judged(np.array([[15.6]])) == "+15.6", "no interval, no word"
    assert word_for(0.14, 0.06) == "unclear", "it is printed as +0.1 ± 0.1"
    one, two = (SimpleNamespace(per_episode=scores[n]["x"][0]) for n in "ab")
    assert paired(one, two) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))


def test_means_without_an_interval_are_counted_and_not_judged() -> None:
    scores = {"end": {"x": np.array([3.0]), "y": np.array([1.0])}}
    scores["start"] = {"x": np.array([1.5]), "y": np.array([2.0])}
    assert means_moved(scores, "end", "start", ["x", "y"]) == (
        "end has a higher mean than start on 1 of 2 tasks: from -1.0 (y) to +1.5 points (x)."
    )


def test_two_numbers_are_ordered_as_they_are_printed() -> None:
    assert ordered(0.894, 0.889) == "the same (0.89 against 0.89)"
    assert ordered(0.894, 0.889, 3) == "higher (0.894 against 0.889)"
    assert ordered(41.0, 43.2, 0, unit=" %") == "lower (41 % against 43 %)"
