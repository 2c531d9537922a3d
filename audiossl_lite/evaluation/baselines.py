"""What no learning gives: statistics of log-mel bands and of MFCCs. They stand beside every learned number."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import in_float32
from audiossl_lite.common.padding import valid_frames
from audiossl_lite.evaluation.embed import embed_clips
from audiossl_lite.frontends import ATSTFrontend, BYOLAFrontend


def log_mel_statistics(waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean and std over time of 64 natural log-mel bands: clips `(n, S)` -> `(n, 128)`."""
    frontend = BYOLAFrontend(mean=0.0, std=1.0)
    return embed_clips(Statistics(), frontend, waveforms, lengths, device=waveforms.device)


def mfcc_statistics(waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean and std over time of 20 MFCCs: clips `(n, S)` -> `(n, 40)`."""
    return embed_clips(Statistics(), MFCCFrontend(), waveforms, lengths, device=waveforms.device)


BASELINES = {"log-mel statistics": log_mel_statistics, "MFCC statistics": mfcc_statistics}


class Statistics(nn.Module):
    """`mean_and_std` where an encoder is asked for: `(B, T, F)`, `lengths (B,)` -> `(B, 2F)`."""

    def forward(self, spec: Tensor, lengths: Tensor) -> Tensor:
        return mean_and_std(spec, lengths)


class MFCCFrontend(ATSTFrontend):
    """MFCCs as `torchaudio.transforms.MFCC` computes them: `(B, S) -> (B, T, 20)`.

    Orthonormal cosine transform of the mel spectrogram in dB, floored 80 dB below the loudest cell of each clip.
    """

    def __init__(self) -> None:
        super().__init__("official")
        self.register_buffer("transform", cosine_transform(20, self.n_mels), persistent=False)

    @in_float32  # float16 does not hold the square of the first coefficient
    def forward(self, waveform: Tensor, frames: Tensor | None = None) -> Tensor:
        return self.decibels(waveform, frames) @ self.transform.T


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
