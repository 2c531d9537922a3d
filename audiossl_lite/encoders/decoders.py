"""Decoders: from visible tokens back to all patches, AudioMAE's with the published parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiossl_lite.encoders.audiomae import PATCH, init_xavier, sincos_positions
from audiossl_lite.encoders.transformer import Block
from audiossl_lite.encoders.windows import WindowBlock


def with_mask_tokens(tokens: Tensor, mask_token: Tensor, restore: Tensor) -> Tensor:
    """Visible tokens `(B, K, D)` at their places, `mask_token (1, 1, D)` at the others: `(B, N, D)` in raster order.

    `restore[b, i]`: where token i stands in the sequence [visible, hidden], as in `Masking`.
    """
    b, n = restore.shape
    hidden = mask_token.to(tokens.dtype).expand(b, n - tokens.shape[1], -1)
    sequence = torch.cat([tokens, hidden], dim=1)  # visible first
    return sequence.gather(1, restore[..., None].expand(-1, -1, tokens.shape[2]))


class Decoder(nn.Module):
    """Visible tokens `(B, 1 + K, D)` and `restore (B, N)` to predicted patches `(B, N, 256)`.

    A learned mask token stands where a patch is hidden; positions are added; blocks; a linear layer to 256 cells.
    `restore[b, i]`: where token i stands in the sequence [visible, hidden], as in `Masking`. CLS is `latent[:, 0]`.

    Where: AudioMAE Sec. 3; chapter 06
    """

    keeps_cls: bool

    def __init__(self, encoder_dim: int, dim: int, n_frames: int, n_mels: int) -> None:
        super().__init__()
        self.dim, self.n_frames, self.n_mels = dim, n_frames, n_mels
        self.decoder_embed = nn.Linear(encoder_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        positions = sincos_positions(n_frames // PATCH, n_mels // PATCH, dim)
        self.decoder_pos_embed = nn.Parameter(positions, requires_grad=False)
        self.decoder_blocks = nn.ModuleList()
        self.decoder_norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_pred = nn.Linear(dim, PATCH * PATCH)

    def init_weights(self) -> None:
        """Xavier-uniform linear layers with zero biases, a mask token of std 0.02."""
        self.apply(init_xavier)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, latent: Tensor, restore: Tensor) -> Tensor:
        x = self.decoder_embed(latent)
        n = restore.shape[1]
        tokens = with_mask_tokens(x[:, 1:], self.mask_token, restore)
        tokens = tokens + self.decoder_pos_embed[:, 1 : 1 + n]
        if self.keeps_cls:
            tokens = torch.cat([x[:, :1] + self.decoder_pos_embed[:, :1], tokens], dim=1)
        for block in self.decoder_blocks:
            tokens = block(tokens)
        return self.decoder_pred(self.decoder_norm(tokens[:, -n:]))


class GlobalDecoder(Decoder):
    """A few plain transformer blocks, every token seeing every other; the light decoder of this project's scales.

    Eight blocks, 512 wide, 16 heads: what the authors' code calls decoder mode 0.

    Where: AudioMAE Sec. 3; chapter 06
    """

    keeps_cls = True

    def __init__(
        self,
        encoder_dim: int,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        *,
        n_frames: int = 1024,
        n_mels: int = 128,
    ) -> None:
        super().__init__(encoder_dim, dim, n_frames, n_mels)
        self.decoder_blocks.extend(Block(dim, heads, qkv_bias=True) for _ in range(depth))
        self.init_weights()


class WindowDecoder(Decoder):
    """The published decoder: attention inside windows of 4 x 4 patches, every second block shifted by two in time.

    Cosine attention with continuous position bias, norms after each branch; CLS is dropped. T/16 and F/16 of the
    clips divide by 4. The paper speaks of a shift in time and frequency; the published code shifts in time only.

    Where: AudioMAE Sec. 3 and official code; chapter 06
    """

    keeps_cls = False

    def __init__(
        self,
        encoder_dim: int,
        dim: int = 512,
        depth: int = 16,
        heads: int = 16,
        *,
        n_frames: int = 1024,
        n_mels: int = 128,
    ) -> None:
        super().__init__(encoder_dim, dim, n_frames, n_mels)
        self.decoder_blocks.extend(
            WindowBlock(dim, heads, columns=n_mels // PATCH, shift_time=2 * (index % 2))
            for index in range(depth)
        )
        self.init_weights()


class ConvDecoder(nn.Module):
    """Convolutions over the grid of patches: tokens `(B, 1 + K, D)` and `restore (B, N)` to predictions `(B, N, D)`.

    Each layer is a convolution in groups, layer norm over the channels and GELU; from the second on its input is
    added. A learned mask token stands where a patch is hidden; CLS is dropped. A hidden patch hears of a visible one
    `depth * (kernel // 2)` patches away at most.

    Where: data2vec 2.0 Sec. 3.2; EAT, official code; chapter 17
    """

    def __init__(
        self,
        encoder_dim: int,
        dim: int = 768,
        depth: int = 6,
        *,
        groups: int = 16,
        kernel: int = 3,
        n_mels: int = 128,
    ) -> None:
        super().__init__()
        self.columns = n_mels // PATCH
        self.mask_token = nn.Parameter(torch.zeros(1, 1, encoder_dim))
        self.layers = nn.ModuleList(
            nn.Conv2d(dim if i else encoder_dim, dim, kernel, padding="same", groups=groups)
            for i in range(depth)
        )
        self.predict = nn.Linear(dim, encoder_dim)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, latent: Tensor, restore: Tensor) -> Tensor:
        x = with_mask_tokens(latent[:, 1:], self.mask_token, restore)
        x = x.unflatten(1, (-1, self.columns))  # (B, times, bands, D)
        for i, layer in enumerate(self.layers):
            out = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            out = F.gelu(F.layer_norm(out, out.shape[-1:]))
            x = out + x if i else out
        return self.predict(x.flatten(1, 2))
