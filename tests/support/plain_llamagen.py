"""LlamaGen written down once more, straight from the rules in words and on official names.

A yardstick for checkpoints of any size: no module of ours, no cache, no fused kernel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.parity import seeded_state

# State dicts ----------------------------------------------------------------------------------

def gpt_keys(depth, width, v, classes, hidden):
    """Names and shapes of a class-conditional transformer."""
    keys = {"cls_embedding.embedding_table.weight": [classes + 1, width],
            "tok_embeddings.weight": [v, width], "norm.weight": [width],
            "output.weight": [v, width]}
    for i in range(depth):
        at = f"layers.{i}."
        keys |= {f"{at}attention.wqkv.weight": [3 * width, width],
                 f"{at}attention.wo.weight": [width, width],
                 f"{at}feed_forward.w1.weight": [hidden, width],
                 f"{at}feed_forward.w3.weight": [hidden, width],
                 f"{at}feed_forward.w2.weight": [width, hidden],
                 f"{at}attention_norm.weight": [width], f"{at}ffn_norm.weight": [width]}
    return keys


def _conv(name, c_in, c_out, k):
    return {f"{name}.weight": [c_out, c_in, k, k], f"{name}.bias": [c_out]}


def _norm(name, c):
    return {f"{name}.weight": [c], f"{name}.bias": [c]}


def _res(name, c_in, c_out):
    skip = _conv(f"{name}.nin_shortcut", c_in, c_out, 1) if c_in != c_out else {}
    return (_norm(f"{name}.norm1", c_in) | _conv(f"{name}.conv1", c_in, c_out, 3)
            | _norm(f"{name}.norm2", c_out) | _conv(f"{name}.conv2", c_out, c_out, 3) | skip)


def _attn(name, c):
    keys = _norm(f"{name}.norm", c)
    for part in ("q", "k", "v", "proj_out"):
        keys |= _conv(f"{name}.{part}", c, c, 1)
    return keys


def vq_keys(ch, mult, blocks, z, v, c, channels=3):
    """Names and shapes of a tokenizer with `blocks` residual blocks a level."""
    last, keys = len(mult) - 1, _conv("encoder.conv_in", channels, ch, 3)
    at = ch
    for i, m in enumerate(mult):
        for j in range(blocks):
            keys |= _res(f"encoder.conv_blocks.{i}.res.{j}", at, ch * m)
            at = ch * m
            keys |= _attn(f"encoder.conv_blocks.{i}.attn.{j}", at) if i == last else {}
        keys |= _conv(f"encoder.conv_blocks.{i}.downsample.conv", at, at, 3) if i < last else {}
    for side in ("encoder", "decoder"):
        for j in (0, 2):
            keys |= _res(f"{side}.mid.{j}", at, at)
        keys |= _attn(f"{side}.mid.1", at)
    keys |= _norm("encoder.norm_out", at) | _conv("encoder.conv_out", at, z, 3)
    keys |= _conv("decoder.conv_in", z, at, 3)
    for i, m in enumerate(reversed(mult)):
        for j in range(blocks + 1):
            keys |= _res(f"decoder.conv_blocks.{i}.res.{j}", at, ch * m)
            at = ch * m
            keys |= _attn(f"decoder.conv_blocks.{i}.attn.{j}", at) if i == 0 else {}
        keys |= _conv(f"decoder.conv_blocks.{i}.upsample.conv", at, at, 3) if i < last else {}
    keys |= _norm("decoder.norm_out", at) | _conv("decoder.conv_out", at, channels, 3)
    keys |= _conv("quant_conv", z, c, 1) | _conv("post_quant_conv", c, z, 1)
    return keys | {"quantize.codebook_used": [65536], "quantize.embedding.weight": [v, c]}


def states(depth=2, width=48, v=40, classes=3, hidden=80, ch=32, mult=(1, 2), blocks=1, z=16,
           c=4, channels=3):
    """Seeded state dicts of a transformer and its tokenizer."""
    return (seeded_state(gpt_keys(depth, width, v, classes, hidden)),
            seeded_state(vq_keys(ch, mult, blocks, z, v, c, channels)))


# Transformer ----------------------------------------------------------------------------------

def _rms(x, gain):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain


def _turn(x, grid):
    """Rotary positions of (B, n, heads, d), pair by pair; position 0 is the class token."""
    out, d = torch.zeros_like(x), x.shape[-1]
    for p in range(1, x.shape[1]):
        place = divmod(p - 1, grid)  # row, column
        for j in range(0, d, 2):
            half, k = divmod(j, d // 2)  # the first half of a head turns by the row
            angle = place[half] / 10_000 ** (k / (d // 2))
            a, b = x[:, p, :, j], x[:, p, :, j + 1]
            out[:, p, :, j] = a * math.cos(angle) - b * math.sin(angle)
            out[:, p, :, j + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out


def logits(s: dict[str, Tensor], tokens: Tensor, labels: Tensor, heads: int, grid: int) -> Tensor:
    """Logits (B, n + 1, V) of the tokens after a prefix (B, n)."""
    x = torch.cat([s["cls_embedding.embedding_table.weight"][labels][:, None],
                   s["tok_embeddings.weight"][tokens]], 1)  # (B, n + 1, D)
    b, n, d = x.shape
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    for i in range(sum(k.endswith("ffn_norm.weight") for k in s)):
        w = {k.removeprefix(f"layers.{i}."): a for k, a in s.items()
             if k.startswith(f"layers.{i}.")}
        h = _rms(x, w["attention_norm.weight"]) @ w["attention.wqkv.weight"].T
        q, k, v = (a.view(b, n, heads, -1) for a in h.split(d, -1))
        q, k = _turn(q, grid), _turn(k, grid)
        score = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(d // heads)
        p = score.masked_fill(~mask, float("-inf")).softmax(-1)
        h = torch.einsum("bhqk,bkhd->bqhd", p, v).reshape(b, n, d)
        x = x + h @ w["attention.wo.weight"].T
        h = _rms(x, w["ffn_norm.weight"])
        gate = h @ w["feed_forward.w1.weight"].T
        h = gate * gate.sigmoid() * (h @ w["feed_forward.w3.weight"].T)
        x = x + h @ w["feed_forward.w2.weight"].T
    return _rms(x, s["norm.weight"]) @ s["output.weight"].T


def greedy(s, labels, cfg, heads, grid) -> Tensor:
    """The most likely next token, guided, over and over: (B, L)."""
    none = torch.full_like(labels, len(s["cls_embedding.embedding_table.weight"]) - 1)
    tokens = torch.zeros(len(labels), 0, dtype=torch.int64)
    for _ in range(grid * grid):
        c, u = (logits(s, tokens, y, heads, grid)[:, -1] for y in (labels, none))
        tokens = torch.cat([tokens, (u + cfg * (c - u)).argmax(-1)[:, None]], 1)
    return tokens


# Tokenizer ------------------------------------------------------------------------------------

def _apply_conv(s, name, x, **options):
    return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], **options)


def _apply_norm(s, name, x):
    return F.group_norm(x, 32, s[f"{name}.weight"], s[f"{name}.bias"], 1e-6)


def _apply_res(s, name, x):
    h = _apply_conv(s, f"{name}.conv1", F.silu(_apply_norm(s, f"{name}.norm1", x)), padding=1)
    h = _apply_conv(s, f"{name}.conv2", F.silu(_apply_norm(s, f"{name}.norm2", h)), padding=1)
    return h + (_apply_conv(s, f"{name}.nin_shortcut", x)
                if f"{name}.nin_shortcut.weight" in s else x)


def _apply_attn(s, name, x):
    if f"{name}.norm.weight" not in s:
        return x
    h = _apply_norm(s, f"{name}.norm", x)
    q, k, v = (_apply_conv(s, f"{name}.{part}", h).flatten(2) for part in "qkv")  # (B, c, HW)
    p = (torch.einsum("bcq,bck->bqk", q, k) * x.shape[1] ** -0.5).softmax(-1)
    return x + _apply_conv(s, f"{name}.proj_out",
                           torch.einsum("bqk,bck->bcq", p, v).reshape(x.shape))


def _levels(s, side, x, resample):
    i = 0
    while f"{side}.conv_blocks.{i}.res.0.conv1.weight" in s:
        at, j = f"{side}.conv_blocks.{i}", 0
        while f"{at}.res.{j}.conv1.weight" in s:
            x = _apply_attn(s, f"{at}.attn.{j}", _apply_res(s, f"{at}.res.{j}", x))
            j += 1
        x = resample(at, x)
        i += 1
    return x


def _middle(s, side, x):
    x = _apply_attn(s, f"{side}.mid.1", _apply_res(s, f"{side}.mid.0", x))
    return _apply_res(s, f"{side}.mid.2", x)


def _out(s, side, x):
    return _apply_conv(s, f"{side}.conv_out", F.silu(_apply_norm(s, f"{side}.norm_out", x)),
                       padding=1)


def codebook(s) -> Tensor:
    """Codes (V, C) of unit length."""
    return F.normalize(s["quantize.embedding.weight"], dim=-1)


def encode(s, images: Tensor) -> Tensor:
    """Images (B, channels, H, W) → tokens (B, L)."""
    def halve(at, x):
        name = f"{at}.downsample.conv"
        return _apply_conv(s, name, F.pad(x, (0, 1, 0, 1)), stride=2) if f"{name}.bias" in s else x

    x = _apply_conv(s, "encoder.conv_in", images, padding=1)
    x = _out(s, "encoder", _middle(s, "encoder", _levels(s, "encoder", x, halve)))
    z = F.normalize(_apply_conv(s, "quant_conv", x), dim=1).flatten(2).mT  # (B, L, C)
    return torch.cdist(z, codebook(s)).argmin(-1)


def decode(s, tokens: Tensor, grid: int) -> Tensor:
    """Tokens (B, L) → images (B, channels, H, W), not clamped."""
    def double(at, x):
        name = f"{at}.upsample.conv"
        if f"{name}.bias" not in s:
            return x
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return _apply_conv(s, name, x, padding=1)

    z = codebook(s)[tokens].mT.reshape(len(tokens), -1, grid, grid)
    x = _apply_conv(s, "decoder.conv_in", _apply_conv(s, "post_quant_conv", z), padding=1)
    return _out(s, "decoder", _levels(s, "decoder", _middle(s, "decoder", x), double))
