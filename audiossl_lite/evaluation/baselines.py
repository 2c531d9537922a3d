"""What no learning gives: statistics of log-mel bands and of MFCCs. They stand beside every learned number."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiossl_lite.evaluation.embed import embed_with, spectrograms
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend, valid_frames


def log_mel_statistics(waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean and std over time of 64 natural log-mel bands: clips `(n, S)` -> `(n, 128)`."""
    frontend = BYOLAFrontend(0.0, 1.0).to(waveforms.device)
    return _statistics(frontend, frontend, waveforms, lengths)


def mfcc_statistics(
    waveforms: Tensor, lengths: Tensor | None = None, *, n_coefficients: int = 20
) -> Tensor:
    """Mean and std over time of MFCCs: `(n, S) -> (n, 40)`, as `torchaudio.transforms.MFCC` computes them.

    Orthonormal cosine transform of the mel spectrogram in dB, floored 80 dB below the loudest cell of each clip.
    """
    frontend = ATSTFrontend("official").to(waveforms.device)
    transform = cosine_transform(n_coefficients, frontend.n_mels).to(waveforms.device)
    return _statistics(
        frontend, lambda wave: frontend.decibels(wave) @ transform.T, waveforms, lengths
    )


BASELINES = {"log-mel statistics": log_mel_statistics, "MFCC statistics": mfcc_statistics}


def _statistics(
    frontend: nn.Module, compute: Callable, waveforms: Tensor, lengths: Tensor | None
) -> Tensor:
    return embed_with(
        lambda wave, valid: mean_and_std(*spectrograms(frontend, wave, valid, compute=compute)),
        waveforms,
        lengths,
    )


def mean_and_std(frames: Tensor, lengths: Tensor) -> Tensor:
    """Mean and population std over the valid frames of `(B, T, F)`, `lengths (B,)`: `(B, 2F)`."""
    lengths = lengths.to(frames.device)
    valid = valid_frames(lengths, frames.shape[1])[..., None]
    count = lengths[:, None].to(frames.dtype)
    mean = (frames * valid).sum(1) / count
    variance = ((frames - mean[:, None]).square() * valid).sum(1) / count
    return torch.cat([mean, variance.sqrt()], dim=1)


def cosine_transform(n_out: int, n_in: int) -> Tensor:
    """The first `n_out` rows of the orthonormal DCT-II of size `n_in`, `(n_out, n_in)`."""
    k, n = torch.arange(n_out)[:, None], torch.arange(n_in)[None]
    basis = torch.cos(math.pi / n_in * (n + 0.5) * k) * math.sqrt(2.0 / n_in)
    basis[0] /= math.sqrt(2.0)
    return basis
