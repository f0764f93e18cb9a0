"""Sizes of the VAR family's networks, as config.json stores them."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class VARConfig:
    """Sizes of a VAR transformer; the defaults are the official VAR-d16."""

    depth: int = 16  # blocks
    width: int = 1024  # D
    heads: int = 16  # attention heads
    mlp_ratio: float = 4.0  # hidden width of the MLP / D
    num_codes: int = 4096  # V
    code_dim: int = 32  # C
    num_classes: int = 1000  # label num_classes is "unconditional"
    patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # p_k, tokens a side per scale
    shared_aln: bool = False  # one adaLN Linear for all blocks, plus an offset per block
    attn_l2_norm: bool = True  # unit queries and keys, learned scale per head

    @property
    def num_tokens(self) -> int:
        """L."""
        return sum(p * p for p in self.patch_nums)


@dataclasses.dataclass(frozen=True)
class VARTokenizerConfig:
    """Sizes of a `VARTokenizer`; the defaults are the official `vae_ch160v4096z32`."""

    image_size: int = 256  # pixels a side
    in_channels: int = 3  # 1 grey, 3 RGB
    width: int = 160  # channels at full resolution
    mult: tuple[int, ...] = (1, 1, 2, 2, 4)  # channels per level in units of width
    res_blocks: tuple[int, ...] = (2, 2, 2, 2, 2)  # per level of the encoder
    z_channels: int = 32  # channels before the projection to the code
    num_codes: int = 4096  # V
    code_dim: int = 32  # C
    groups: int = 32  # of GroupNorm
    attention: bool = True  # self-attention at the lowest resolution
    patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # p_k, tokens a side per scale
    phi_convs: int = 4  # convolutions φ shared by the scales
    phi_ratio: float = 0.5  # φ(x) = (1 − ratio)·x + ratio·conv(x)
    projection: int = 3  # kernel of the projections to and from the code
    patch: int = 1  # pixels a side that become one position before the first convolution
    decoder_res_blocks: tuple[int, ...] | None = None  # per level, None: one more than the encoder

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ValueError(f"patch={self.patch} is not possible")
        if self.decoder_res_blocks is not None and len(self.decoder_res_blocks) != len(self.mult):
            raise ValueError(f"decoder_res_blocks={self.decoder_res_blocks} is not possible")

    @property
    def num_tokens(self) -> int:
        """L."""
        return sum(p * p for p in self.patch_nums)


def tokenizer_sizes(settings: Any, image_size: int, channels: int) -> VARTokenizerConfig:
    """Sizes from a preset's section `tokenizer`, for square images of `channels` channels."""
    return VARTokenizerConfig(
        image_size=image_size, in_channels=channels, width=settings.width,
        mult=tuple(settings.mult), res_blocks=tuple(settings.res_blocks),
        z_channels=settings.z_channels, num_codes=settings.num_codes, code_dim=settings.code_dim,
        groups=settings.groups, attention=settings.attention, patch=settings.patch,
        decoder_res_blocks=settings.decoder_res_blocks and tuple(settings.decoder_res_blocks),
        patch_nums=tuple(settings.patch_nums), phi_convs=settings.phi_convs,
    )


def transformer_sizes(
    settings: Any, tokenizer: VARTokenizerConfig, num_classes: int
) -> VARConfig:
    """Sizes from a preset's section `teacher`, for the tokens of a tokenizer."""
    return VARConfig(
        depth=settings.depth, width=settings.width, heads=settings.heads,
        mlp_ratio=settings.mlp_ratio, num_codes=tokenizer.num_codes, code_dim=tokenizer.code_dim,
        num_classes=num_classes, patch_nums=tokenizer.patch_nums, shared_aln=settings.shared_aln,
        attn_l2_norm=settings.attn_l2_norm,
    )
