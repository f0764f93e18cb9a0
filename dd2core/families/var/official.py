"""The official VAR checkpoints (`var_d16.pth` …, `vae_ch160v4096z32.pth`) as our modules.

Sizes come from the shapes of the weights, all but the number of heads and the scales; every key is
used or named in the error. Which official name stands for which of ours is written down once, in
`tokenizer_name` and `transformer_name`; `tests/fixtures/parity` proves that the function is the
same.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.families.checkpoints import Keys, fill
from dd2core.families.var.settings import VARConfig, VARTokenizerConfig
from dd2core.families.var.teacher import VARTeacher
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.families.var.transformer import VARTransformer

PATCH_NUMS = VARConfig.patch_nums  # of all official models at 256 px
PHI = "quantize.quant_resi.qresi_ls"  # the convolutions φ, numbered


def load_var(
    var_state: Mapping, vae_state: Mapping, num_heads: int | None = None,
    patch_nums: Sequence[int] = PATCH_NUMS,
) -> VARTeacher:
    """The teacher of two official checkpoints (method §10).

    Args:
        var_state (Mapping): of the transformer, bare or wrapped (see `unwrap`).
        vae_state (Mapping): of the tokenizer.
        num_heads (int | None): attention heads; None reads them off the learned scales of the
            heads, which models with q/k l2 normalisation (all official ones) have.
        patch_nums (Sequence[int]): p_k, tokens a side per scale.

    Raises:
        DD2Error: a key is missing, left over or of another shape, or the sizes do not agree.
    """
    patch_nums = tuple(int(p) for p in patch_nums)
    tokenizer = load_tokenizer(vae_state, patch_nums)
    keys = Keys(var_state, "the VAR checkpoint")
    sizes = transformer_sizes(keys, num_heads, patch_nums)
    vq = tokenizer.cfg
    if (sizes.num_codes, sizes.code_dim) != (vq.num_codes, vq.code_dim):
        raise DD2Error(
            f"The VAR checkpoint is for {sizes.num_codes} codes of {sizes.code_dim} numbers, the "
            f"tokenizer has {vq.num_codes} of {vq.code_dim}: they do not belong together."
        )
    with torch.device("meta"):
        transformer = VARTransformer(sizes, tokenizer)
    fill(transformer, take_transformer(keys, transformer.state_dict()))
    return VARTeacher(tokenizer, transformer)


def load_tokenizer(state: Mapping, patch_nums: Sequence[int] = PATCH_NUMS) -> VARTokenizer:
    """The tokenizer of an official checkpoint; errors as in `load_var`."""
    keys = Keys(state, "the VAR tokenizer", "vae_local")
    with torch.device("meta"):
        tokenizer = VARTokenizer(tokenizer_sizes(keys, tuple(patch_nums)))
    fill(tokenizer, take_tokenizer(keys, tokenizer.state_dict(), len(tokenizer.cfg.mult)))
    return tokenizer


# Sizes ----------------------------------------------------------------------------------------

def tokenizer_sizes(keys: Keys, patch_nums: tuple[int, ...]) -> VARTokenizerConfig:
    """The tokenizer's sizes; GroupNorm always has 32 groups."""
    width, channels, *_ = keys.shape("encoder.conv_in.weight", 4)
    levels = keys.count("encoder.down.")
    if levels < 1:
        raise DD2Error("the VAR tokenizer has no encoder.down: it is not of this family.")
    tops = [keys.shape(f"encoder.down.{i}.block.0.conv1.weight", 4)[0] for i in range(levels)]
    if any(c % width for c in tops) or width % 32:
        raise DD2Error(f"the VAR tokenizer: levels of {tops} channels are not multiples of the "
                       f"first, {width}, or that is not of 32.")
    num_codes, code_dim = keys.shape("quantize.embedding.weight", 2)
    return VARTokenizerConfig(
        image_size=(0, *patch_nums)[-1] * 2 ** (levels - 1), in_channels=channels, width=width,
        mult=tuple(c // width for c in tops),
        res_blocks=tuple(keys.count(f"encoder.down.{i}.block.") for i in range(levels)),
        z_channels=keys.shape("encoder.conv_out.weight", 4)[0], num_codes=num_codes,
        code_dim=code_dim, groups=32, attention="encoder.mid.attn_1.norm.weight" in keys,
        patch_nums=patch_nums, phi_convs=keys.count(f"{PHI}."),
        projection=keys.shape("quant_conv.weight", 4)[-1],
    )


def transformer_sizes(
    keys: Keys, num_heads: int | None, patch_nums: tuple[int, ...]
) -> VARConfig:
    """The transformer's sizes."""
    depth, (length, width) = keys.count("blocks."), keys.shape("pos_1LC", 3)[1:]
    if depth < 1:
        raise DD2Error("the VAR checkpoint has no blocks: it is not of this family.")
    learned = "blocks.0.attn.scale_mul_1H11"
    l2_norm = learned in keys
    heads = num_heads
    if heads is None and l2_norm:
        heads = keys.shape(learned, 4)[1]
    if heads is None or heads < 1 or width % heads:
        raise DD2Error(f"num_heads={heads} does not divide the width {width} of the VAR "
                       "checkpoint: name the number of heads it was trained with.")
    scales = keys.shape("lvl_embed.weight", 2)[0]
    if scales != len(patch_nums) or length != sum(p * p for p in patch_nums):
        raise DD2Error(
            f"patch_nums={list(patch_nums)} make {sum(p * p for p in patch_nums)} tokens at "
            f"{len(patch_nums)} scales, the VAR checkpoint has {length} at {scales}."
        )
    num_codes, _ = keys.shape("head.weight", 2)
    return VARConfig(
        depth, width, heads, keys.shape("blocks.0.ffn.fc1.weight", 2)[0] / width, num_codes,
        keys.shape("word_embed.weight", 2)[1], keys.shape("class_emb.weight", 2)[0] - 1,
        patch_nums, "shared_ada_lin.1.weight" in keys, l2_norm,
    )


# Names ----------------------------------------------------------------------------------------

def tokenizer_name(ours: str, levels: int) -> str:
    """The official name of one of our tokenizer's tensors, but for attention, φ and codes.

    Their decoder counts its levels from the highest resolution, ours from the lowest.
    """
    part = ours.partition(".")[0]
    down = part == "encoder"
    if part in ("encoder", "decoder"):
        ours = re.sub(r"\.levels\.(\d+)\.", lambda m: f".down.{m[1]}." if down
                      else f".up.{levels - 1 - int(m[1])}.", ours)
        ours = ours.replace(".resample.", ".downsample." if down else ".upsample.")
    for a, b in ((r"\.res\.", ".block."), (r"\.skip\.", ".nin_shortcut."),
                 (r"\.mid\.0\.", ".mid.block_1."), (r"\.mid\.1\.", ".mid.attn_1."),
                 (r"\.mid\.2\.", ".mid.block_2.")):
        ours = re.sub(a, b, ours)
    return ours


TOP = {  # ours → official, beside the blocks
    "output": "head", "backbone.start": "pos_start", "backbone.position": "pos_1LC",
    "backbone.class_embedding": "class_emb", "backbone.level": "lvl_embed",
    "backbone.code_input": "word_embed", "backbone.modulation": "shared_ada_lin.1",
    "backbone.norm": "head_nm.ada_lin.1",
}
IN_BLOCK = {
    "qkv": "attn.mat_qkv", "q_bias": "attn.q_bias", "v_bias": "attn.v_bias", "proj": "attn.proj",
    "log_scale": "attn.scale_mul_1H11", "fc1": "ffn.fc1", "fc2": "ffn.fc2",
    "modulation": "ada_lin.1", "modulation_offset": "ada_gss",
}


def transformer_name(ours: str) -> str:
    """The official name of one of our transformer's tensors."""
    block = re.fullmatch(r"backbone\.blocks\.(\d+)\.(\w+)(\..+)?", ours)
    if block:
        return f"blocks.{block[1]}.{IN_BLOCK[block[2]]}{block[3] or ''}"
    stem, dot, leaf = ours.rpartition(".")
    return TOP[ours] if ours in TOP else f"{TOP[stem]}{dot}{leaf}"


# Taking a state dict apart --------------------------------------------------------------------

def take_tokenizer(keys: Keys, own: dict[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Our tokenizer's tensors out of an official state dict; `own` gives names and shapes."""
    tensors = {}
    for name, like in own.items():
        stem, _, leaf = name.rpartition(".")
        owner, _, kind = stem.rpartition(".")
        if name == "embedding":
            tensors[name] = keys.take("quantize.embedding.weight", like.shape)
        elif stem == "pyramid":
            shape = (like.shape[1] if leaf == "weight" else own["embedding"].shape[1],
                     *like.shape[1:])
            count = like.shape[0] // shape[0]
            tensors[name] = torch.cat([keys.take(f"{PHI}.{i}.{leaf}", shape) for i in range(count)])
        elif kind == "q":  # theirs is one projection to q, k and v
            qkv = keys.take(f"{tokenizer_name(owner + '.', levels)}qkv.{leaf}",
                            (3 * like.shape[0], *like.shape[1:]))
            tensors |= {f"{owner}.{part}.{leaf}": a
                      for part, a in zip("qkv", qkv.chunk(3), strict=True)}
        elif kind not in ("k", "v"):
            tensors[name] = keys.take(tokenizer_name(name, levels), like.shape)
    keys.drop("quantize.ema_vocab_hit_SV")
    keys.finish()
    return tensors


def take_transformer(keys: Keys, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our transformer's tensors out of an official state dict; `own` gives names and shapes."""
    tensors = {}
    for name, like in own.items():
        official, shape = transformer_name(name), tuple(like.shape)
        if official in TOP.values():
            shape = (1, *shape)  # pos_start, pos_1LC: theirs have a batch dimension
        elif name.endswith("log_scale"):
            shape = (1, *shape, 1)  # (1, heads, 1, 1)
        elif name.endswith("modulation_offset"):
            shape = (1, 1, *shape)  # (1, 1, 6, D)
        tensors[name] = keys.take(official, shape).reshape(like.shape)
    keys.drop("lvl_1L", "attn_bias_for_masking",
              *(f"blocks.{i}.attn.zero_k_bias" for i in range(keys.count("blocks."))))
    keys.finish()
    return tensors
