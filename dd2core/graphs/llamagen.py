"""The LlamaGen family as graphs: real rotations in place of complex ones, caches that grow."""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.llamagen.transformer import Block, LlamaGenBackbone
from dd2core.graphs.parts import StepGraph, Trunk, attend, rms_norm, scale_of_heads


def _halves(weight: Tensor, heads: int) -> Tensor:
    """The rows of wqkv (3·D, D) so that each head's even numbers of q and k come first: pairs to
    turn are then two slices, and a dot product does not mind the order."""
    rows = weight.view(3, heads, -1, 2, weight.shape[-1]).transpose(2, 3)
    rows = rows.reshape(3, heads, -1, weight.shape[-1])
    v = weight.view(3, heads, -1, weight.shape[-1])[2:]
    return torch.cat([rows[:2], v]).flatten(0, 2).contiguous()


class LlamaGenTrunk(Trunk):
    """See `Trunk`; a copy of what it needs of a backbone."""

    cos: Tensor
    sin: Tensor
    codebook: Tensor

    def __init__(self, source: LlamaGenBackbone, heads: int):
        super().__init__()
        self.class_embedding, self.norm = source.class_embedding, source.norm
        self.token_table, self.code_input = source.token_table, source.code_input
        self.blocks = source.blocks
        self.heads, self.head_width = heads, source.width // heads
        self.shapes = [(heads, self.head_width)] * len(source.blocks)
        for i, block in enumerate(cast(Iterable[Block], source.blocks)):
            self.register_buffer(f"wqkv_{i}", _halves(block.wqkv.weight.detach(), heads))
        for name in ("cos", "sin", "codebook"):
            self.register_buffer(name, getattr(source, name))

    def seen(self, prefix: Tensor, positions: Tensor) -> Tensor:
        """See `Trunk`: the token input of the place before; the class token's is put in later."""
        own = prefix.index_select(1, (positions - 1).clamp_min(0))
        tokens = not prefix.is_floating_point()
        if tokens and self.token_table is not None:
            return self.token_table(own)
        assert self.code_input is not None
        return self.code_input(self.codebook[own] if tokens else own)

    def run(self, seen: Tensor, labels: Tensor, positions: Tensor, past: list[Tensor]
            ) -> tuple[Tensor, list[Tensor]]:
        """See `Trunk`."""
        first = (positions == 0)[:, None]
        x = torch.where(first, self.class_embedding(labels)[..., None, :], seen)
        cos, sin = self.cos[positions][:, None, None], self.sin[positions][:, None, None]
        before = past[0].shape[-2] if past else 0
        keys = torch.arange(before + positions.shape[0], device=positions.device)
        hidden, present = keys[None] > positions[:, None], []
        for i, block in enumerate(cast(Iterable[Block], self.blocks)):
            h = F.linear(rms_norm(x, block.attention_norm.weight), getattr(self, f"wqkv_{i}"))
            qkv = h.unflatten(-1, (3, self.heads, self.head_width))  # (..., n, 3, H, d)
            half = self.head_width // 2
            re, im = qkv[..., :2, :, :half], qkv[..., :2, :, half:]
            qk = torch.cat([re * cos - im * sin, re * sin + im * cos], -1)
            q, k, v = (a.transpose(-3, -2) for a in
                       (qk[..., 0, :, :], qk[..., 1, :, :], qkv[..., 2, :, :]))
            if past:
                k, v = torch.cat([past[2 * i], k], -2), torch.cat([past[2 * i + 1], v], -2)
            present += [k, v]
            x = x + block.wo(attend(q, k, v, hidden, scale_of_heads(self.head_width)))
            h = rms_norm(x, block.ffn_norm.weight)
            x = x + block.w2(F.silu(block.w1(h)) * block.w3(h))
        return rms_norm(x, self.norm.weight), present


class LlamaGenStep(StepGraph):
    """See `StepGraph`."""

    def guide(self, cond: Tensor, uncond: Tensor, strength: Tensor, positions: Tensor) -> Tensor:
        """As `LlamaGenTeacher.guide`."""
        return uncond + strength * (cond - uncond)


class LlamaGenPaint(nn.Module):
    """Tokens → images (B, channels, H, W); undecided ones as the mean code."""

    codes: Tensor
    mean: Tensor

    def __init__(self, teacher: LlamaGenTeacher):
        super().__init__()
        self.tokenizer = teacher.tokenizer
        self.register_buffer("codes", teacher.tokenizer.codes.detach())
        self.register_buffer("mean", self.codes.mean(0))

    def forward(self, tokens: Tensor, upto: Tensor) -> Tensor:
        """(B, L), (1,) → (B, channels, H, W)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        z = torch.where((places < upto)[:, None], self.codes[tokens], self.mean)
        return self.tokenizer.decode_vectors(z)
