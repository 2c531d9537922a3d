"""From a normalised filter bank back to sound: what a masked or mixed spectrogram sounds like."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor

from audiossl_lite.frontends import AudioMAEFrontend


@torch.no_grad()
def fbank_to_waveform(spec: Tensor, frontend: AudioMAEFrontend) -> Tensor:
    """A waveform `(S,)` at 16 kHz whose filter bank is about `spec (T, F)`, S = 160 (T - 1).

    Undoes the normalisation, the log, the mel bands (pseudo-inverse) and the pre-emphasis; the phase, which the
    filter bank does not keep, is guessed by Griffin-Lim from a fixed start. Rough by nature. Raises ValueError for
    another number of bands than the frontend's.
    """
    if spec.dim() != 2 or spec.shape[1] != frontend.n_mels:
        raise ValueError(f"spec is (frames, {frontend.n_mels}), got {tuple(spec.shape)}")
    mel_power = torch.exp(spec.cpu() * 2.0 * frontend.std + frontend.mean)
    linear = (mel_power @ torch.linalg.pinv(frontend.mel_bank.cpu()).T).clamp_min(0.0)  # (T, 257)
    back = torchaudio.transforms.GriffinLim(
        n_fft=512, win_length=400, hop_length=160, power=2.0, rand_init=False
    )
    emphasised = back(linear.T)
    return torchaudio.functional.deemphasis(emphasised, coeff=0.97)
