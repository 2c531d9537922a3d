"""Pin: players carry their own bytes, never clip, never grow without bound, and escape labels."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile as sf
import torch

from audiossl_lite.book.players import (
    described,
    grid_html,
    levelled,
    play_grid,
    player_html,
    sound_address,
)


def decoded(page: str) -> tuple[np.ndarray, int]:
    """The samples and the rate of the first player in a page."""
    match = re.search(r"data:audio/flac;base64,([A-Za-z0-9+/=]+)", page)
    assert match is not None
    return sf.read(io.BytesIO(base64.b64decode(match.group(1))))


@pytest.mark.parametrize("peak", [1.0, 0.01])
def test_an_address_gives_back_the_waveform_to_12_bits_of_its_peak(peak: float) -> None:
    waveform = peak * np.linspace(-1, 1, 1001)
    samples, rate = decoded(sound_address(waveform, 8000))
    assert rate == 8000 and samples.shape == waveform.shape
    np.testing.assert_allclose(samples, waveform, atol=max(peak / 1000, 1 / 32767))


def test_a_sound_is_described_by_what_is_in_it() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 8000)
    tone[:12_000] *= 0.5
    tone[12_400:] *= 0.5
    told = described(tone, 8000)
    assert told == "2.0 s, half of its energy from 440 to 440 Hz, loudest at 1.5 s"
    noise = described(np.random.default_rng(0).standard_normal(80_000), 8000)
    low, high = map(int, re.search(r"from (\d+) to (\d+) Hz", noise).groups())
    assert abs(low - 1000) <= 100 and abs(high - 3000) <= 100
    assert described(np.zeros(800), 8000) == "0.1 s, silent"


def test_a_tensor_keeps_its_level_unless_it_would_clip() -> None:
    quiet, _ = decoded(player_html(torch.full((100,), 0.1)))
    assert np.abs(quiet).max() == pytest.approx(0.1, abs=1e-3)
    loud_page = player_html(torch.linspace(-4.0, 4.0, 101))
    loud, _ = decoded(loud_page)
    assert np.abs(loud).max() == pytest.approx(1.0, abs=1e-3)
    assert loud[75] == pytest.approx(0.5, abs=1e-3), "turned down as a whole, not cut off"
    assert "turned down from peak 4.00" in loud_page


def test_long_sounds_are_cut_and_say_so() -> None:
    page = player_html(np.zeros(32000) + 0.1, "long", max_s=0.5)
    samples, _ = decoded(page)
    assert samples.size == 8000
    assert "first 0.5 s of 2.0 s" in page


def test_normalize_raises_a_quiet_sound() -> None:
    samples, _ = decoded(player_html(np.array([0.0, 0.01, -0.02]), normalize=True))
    assert np.abs(samples).max() == pytest.approx(0.9, abs=1e-3)


def test_labels_are_escaped_and_spoken() -> None:
    page = player_html(np.zeros(10), label='<b>"x"</b>')
    assert "<b>" not in page
    assert 'aria-label="&lt;b&gt;&quot;x&quot;&lt;/b&gt;: 0.0 s, silent"' in page


def test_bad_waveforms_are_named() -> None:
    one = "the bad one.* needs one waveform"
    for bad, message in ((np.zeros((2, 3)), one), (np.zeros(0), one), (np.array([np.nan]), "NaN")):
        with pytest.raises(ValueError, match=message):
            player_html(bad, label="the bad one")


def test_a_grid_refuses_nothing_and_too_much() -> None:
    with pytest.raises(ValueError, match="no sound"):
        grid_html({})
    noise = np.random.default_rng(0).uniform(-1, 1, 80_000)
    heavy = {str(index): noise for index in range(40)}
    with pytest.raises(ValueError, match="MB into the page"):
        grid_html(heavy)
    assert grid_html({"a": np.zeros(9), "b": np.zeros(9)}, title="pair").count("<audio") == 2


def test_a_grid_shows_one_player_a_sound(shown: list) -> None:
    play_grid({f"clip {k}": torch.zeros(100) for k in (1, 2, 3)})
    assert shown[0]["text/html"].count("<audio") == 3
    assert shown[0]["text/plain"] == "players: clip 1, clip 2, clip 3"


def test_levelled_sounds_have_one_peak_and_silence_stays_silent() -> None:
    waves = torch.tensor([[0.1, -0.2, 0.0], [2.0, 1.0, -4.0], [0.0, 0.0, 0.0]])
    even = levelled(waves)
    torch.testing.assert_close(even.abs().amax(1), torch.tensor([0.7, 0.7, 0.0]))
    torch.testing.assert_close(levelled(waves[1], 0.5), torch.tensor([0.25, 0.125, -0.5]))
