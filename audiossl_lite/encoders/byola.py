"""BYOL-A's encoder: three small convolution blocks, a frame-wise MLP, max plus mean over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl_lite.common.devices import send
from audiossl_lite.common.padding import valid_frames


class BYOLAEncoder(nn.Module):
    """Log-mel `(B, T, 64)` to an embedding `(B, d)`: the maximum plus the mean of its frame embeddings.

    One frame embedding per 8 input frames (80 ms). `lengths (B,)` counts valid frames; in eval mode a padded item
    gives exactly what it gives alone. Raises ValueError for fewer than 8 frames. Parameters are named as published.

    Where: BYOL-A Sec. 4.1; chapter 04
    """

    def __init__(
        self, dim: int = 512, *, n_mels: int = 64, channels: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__()
        if n_mels % 8:
            raise ValueError(
                f"three poolings halve the bands, so n_mels must divide by 8, got {n_mels}"
            )
        self.embed_dim, self.n_mels = dim, n_mels
        layers: list[nn.Module] = []
        for c_in in (1, channels, channels):
            layers += [
                nn.Conv2d(c_in, channels, 3, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.MaxPool2d(2, 2),
            ]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.Linear(n_mels // 8 * channels, dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim, dim),
            nn.ReLU(),
        )

    def _frames(self, spec: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if spec.dim() != 3 or spec.shape[2] != self.n_mels:
            raise ValueError(
                f"the encoder takes (batch, frames, {self.n_mels}) spectrograms, got {tuple(spec.shape)}"
            )
        lengths = None if lengths is None else torch.as_tensor(lengths)
        shortest = spec.shape[1] if lengths is None else int(lengths.min())
        if min(shortest, spec.shape[1]) < 8:
            raise ValueError(
                f"an item has {shortest} valid frames; the encoder needs at least 8 (80 ms)"
            )
        x = spec.transpose(1, 2)[:, None]  # (B, 1, F, T)
        valid = None  # every frame is
        if lengths is not None and shortest < spec.shape[1]:
            valid = send(lengths, x.device).clamp(max=spec.shape[1])
        for layer in self.features:
            if valid is not None and isinstance(layer, nn.Conv2d):
                # Zeros beyond the end, as if the item stood alone.
                x = x * valid_frames(valid, x.shape[3])[:, None, None].float()
            # Twice as fast, but a CPU's batch norm sums its statistics with two digits fewer then: not in training.
            swap = isinstance(layer, nn.Conv2d) and not (self.training and x.device.type == "cpu")
            x = _channels_last(layer, x) if swap else layer(x)
            if valid is not None and isinstance(layer, nn.MaxPool2d):
                valid = valid // 2
        x = x.permute(0, 3, 2, 1).flatten(2)  # (B, C, F/8, T/8) -> (B, T/8, F/8 * C)
        return self.fc(x), valid

    def tokens(self, spec: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Frame embeddings `(B, T, F) -> (B, T // 8, d)`."""
        return self._frames(spec, lengths)[0]

    def forward(self, spec: Tensor, lengths: Tensor | None = None) -> Tensor:
        frames, valid = self._frames(spec, lengths)
        if valid is None:
            return frames.amax(1) + frames.mean(1)
        mask = valid_frames(valid, frames.shape[1])[..., None].float()  # (B, T/8, 1)
        frames = frames * mask  # outputs are not negative, so zeros leave the maximum alone
        return frames.amax(1) + frames.sum(1) / valid[:, None]


def _channels_last(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv(x)` with the channels of a cell side by side in memory, as fast convolutions want them."""
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    if weight.shape[1] == 1:  # both layouts at once: say which
        weight = weight.as_strided(weight.shape, (weight[0].numel(), 1, weight.shape[3], 1))
    return nn.functional.conv2d(x, weight, conv.bias, padding=conv.padding)


def byola_cnn(dim: int = 512, **options) -> BYOLAEncoder:
    """BYOL-A's CNN: 600,192 parameters at 512, 1,649,792 at 1024, 5,321,856 at 2048.

    Where: BYOL-A Sec. 4.1; chapter 04
    """
    return BYOLAEncoder(dim, **options)


def byola_small(**options) -> BYOLAEncoder:
    """Half the channels, 512 wide, 413,248 parameters: what the project ships trained."""
    return BYOLAEncoder(512, channels=32, **options)


def byola_tiny(**options) -> BYOLAEncoder:
    """A quarter of the channels and 128 wide: trains on a laptop within seconds."""
    return BYOLAEncoder(128, channels=16, **options)
