"""Waveform to spectrogram: the three frontends of the two papers and their baseline.

Every frontend maps waveforms `(B, S)` in [-1, 1] at 16 kHz to float32 spectrograms `(B, T, F)`, one item
independent of the others, so a batch equals its items. Each says how many frames a clip gives (`n_frames`), what
stands past its end (`pad_value`), and how much natural log power one unit of its spectrograms is worth (`log_unit`).
What they share stands below them. Chapter 01 takes them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torchaudio
from torch import Tensor, nn

from audiossl_lite.common.devices import in_float32, on_host
from audiossl_lite.common.padding import valid_frames, valid_values

SAMPLE_RATE_HZ = 16_000
FLOAT32_EPS = torch.finfo(torch.float32).eps
CACHED_SAMPLES = 2**18  # whose frames fit in the cache of a CPU core


class MelPower(nn.Module):
    """Mel power spectrogram `(B, S) -> (B, T, F)` with T = S // hop + 1 (centred frames, reflect padding).

    Where: ATST Sec. 3.1; chapter 01
    """

    def __init__(
        self,
        *,
        n_fft: int = 1024,
        window_samples: int = 1024,
        hop_samples: int = 160,
        n_mels: int = 64,
        f_min_hz: float = 60.0,
        f_max_hz: float = 7800.0,
        window: str = "hann",
    ) -> None:
        super().__init__()
        window_fn = {"hann": torch.hann_window, "hamming": torch.hamming_window}[window]
        self.n_fft, self.hop_samples, self.n_mels = n_fft, hop_samples, n_mels
        bank = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, f_min_hz, f_max_hz, n_mels, SAMPLE_RATE_HZ
        )
        self.register_buffer("mel_bank", bank, persistent=False)  # (n_fft / 2 + 1, F)
        self.register_buffer("window", window_fn(window_samples), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        return _few_at_once(self._of_clips, check_waveform(waveform, self.n_fft // 2 + 1))

    def _of_clips(self, waveform: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveform,
            self.n_fft,
            self.hop_samples,
            len(self.window),
            self.window,
            pad_mode="reflect",
            return_complex=True,
        )  # (B, n_fft / 2 + 1, T)
        power = spectrum.real.square() + spectrum.imag.square()  # half the time of abs() ** 2
        return power.transpose(1, 2) @ self.mel_bank


class CentredFrames(nn.Module):
    """What the frontends over `MelPower` share: a frame every 10 ms, the first one around the first sample."""

    hop_s = 0.01
    n_mels = 64
    min_samples = 513
    edge_samples = 512  # a frame reaches this far beyond the end of the clip
    frame_multiple = 1
    pad_value = 0.0

    def n_frames(self, n_samples: int | Tensor) -> int | Tensor:
        """Frames that `n_samples` samples give.

        Where: ATST Sec. 3.1; BYOL-A Sec. 4.1; chapter 01
        """
        return n_samples // 160 + 1


class ATSTFrontend(CentredFrames):
    """Log-mel in dB, min-max normalised to about [-1, 1]: `(B, S) -> (B, T, 64)`, T = S // 160 + 1.

    `variant="official"`: Hann window of 64 ms and a floor 80 dB below the loudest cell of each clip, as the
    authors' code computes it. `variant="paper"`: Hamming window of 25 ms, no floor but -100 dB, as the text says.
    `min_db`, `max_db`: the range mapped to [-1, 1] (no clipping); `fit` measures it on other data.

    Where: ATST Sec. 3.1; chapter 01
    """

    def __init__(
        self, variant: str = "official", *, min_db: float = -79.6482, max_db: float = 50.6842
    ) -> None:
        super().__init__()
        if variant not in ("paper", "official"):
            raise ValueError(f"ATSTFrontend variant is 'paper' or 'official', got {variant!r}")
        if not min_db < max_db:
            raise ValueError(f"min_db must be below max_db, got {min_db} and {max_db}")
        self.variant, self.min_db, self.max_db = variant, min_db, max_db
        if variant == "official":
            self.power = MelPower(window_samples=1024, window="hann")
            self.top_db: float | None = 80.0
        else:
            # n_fft stays 1024: 25 ms are 400 samples, zero-padded so that each low mel band covers several bins.
            self.power = MelPower(window_samples=400, window="hamming")
            self.top_db = None

    @property
    def log_unit(self) -> float:
        """Natural log power of one unit."""
        return log_power((self.max_db - self.min_db) / 2.0)

    def decibels(self, waveform: Tensor, frames: Tensor | None = None) -> Tensor:
        """Log-mel in dB, `(B, S) -> (B, T, 64)`, before normalisation.

        `frames (B,)`: the first so many are the clip's own; the floor does not look at others.

        Where: ATST Sec. 3.1; chapter 01
        """
        db = 10.0 * torch.log10(self.power(waveform).clamp_min(1e-10))
        if self.top_db is not None:
            own = db
            if frames is not None:
                own = db.masked_fill(~valid_frames(frames, db.shape[1])[..., None], -torch.inf)
            db = torch.maximum(db, own.amax(dim=(1, 2), keepdim=True) - self.top_db)
        return db

    def forward(self, waveform: Tensor, frames: Tensor | None = None) -> Tensor:
        db = self.decibels(waveform, frames)
        return (db - self.min_db) / (self.max_db - self.min_db) * 2.0 - 1.0

    def fit(self, waveform: Tensor, lengths: Tensor | None = None) -> ATSTFrontend:
        """A frontend of the same variant whose range is the least and greatest dB of these clips `(B, S)`.

        `lengths (B,)`: valid samples; frames of padding do not count.

        Where: ATST Sec. 3.1; chapter 01
        """
        db = valid_values(self, self.decibels, waveform, lengths)
        return ATSTFrontend(self.variant, min_db=db.min().item(), max_db=db.max().item()).to(
            waveform.device
        )


class BYOLAFrontend(CentredFrames):
    """Natural log-mel, standardised by two scalars of the data: `(B, S) -> (B, T, 64)`, T = S // 160 + 1.

    The default `mean`, `std` are those of the authors' example; `fit` measures them, as the authors advise.

    Where: BYOL-A Sec. 4.1; chapter 01
    """

    def __init__(self, mean: float = -5.4919195, std: float = 5.0389895) -> None:
        super().__init__()
        if not std > 1e-3:  # constant data measures as rounding errors, not as 0
            raise ValueError(f"std must be positive, got {std:.3g}; is all the data silent?")
        self.mean, self.std = mean, std
        self.power = MelPower()

    @property
    def log_unit(self) -> float:
        """Natural log power of one unit."""
        return self.std

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Natural log-mel `(B, S) -> (B, T, 64)`, floor log(1.19e-7) = -15.94.

        Where: BYOL-A Sec. 4.1; chapter 01
        """
        return torch.log(self.power(waveform) + FLOAT32_EPS)

    def forward(self, waveform: Tensor) -> Tensor:
        return (self.log_mel(waveform) - self.mean) / self.std

    def fit(self, waveform: Tensor, lengths: Tensor | None = None) -> BYOLAFrontend:
        """A frontend with the mean and standard deviation of these clips `(B, S)`.

        `lengths (B,)`: valid samples; frames of padding do not count.

        Where: BYOL-A Sec. 4.1; chapter 01
        """
        log_mel = valid_values(self, self.log_mel, waveform, lengths)
        return BYOLAFrontend(log_mel.mean().item(), log_mel.std().item()).to(waveform.device)


class AudioMAEFrontend(nn.Module):
    """Kaldi filter bank, padded or cut to `n_frames`, normalised: `(B, S) -> (B, n_frames, n_mels)`.

    25 ms Hann windows every 10 ms without centring, so 10 s give 998 frames. Short clips are padded with zeros
    *before* normalisation, as published: padding becomes -mean / (2 std) = +0.467, louder than silence (-1.278).

    Where: AudioMAE Sec. 4.1; chapter 01
    """

    hop_s = 0.01
    min_samples = 400
    edge_samples = 0  # no frame reaches beyond the clip
    frame_multiple = 16  # the encoder takes whole patches

    def __init__(
        self,
        n_frames: int = 1024,
        mean: float = -4.2677393,
        std: float = 4.5689974,
        *,
        n_mels: int = 128,
    ) -> None:
        super().__init__()
        if n_frames < 1 or not std > 0:
            raise ValueError(f"n_frames and std must be positive, got {n_frames} and {std}")
        self.target_frames, self.mean, self.std, self.n_mels = n_frames, mean, std, n_mels
        bank, _ = torchaudio.compliance.kaldi.get_mel_banks(
            n_mels, 512, float(SAMPLE_RATE_HZ), 20.0, 0.0, 100.0, -500.0, 1.0
        )
        bank = nn.functional.pad(bank, (0, 1))  # the Nyquist bin carries no weight
        self.register_buffer("mel_bank", bank, persistent=False)  # (n_mels, 257)
        self.register_buffer("window", torch.hann_window(400, periodic=False), persistent=False)

    @property
    def pad_value(self) -> float:
        """What padding becomes: zeros, normalised.

        Where: AudioMAE, official code; chapter 06
        """
        return -self.mean / (2.0 * self.std)

    @property
    def log_unit(self) -> float:
        """Natural log power of one unit."""
        return 2.0 * self.std

    def fbank(self, waveform: Tensor) -> Tensor:
        """Kaldi log filter bank `(B, S) -> (B, (S - 400) // 160 + 1, n_mels)`, before padding and normalisation.

        Where: AudioMAE Sec. 4.1; chapter 01
        """
        return _few_at_once(self._fbank_of_clips, check_waveform(waveform, self.min_samples))

    def _fbank_of_clips(self, waveform: Tensor) -> Tensor:
        waveform = waveform - waveform.mean(dim=1, keepdim=True)
        frames = waveform.unfold(1, 400, 160)  # (B, T, 400)
        frames = frames - frames.mean(dim=2, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        frames = (frames - 0.97 * previous) * self.window
        spectrum = torch.fft.rfft(frames, n=512)  # (B, T, 257)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log((power @ self.mel_bank.T).clamp_min(FLOAT32_EPS))

    def forward(self, waveform: Tensor) -> Tensor:
        fbank = self.fbank(waveform)[:, : self.target_frames]
        fbank = nn.functional.pad(fbank, (0, 0, 0, self.target_frames - fbank.shape[1]))
        return (fbank - self.mean) / (2.0 * self.std)

    def n_frames(self, n_samples: int | Tensor) -> int | Tensor:
        """Valid (not padded) frames that `n_samples` samples give.

        Where: AudioMAE Sec. 4.1; chapter 01
        """
        frames = (n_samples - 400) // 160 + 1
        if isinstance(frames, Tensor):
            return frames.clamp(max=self.target_frames)
        return min(frames, self.target_frames)

    def fit(self, waveform: Tensor, lengths: Tensor | None = None) -> AudioMAEFrontend:
        """A frontend of the same size with the mean and standard deviation of these clips `(B, S)`.

        `lengths (B,)`: valid samples; frames of padding do not count.

        Where: AudioMAE Sec. 4.1; chapter 06
        """
        whole = AudioMAEFrontend(1 << 30, n_mels=self.n_mels)  # no clip is cut to `n_frames`
        fbank = valid_values(whole.to(waveform.device), whole.fbank, waveform, lengths)
        return AudioMAEFrontend(
            self.target_frames, fbank.mean().item(), fbank.std().item(), n_mels=self.n_mels
        ).to(waveform.device)


def log_power(db: float | Tensor) -> float | Tensor:
    """The natural log of power that `db` decibels (a number or a tensor) add: 10 dB are ln 10."""
    return db / 10.0 * math.log(10.0)


def check_waveform(waveform: Tensor, min_samples: int) -> Tensor:
    """Return the waveform as float32, or say what is wrong with it.

    `waveform (B, S)`; raises ValueError for another rank, fewer than `min_samples` samples, NaN or infinity (these
    on the host only, see `on_host`).
    """
    if waveform.dim() != 2:
        raise ValueError(
            f"a frontend takes waveforms of shape (batch, samples), got {tuple(waveform.shape)}; "
            "use waveform[None] for a single mono clip and waveform.mean(0) for stereo"
        )
    if waveform.shape[1] < min_samples:
        raise ValueError(
            f"a clip of {waveform.shape[1]} samples is too short: this frontend needs at least {min_samples}; "
            "pad it with zeros"
        )
    if on_host(waveform) and not torch.isfinite(waveform).all():
        bad = (~torch.isfinite(waveform)).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(
            f"clips {bad[:8]} of this batch hold NaN or infinite samples; drop or repair them"
        )
    return waveform.float()


@in_float32  # the power of a loud clip is more than float16 holds
def _few_at_once(transform: Callable[[Tensor], Tensor], waveform: Tensor) -> Tensor:
    """`transform(waveform)`; on a CPU a few clips at a time, whose frames stay in the cache: 2 to 3 times faster."""
    if waveform.device.type != "cpu":
        return transform(waveform)
    few = max(1, CACHED_SAMPLES // waveform.shape[1])
    return torch.cat([transform(part) for part in waveform.split(few)])
