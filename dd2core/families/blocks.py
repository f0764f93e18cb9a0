"""Convolutional encoder and decoder, shared by the tokenizers of the families.

Told top to bottom: their sizes, residual blocks, one resolution, encoder, decoder.
"""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn


class ConvSizes(Protocol):
    """The sizes that encoder and decoder read; see a family's tokenizer settings."""

    @property
    def in_channels(self) -> int:
        """Of the images: 1 grey, 3 RGB."""

    @property
    def width(self) -> int:
        """Channels at full resolution."""

    @property
    def mult(self) -> tuple[int, ...]:
        """Channels per level in units of width."""

    @property
    def res_blocks(self) -> tuple[int, ...]:
        """Residual blocks per level of the encoder."""

    @property
    def decoder_res_blocks(self) -> tuple[int, ...] | None:
        """Residual blocks per level of the decoder; None: one more than in the encoder."""

    @property
    def z_channels(self) -> int:
        """Channels between encoder and decoder."""

    @property
    def groups(self) -> int:
        """Of GroupNorm."""

    @property
    def attention(self) -> bool:
        """Self-attention at the lowest resolution."""

    @property
    def patch(self) -> int:
        """Pixels a side that become one position (space to depth) before the first convolution."""


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResBlock(nn.Module):
    """x + conv(act(conv(x))), a 1×1 convolution on the skip when widths differ."""

    def __init__(self, c_in: int, c_out: int, groups: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(c_in, groups), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = _norm(c_out, groups), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) → (B, c_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))  # (B, c_out, H, W)
        h = self.conv2(F.silu(self.norm2(h)))  # (B, c_out, H, W)
        return self.skip(x) + h


class SpatialAttention(nn.Module):
    """Single-head self-attention over the positions of a feature map."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = _norm(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) → the same shape."""
        h = self.norm(x)
        q, k, v = (f(h).flatten(2).mT for f in (self.q, self.k, self.v))  # (B, HW, channels)
        h = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj_out(h.mT.reshape(x.shape))


class Downsample(nn.Module):
    """Halve the resolution: pad (0, 1, 0, 1), then a 3×3 convolution of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, channels, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the resolution: nearest neighbour, then a 3×3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, channels, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution and the change to the next."""

    def __init__(self, widths: list[int], cfg: ConvSizes, attention: bool, resample: nn.Module):
        super().__init__()
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.res = nn.ModuleList(ResBlock(a, b, cfg.groups) for a, b in pairs)
        self.attn = nn.ModuleList(
            SpatialAttention(b, cfg.groups) if attention else nn.Identity() for _, b in pairs
        )
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        """Blocks, then the change of resolution; channels as in `widths`."""
        for res, attn in zip(self.res, self.attn, strict=True):
            x = attn(res(x))
        return self.resample(x)


def _middle(channels: int, cfg: ConvSizes) -> nn.Sequential:
    attn = SpatialAttention(channels, cfg.groups) if cfg.attention else nn.Identity()
    return nn.Sequential(
        ResBlock(channels, channels, cfg.groups), attn, ResBlock(channels, channels, cfg.groups)
    )


class Encoder(nn.Module):
    """Images (B, in_channels, H, W) → features (B, z_channels, grid, grid)."""

    def __init__(self, cfg: ConvSizes):
        super().__init__()
        width, last = cfg.width, len(cfg.mult) - 1
        self.patch = cfg.patch
        self.conv_in = nn.Conv2d(cfg.in_channels * cfg.patch**2, width, 3, padding=1)
        self.levels = nn.ModuleList()
        for i, m in enumerate(cfg.mult):
            widths = [width] + [cfg.width * m] * cfg.res_blocks[i]
            width = widths[-1]
            down = Downsample(width) if i < last else nn.Identity()
            self.levels.append(Level(widths, cfg, cfg.attention and i == last, down))
        self.mid = _middle(width, cfg)
        self.norm_out = _norm(width, cfg.groups)
        self.conv_out = nn.Conv2d(width, cfg.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, z_channels, grid, grid)."""
        # (B, in_channels·patch², H/patch, W/patch): full-resolution convolutions cost the most
        h = self.conv_in(F.pixel_unshuffle(x, self.patch))
        for level in self.levels:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))  # (B, z_channels, grid, grid)


class Decoder(nn.Module):
    """Features (B, z_channels, grid, grid) → images (B, in_channels, H, W), not clamped."""

    def __init__(self, cfg: ConvSizes):
        super().__init__()
        width, last = cfg.width * cfg.mult[-1], len(cfg.mult) - 1
        blocks = cfg.decoder_res_blocks
        if blocks is None:
            blocks = tuple(n + 1 for n in cfg.res_blocks)
        self.conv_in = nn.Conv2d(cfg.z_channels, width, 3, padding=1)
        self.mid = _middle(width, cfg)
        self.levels = nn.ModuleList()
        for i, m in enumerate(reversed(cfg.mult)):
            widths = [width] + [cfg.width * m] * blocks[last - i]
            width = widths[-1]
            up = Upsample(width) if i < last else nn.Identity()
            self.levels.append(Level(widths, cfg, cfg.attention and i == 0, up))
        self.norm_out = _norm(width, cfg.groups)
        self.patch = cfg.patch
        self.conv_out = nn.Conv2d(width, cfg.in_channels * cfg.patch**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, z_channels, grid, grid) → (B, in_channels, H, W)."""
        h = self.mid(self.conv_in(z))
        for level in self.levels:
            h = level(h)
        h = self.conv_out(F.silu(self.norm_out(h)))  # (B, in_channels·patch², H/patch, W/patch)
        return F.pixel_shuffle(h, self.patch)  # (B, in_channels, H, W)


