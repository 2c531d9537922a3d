"""A small sound model and eight faults that people publish with, each put into it: what `check` has to find."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.common.padding import valid_frames
from audiossl_lite.methods import MAE

DIM, FRAME = 24, 160


class Toy(nn.Module):
    """Waveforms `(B, S)` with `lengths (B,)` to `(B, 24)`: filtered frames, rectified, averaged over the clip."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.filters = nn.Linear(FRAME, DIM)
            self.last = nn.Linear(DIM, DIM)
        self.eval()

    def wave(self, waveform: Tensor) -> Tensor:
        """What is done to the sound first."""
        return waveform

    def frames_of(self, lengths: Tensor) -> Tensor:
        """Frames that count for each clip, `(B,)`."""
        return -(-lengths // FRAME)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        if waveform.dim() != 2:
            raise ValueError("mono clips only")
        wave = self.wave(waveform)
        wave = nn.functional.pad(wave, (0, -wave.shape[1] % FRAME))
        frames = wave.unflatten(1, (-1, FRAME))  # (B, N, 160)
        counts = self.frames_of(lengths)
        valid = valid_frames(counts, frames.shape[1])[..., None]
        x = (self.filters(frames).abs() * valid).sum(1) / counts[:, None]
        return self.after(self.last(x))

    def after(self, x: Tensor) -> Tensor:
        """What is done to the embedding last."""
        return x


class PaddingLeaks(Toy):
    def frames_of(self, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, -(-int(lengths.max()) // FRAME))


class TrainModeLeftOn(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.train()

    def after(self, x: Tensor) -> Tensor:
        return self.drop(x)


class NaNOnSilence(Toy):
    def wave(self, waveform: Tensor) -> Tensor:
        return waveform / waveform.square().mean(1, keepdim=True).sqrt()


class BatchDependent(Toy):
    def after(self, x: Tensor) -> Tensor:
        return x - x.mean(0) if len(x) > 1 else x


class NotDeterministic(Toy):
    def after(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn(x.shape)


class BatchMaximum(Toy):
    def wave(self, waveform: Tensor) -> Tensor:
        return waveform / waveform.abs().max().clamp_min(1e-9)


class OrderDependent(Toy):
    """Mixes each row with the one before it, as a shifted index does."""

    def after(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.roll(1, 0) * (torch.arange(len(x)) > 0)[:, None]


class HalfOverflows(Toy):
    """Loud inside and scaled back after: float32 does not notice."""

    def __init__(self) -> None:
        super().__init__()
        self.loud = nn.Linear(DIM, DIM, bias=False)
        self.loud.weight.data = 1e6 * torch.eye(DIM)
        self.eval()

    def after(self, x: Tensor) -> Tensor:
        return self.loud(x) * 1e-6


# The check that is named after each fault; others may fail with it.
FAULTS = {
    PaddingLeaks: "padded",
    TrainModeLeftOn: "eval mode",
    NaNOnSilence: "silence",
    BatchDependent: "alone and in a batch",
    NotDeterministic: "same call twice",
    BatchMaximum: "beside a loud clip",
    OrderDependent: "order of the batch",
    HalfOverflows: "float16",
}


def plain(waveform: Tensor) -> Tensor:
    """A function of waveforms alone; it takes no lengths."""
    return Toy()(waveform, torch.full((len(waveform),), waveform.shape[1]))


def probabilities(waveform: Tensor) -> Tensor:
    """What a card calls an embedding, and is a softmax."""
    return plain(waveform).softmax(1)


def make_toy() -> Toy:
    """A factory."""
    return Toy()


def published_state(mae: MAE) -> dict[str, Tensor]:
    """The weights of a masked autoencoder under the published names: 430 entries at base size."""
    return mae.encoder.state_dict() | mae.decoder.state_dict()


NUMBER = 3
