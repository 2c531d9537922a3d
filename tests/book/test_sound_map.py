"""A sound map carries each sound once, says what is wrong with its input, and works in a real browser."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from bs4 import BeautifulSoup

from audiossl_lite.book.sound_map import (
    LETTERS,
    PEAK,
    STORED_RATE_HZ,
    letters_of,
    loudest_part,
    mark_svg,
    show_sound_map,
    sound_map_html,
)
from tests.book.browser import BROWSER, drawn

NAMES = ("rain & <wind>", "dog", "bell (never heard)")
N = 9


def inputs(n: int = N, n_samples: int = 4000):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % len(NAMES)
    waves = 0.1 * torch.randn(n, n_samples, generator=generator)
    return torch.randn(n, 2, generator=generator), labels, NAMES, waves


def sounds_of(page: str) -> list[str]:
    return re.findall(r'"([^"]*)"', re.search(r"const sounds = \[(.*)\];", page).group(1))


def decoded(sound: str) -> tuple[np.ndarray, int]:
    return sf.read(io.BytesIO(base64.b64decode(sound.removeprefix("data:audio/flac;base64,"))))


def test_the_loudest_part_is_found_and_levelled():
    wave_ = torch.zeros(48_000)
    wave_[30_000:38_000] = 0.01 * torch.sin(torch.arange(8000) * 2 * torch.pi * 500 / 16_000)
    part = loudest_part(wave_, max_s=0.5)
    assert len(part) == STORED_RATE_HZ // 2
    assert np.abs(part).max() == pytest.approx(PEAK)
    power = np.abs(np.fft.rfft(part))
    assert power.argmax() / 0.5 == 500, "half the rate, the same pitch"
    assert np.abs(part[:4]).max() < 0.05 and np.abs(part[-4:]).max() < 0.05, "faded"
    assert len(loudest_part(wave_[:1600], max_s=0.5)) == 800
    assert not loudest_part(torch.zeros(1600)).any()


def test_each_sound_is_stored_once_for_all_panels():
    points, labels, names, waves = inputs()
    page = sound_map_html({"before": points, "after": -points}, labels, names, waves, max_s=0.1)
    sounds = sounds_of(page)
    assert len(sounds) == N
    for sound, wave_ in zip(sounds, waves, strict=True):
        samples, rate = decoded(sound)
        assert rate == STORED_RATE_HZ and len(samples) == 800
        np.testing.assert_allclose(samples, loudest_part(wave_, max_s=0.1), atol=1e-3)
    soup = BeautifulSoup(page, "html.parser")
    assert [tag.get_text() for tag in soup.find_all("figcaption")] == ["before", "after"]
    for plane in soup.select("svg.sm-plane"):
        assert [tag["data-i"] for tag in plane.select(".sm-point")] == [str(i) for i in range(N)]
        assert len(plane.select(".sm-halo")) == 1


def test_points_keep_their_places_and_proportions():
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0]])
    _, _, names, waves = inputs(3)
    soup = BeautifulSoup(sound_map_html(points, [0, 1, 2], names, waves), "html.parser")
    at = [[float(x) for x in tag["data-at"].split()] for tag in soup.select(".sm-point")]
    assert at[1][0] - at[0][0] == pytest.approx(2 * (at[0][1] - at[2][1]))
    assert at[1][0] - at[0][0] > 100
    assert at[2][1] < at[0][1] == at[1][1], "up is up"
    same = sound_map_html(torch.ones(3, 2), [0, 1, 2], names, waves)
    assert 'data-at="190.0 190.0"' in same


def test_colour_shape_letter_and_words_tell_the_class():
    points, labels, names, waves = inputs()
    soup = BeautifulSoup(
        sound_map_html(points, labels, names, waves, names=[f'"{i}"' for i in range(N)]),
        "html.parser",
    )
    point = soup.select(".sm-point")[3]
    assert point["aria-label"] == point.title.get_text()
    assert re.fullmatch(
        r'A, rain & <wind>: "3"; [\d.]+ s, half of its energy .*', point["aria-label"]
    )
    assert point.find("text").get_text() == "A"
    assert [b.get_text() for b in soup.select(".sm-legend button")] == [
        f"{letter}{name}" for letter, name in zip(LETTERS, names)
    ]
    assert len({mark_svg(kind) for kind in range(len(LETTERS))}) == len(LETTERS)
    plain = [re.sub(r">.</text>", "", mark_svg(kind)) for kind in range(24)]
    assert len(set(plain)) == 24, "colour and shape alone tell 24 classes"
    assert letters_of([7, 2, 7]) == {2: 0, 7: 1}


def test_maps_on_one_page_do_not_share_a_name():
    pages = [sound_map_html(*inputs(), max_s=0.01) for _ in range(2)]
    keys = [re.search(r'<div id="([^"]+)"', page).group(1) for page in pages]
    assert keys[0] != keys[1] and all(page.count(key) > 5 for key, page in zip(keys, pages))
    assert "#ROOT" not in pages[0] and "http" not in pages[0]


def test_show_gives_html_and_words(shown):
    points, labels, names, waves = inputs()
    show_sound_map(
        {"a": points, "b": points}, labels, [*names, "none"], waves, title="two", max_s=0.01
    )
    assert shown[0]["text/plain"] == f"sound map 'two': 9 clips of {', '.join(NAMES)}; a, b"
    assert shown[0]["text/html"].startswith('<div id="sound-map-')


def nan_at(points, row):
    broken = points.clone()
    broken[row, 1] = torch.nan
    return broken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y, c, w: (nan_at(p, 4), y, c, w), r"the map: the points of clips \[4\] are NaN"),
        (lambda p, y, c, w: ({"b": nan_at(p, 2)}, y, c, w), r"panel 'b': .* clips \[2\]"),
        (lambda p, y, c, w: (p[:4], y, c, w), r"points \(9, 2\), one per label, got \(4, 2\)"),
        (lambda p, y, c, w: (p.repeat(1, 2), y, c, w), r"got \(9, 4\)"),
        (lambda p, y, c, w: ({}, y, c, w), "without panels"),
        (lambda p, y, c, w: (p, y + 1, c, w), "from 0 to 2, one name each; got .* from 1 to 3"),
        (lambda p, y, c, w: (p, y - 1, c, w), "from -1 to 1"),
        (lambda p, y, c, w: (p, y, c, w[:5]), "9 labels, but 5 waveforms"),
        (lambda p, y, c, w: (p, y, c, nan_at(w, 1)), "'clip 2' holds NaN"),
        (lambda p, y, c, w: (p, y, c, w[:, None]), r"'clip 1' needs one waveform"),
        (lambda p, y, c, w: (p, y, c, w.repeat(1, 270)), "9 clips of 90 s .* MB .* lower max_s"),
    ],
)
def test_bad_input_is_refused_with_a_reason(change, message):
    with pytest.raises(ValueError, match=message):
        sound_map_html(*change(*inputs()), max_s=90.0)
    with pytest.raises(ValueError, match="max_s is positive"):
        sound_map_html(*inputs(), max_s=0.0)


def test_more_classes_than_letters_are_refused():
    n = len(LETTERS) + 1
    with pytest.raises(ValueError, match="26 classes apart by letters, got 27"):
        sound_map_html(torch.rand(n, 2), list(range(n)), ["x"] * n, torch.rand(n, 100))


# A player that writes down what it was asked to play; then a visit of both panels by mouse and keys.
VISIT = """
<script>window.Audio = function (src) { document.body.dataset.asked = src; this.pause = () => {};
this.play = () => { this.onplaying(); this.onended(); return Promise.resolve(); }; };</script>
%s
<script>
const root = document.querySelector(".sound-map"), out = document.body.dataset;
const say = () => root.querySelector(".sm-say").textContent;
const point = (panel, i) => root.querySelectorAll(".sm-plane")[panel].querySelectorAll(".sm-point")[i];
const same = (halo, p) => ["cx", "cy"].every((k, j) => +halo.getAttribute(k) === +p.dataset.at.split(" ")[j]);
out.before = root.querySelectorAll(".sm-on").length;
point(0, 4).dispatchEvent(new Event("pointerenter"));
out.hover = say();
out.twins = [...root.querySelectorAll(".sm-halo.sm-on")].map((h, p) => same(h, point(p, 4)));
point(1, 7).dispatchEvent(new MouseEvent("click"));
out.click = say(); out.first = out.asked; out.played = root.dataset.played;
point(0, 0).focus();
document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
out.moved = document.activeElement.dataset.i;
document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
out.entered = say();
const key = root.querySelectorAll(".sm-legend button")[1];
key.click(); out.dim = root.querySelectorAll(".sm-dim").length;
out.pressed = key.getAttribute("aria-pressed");
key.click(); out.bright = root.querySelectorAll(".sm-dim").length;
</script>
"""


@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome on this machine")
def test_in_a_browser_a_click_plays_and_both_panels_light_up(tmp_path: Path):
    points, labels, names, waves = inputs()
    points[0], points[1] = torch.tensor([-9.0, 0.0]), torch.tensor([-8.0, 0.0])
    page = sound_map_html({"a": points, "b": -points}, labels, names, waves, max_s=0.1)
    (tmp_path / "page.html").write_text(f"<!doctype html><html><body>{VISIT % page}</body></html>")
    seen = drawn(tmp_path / "page.html", tmp_path / "profile").body.attrs
    assert seen["data-before"] == "0" and seen["data-twins"] == "true,true"
    assert seen["data-hover"].startswith("B, dog: clip 5; 0.1 s")
    assert seen["data-click"].startswith("▶ B, dog: clip 8;") and seen["data-played"] == "7"
    assert seen["data-first"] == sounds_of(page)[7]
    assert seen["data-moved"] == "1" and seen["data-entered"].startswith("▶ B, dog: clip 2;")
    assert seen["data-asked"].endswith(sounds_of(page)[1])
    assert [seen[f"data-{x}"] for x in ("dim", "pressed", "bright")] == ["12", "true", "0"]
