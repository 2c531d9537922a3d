"""A filter bank turned back into sound has about the same filter bank."""

from __future__ import annotations

import pytest
import torch

from audiossl_lite.book.inversion import fbank_to_waveform
from audiossl_lite.frontends import AudioMAEFrontend


def test_the_sound_has_about_the_filter_bank_it_was_made_from():
    time = torch.arange(16_000) / 16_000
    wave = 0.3 * torch.sin(2 * torch.pi * 440 * time) + 0.1 * torch.sin(2 * torch.pi * 3000 * time)
    frontend = AudioMAEFrontend(96, n_mels=64)
    spec = frontend(wave[None])[0]
    back = fbank_to_waveform(spec, frontend)
    assert back.shape == (160 * 95,)
    again = frontend(back[None])[0, 10:80]
    loud = spec[10:80] > spec.mean() + spec.std()
    assert loud.any()
    assert (again - spec[10:80])[loud].abs().mean() * 2 * frontend.std < 1.5, "within 6.5 dB"
    assert again.mean(0).argmax() == spec[10:80].mean(0).argmax()
    assert torch.equal(back, fbank_to_waveform(spec, frontend)), "nothing is drawn"


def test_another_number_of_bands_is_refused():
    with pytest.raises(ValueError, match="64"):
        fbank_to_waveform(torch.zeros(10, 128), AudioMAEFrontend(n_mels=64))
