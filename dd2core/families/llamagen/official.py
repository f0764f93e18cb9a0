"""The official LlamaGen checkpoints (`c2i_B_256.pt` …, `vq_ds16_c2i.pt`) as our modules.

Class-conditional models only. Sizes come from the shapes of the weights, all but the number of
heads and the grid; every key is used or named in the error. Which official name stands for which of
ours is written down once, in `tokenizer_name` and `transformer_name`; `tests/fixtures/parity`
proves that the function is the same.
"""

import re
from collections.abc import Mapping
from numbers import Integral

import torch

from dd2core.errors import DD2Error
from dd2core.families.checkpoints import Keys, fill
from dd2core.families.codebook import scaled_codebook
from dd2core.families.llamagen.settings import TransformerConfig, VQConfig
from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.llamagen.tokenizer import VQTokenizer
from dd2core.families.llamagen.transformer import LlamaGenTransformer

SIZES = {  # name of the size → depth, heads, width
    "B": (12, 12, 768), "L": (24, 16, 1024), "XL": (36, 20, 1280), "XXL": (48, 24, 1536),
}
KNOWN_HEADS = {(depth, width): heads for depth, heads, width in SIZES.values()}
GROUPS = 32  # of every GroupNorm


def load_llamagen(
    gpt_state: Mapping, vq_state: Mapping, num_heads: int | None = None, grid: int = 16
) -> LlamaGenTeacher:
    """The teacher of two official checkpoints (method §10).

    Args:
        gpt_state (Mapping): of the transformer, bare or wrapped (see `unwrap`).
        vq_state (Mapping): of the tokenizer.
        num_heads (int | None): attention heads; None knows those of the official B, L, XL, XXL.
        grid (int): tokens a side; 16 at 256 px, 24 at 384 px. Not in the weights.

    Raises:
        DD2Error: a key is missing, left over or of another shape, or the sizes do not agree.
    """
    tokenizer = load_tokenizer(vq_state, grid)
    keys = Keys(gpt_state, "the LlamaGen checkpoint")
    sizes = transformer_sizes(keys, num_heads, tokenizer.cfg)
    with torch.device("meta"):
        transformer = LlamaGenTransformer(sizes, scaled_codebook(tokenizer.codes)[0])
    tensors = {name: keys.take(transformer_name(name), a.shape)
             for name, a in transformer.state_dict().items()}
    keys.finish()
    fill(transformer, tensors)
    return LlamaGenTeacher(tokenizer, transformer)


def load_tokenizer(state: Mapping, grid: int = 16) -> VQTokenizer:
    """The tokenizer of an official checkpoint; errors as in `load_llamagen`."""
    keys = Keys(state, "the LlamaGen tokenizer")
    with torch.device("meta"):
        tokenizer = VQTokenizer(tokenizer_sizes(keys, grid))
    tensors = {name: keys.take(tokenizer_name(name), a.shape)
             for name, a in tokenizer.state_dict().items()}
    keys.drop("quantize.codebook_used")
    keys.finish()
    fill(tokenizer, tensors)
    return tokenizer


# Sizes ----------------------------------------------------------------------------------------

def tokenizer_sizes(keys: Keys, grid: int) -> VQConfig:
    """The tokenizer's sizes."""
    if not isinstance(grid, Integral) or grid < 1:
        raise DD2Error(f"grid={grid!r} must be a whole number of tokens a side, from 1.")
    width, channels, *_ = keys.shape("encoder.conv_in.weight", 4)
    levels = keys.count("encoder.conv_blocks.")
    tops = [keys.shape(f"encoder.conv_blocks.{i}.res.0.conv1.weight", 4)[0]
            for i in range(levels)]
    if not tops:
        raise DD2Error(f"{keys.what} has no encoder.conv_blocks: it is not of this family.")
    if any(c % width for c in tops) or width % GROUPS:
        raise DD2Error(f"{keys.what}: levels of {tops} channels must be multiples of the first "
                       f"convolution's, {width}, and that of {GROUPS}.")
    num_codes, code_dim = keys.shape("quantize.embedding.weight", 2)
    return VQConfig(
        image_size=int(grid) * 2 ** (levels - 1), in_channels=channels, width=width,
        mult=tuple(c // width for c in tops),
        res_blocks=tuple(keys.count(f"encoder.conv_blocks.{i}.res.") for i in range(levels)),
        z_channels=keys.shape("encoder.conv_out.weight", 4)[0], num_codes=num_codes,
        code_dim=code_dim, groups=GROUPS, attention=True,
    )


def transformer_sizes(keys: Keys, num_heads: int | None, vq: VQConfig) -> TransformerConfig:
    """The transformer's sizes; `vq` are its tokenizer's."""
    depth = keys.count("layers.")
    if depth < 1:
        raise DD2Error(f"{keys.what} has no layers: it is not of this family.")
    num_codes, width = keys.shape("tok_embeddings.weight", 2)
    if num_codes != vq.num_codes:
        raise DD2Error(f"{keys.what} is for {num_codes} codes, the tokenizer has {vq.num_codes}: "
                       "they do not belong together.")
    heads = KNOWN_HEADS.get((depth, width)) if num_heads is None else num_heads
    if not isinstance(heads, Integral) or heads < 1 or width % heads or width // heads % 4:
        raise DD2Error(
            f"num_heads={heads} does not cut the width {width} of {keys.what} into heads of a "
            "multiple of 4 numbers: name the number of heads it was trained with."
        )
    return TransformerConfig(
        depth, width, int(heads), hidden=keys.shape("layers.0.feed_forward.w1.weight", 2)[0],
        grid=vq.grid, num_codes=num_codes, code_dim=vq.code_dim,
        num_classes=keys.shape("cls_embedding.embedding_table.weight", 2)[0] - 1,
        token_input="table",
    )


# Names ----------------------------------------------------------------------------------------

def tokenizer_name(ours: str) -> str:
    """The official name of one of our tokenizer's tensors."""
    if ours == "embedding":
        return "quantize.embedding.weight"
    resample = "downsample" if ours.startswith("encoder.") else "upsample"
    for a, b in ((r"\.levels\.", ".conv_blocks."), (r"\.skip\.", ".nin_shortcut."),
                 (r"\.resample\.", f".{resample}.")):
        ours = re.sub(a, b, ours)
    return ours


TOP = {  # ours → official, beside the blocks
    "backbone.class_embedding": "cls_embedding.embedding_table",
    "backbone.token_table": "tok_embeddings", "backbone.norm": "norm", "output": "output",
}
IN_BLOCK = {
    "attention_norm": "attention_norm", "ffn_norm": "ffn_norm", "wqkv": "attention.wqkv",
    "wo": "attention.wo", "w1": "feed_forward.w1", "w2": "feed_forward.w2",
    "w3": "feed_forward.w3",
}


def transformer_name(ours: str) -> str:
    """The official name of one of our transformer's tensors."""
    stem, _, leaf = ours.rpartition(".")
    block = re.fullmatch(r"backbone\.blocks\.(\d+)\.(\w+)", stem)
    return f"layers.{block[1]}.{IN_BLOCK[block[2]]}.{leaf}" if block else f"{TOP[stem]}.{leaf}"
