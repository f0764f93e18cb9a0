"""Sizes of the LlamaGen family's networks, as config.json stores them."""

import dataclasses
from typing import Any

from dd2core.errors import DD2Error


@dataclasses.dataclass(frozen=True)
class VQConfig:
    """Sizes of a `VQTokenizer`; the defaults are the official VQ-16."""

    image_size: int = 256  # pixels a side
    in_channels: int = 3  # 1 grey, 3 RGB
    width: int = 128  # channels at full resolution
    mult: tuple[int, ...] = (1, 1, 2, 2, 4)  # channels per level in units of width
    res_blocks: tuple[int, ...] = (2, 2, 2, 2, 2)  # per level of the encoder
    z_channels: int = 256  # channels before the projection to the code
    num_codes: int = 16384  # V
    code_dim: int = 8  # C
    groups: int = 32  # of GroupNorm
    attention: bool = True  # self-attention at the lowest resolution
    patch: int = 1  # pixels a side that become one position before the first convolution
    decoder_res_blocks: tuple[int, ...] | None = None  # per level, None: one more than the encoder

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ValueError(f"patch={self.patch} is not possible")
        if self.decoder_res_blocks is not None and len(self.decoder_res_blocks) != len(self.mult):
            raise ValueError(f"decoder_res_blocks={self.decoder_res_blocks} is not possible")

    @property
    def grid(self) -> int:
        """Tokens a side."""
        return self.image_size // (self.patch * 2 ** (len(self.mult) - 1))

    @property
    def num_tokens(self) -> int:
        """L."""
        return self.grid**2


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a LlamaGen transformer; the defaults are the official GPT-B."""

    depth: int = 12  # blocks
    width: int = 768  # D
    heads: int = 12  # attention heads
    hidden: int = 2048  # of SwiGLU
    grid: int = 16  # tokens a side
    num_codes: int = 16384  # V
    code_dim: int = 8  # C
    num_classes: int = 1000  # label num_classes is "unconditional"
    token_input: str = "table"  # table: Embedding(V, D); codes: Linear(C, D) on code vectors;
    # mlp: an MLP on code vectors
    input_hidden: int = 0  # mlp: width of its hidden layers
    input_layers: int = 0  # mlp: hidden layers


def tokenizer_sizes(settings: Any, image_size: int, channels: int) -> VQConfig:
    """Sizes from a preset's section `tokenizer`, for square images of `channels` channels."""
    return VQConfig(
        image_size=image_size, in_channels=channels, width=settings.width,
        mult=tuple(settings.mult), res_blocks=tuple(settings.res_blocks),
        z_channels=settings.z_channels, num_codes=settings.num_codes, code_dim=settings.code_dim,
        groups=settings.groups, attention=settings.attention, patch=settings.patch,
        decoder_res_blocks=settings.decoder_res_blocks and tuple(settings.decoder_res_blocks),
    )


def transformer_sizes(settings: Any, tokenizer: VQConfig, num_classes: int) -> TransformerConfig:
    """Sizes from a preset's section `teacher`, for the tokens of a tokenizer."""
    mlp = settings.token_input == "mlp"
    return TransformerConfig(
        depth=settings.depth, width=settings.width, heads=settings.heads, hidden=settings.hidden,
        grid=tokenizer.grid, num_codes=tokenizer.num_codes, code_dim=tokenizer.code_dim,
        num_classes=num_classes, token_input=settings.token_input,
        input_hidden=settings.input_hidden if mlp else 0,
        input_layers=settings.input_layers if mlp else 0,
    )


def with_vector_input(sizes: TransformerConfig, hidden: int, layers: int) -> TransformerConfig:
    """The sizes of a transformer with an MLP on code vectors in place of its table (stage adapt).

    Raises:
        DD2Error: it has no table.
    """
    if getattr(sizes, "token_input", None) != "table":
        raise DD2Error("This teacher has no token table: its input takes vectors already, so leave "
                       "the stage adapt out (adapt.steps=0).")
    return dataclasses.replace(
        sizes, token_input="mlp", input_hidden=hidden, input_layers=layers)
