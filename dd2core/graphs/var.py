"""The VAR family as graphs: the pyramid scale by scale, not as one matrix, which weighs more than
all weights together; caches that grow."""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.families.var.block import Block, Weights
from dd2core.families.var.pyramid import Kernel, Pyramid
from dd2core.families.var.teacher import VARTeacher
from dd2core.families.var.transformer import VARBackbone
from dd2core.graphs.parts import StepGraph, Trunk, attend, scale_of_heads


def _norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    width = int(scale.shape[-1])  # a plain number: the trace wants the size of a norm fixed
    return F.layer_norm(x, (width,), eps=1e-6) * scale + shift


class VARTrunk(Trunk):
    """See `Trunk`; a copy of what it needs of a backbone."""

    codes: Tensor
    scale_of: Tensor
    places: Tensor

    def __init__(self, source: VARBackbone, heads: int):
        super().__init__()
        self.source, self.heads, self.head_width = source, heads, source.width // heads
        self.shapes = [(heads, self.head_width)] * len(source.blocks)
        self.kernels = [tuple(a.detach() for a in pair) for pair in source.pyramid.kernels()]
        self.register_buffer("places", source.position_embeddings().detach())
        for name in ("codes", "scale_of"):
            self.register_buffer(name, getattr(source, name))
        self.own: list[Weights] = [block.weights() for block in
                                   cast(Iterable[Block], source.blocks)]

    def seen(self, prefix: Tensor, positions: Tensor) -> Tensor:
        """See `Trunk`: what the pyramid makes of the coarser scales, nothing for the first."""
        start = self.source.spans[0][1]
        inputs = self._pyramid(self.source.vectors(prefix))  # (B, L − p_1², C)
        own = inputs.index_select(1, (positions - start).clamp_min(0))
        return self.source.code_input(own)

    def _pyramid(self, vectors: Tensor) -> Tensor:
        pyramid, out = self.source.pyramid, []
        f = torch.zeros_like(vectors[:, :1])
        for k, (first, last) in enumerate(pyramid.spans[:-1]):
            f = f + Pyramid.contribution(pyramid, vectors[:, first:last], k,
                                         cast(list[Kernel], self.kernels))
            out.append(pyramid.down(f, k + 1))
        return torch.cat(out, 1) if out else vectors[:, :0]

    def _modulation(self, block: Block, condition: Tensor) -> list[Tensor]:
        """The six of a block, each (..., B, 1, D), in the order of `Modulation`, scales without
        their 1."""
        d = self.source.width
        m = condition if block.modulation is None else block.modulation(condition)
        parts = [m[..., None, i * d : (i + 1) * d] for i in range(6)]
        if block.modulation_offset is not None:
            parts = [a + block.modulation_offset[i] for i, a in enumerate(parts)]
        return parts

    def run(self, seen: Tensor, labels: Tensor, positions: Tensor, past: list[Tensor]
            ) -> tuple[Tensor, list[Tensor]]:
        """See `Trunk`."""
        model, start, d = self.source, self.source.spans[0][1], self.source.width
        embedded = model.class_embedding(labels)  # (..., B, D)
        first = embedded[..., None, :] + model.start[positions.clamp_max(start - 1)]
        x = torch.where((positions < start)[:, None], first, seen) + self.places[positions]
        before = past[0].shape[-2] if past else 0
        keys = torch.arange(before + positions.shape[0], device=positions.device)
        hidden = self.scale_of[positions][:, None] < self.scale_of[keys][None]
        c, present = F.silu(embedded), []
        condition = c if model.modulation is None else model.modulation(c)
        for i, block in enumerate(cast(Iterable[Block], model.blocks)):
            gate_a, gate_m, scale_a, scale_m, shift_a, shift_m = self._modulation(block, condition)
            qkv = F.linear(_norm(x, 1 + scale_a, shift_a), self.own[i].qkv, self.own[i].qkv_bias)
            q, k, v, scale = self._heads(qkv, self.own[i].qk_scale)
            if past:
                k, v = torch.cat([past[2 * i], k], -2), torch.cat([past[2 * i + 1], v], -2)
            present += [k, v]
            x = x + block.proj(attend(q, k, v, hidden, scale)) * gate_a
            h = block.fc2(F.gelu(block.fc1(_norm(x, 1 + scale_m, shift_m)), approximate="tanh"))
            x = x + h * gate_m
        last = model.norm(c)[..., None, :]
        return _norm(x, 1 + last[..., :d], last[..., d:]), present

    def _heads(self, qkv: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor, Tensor, float]:
        """q, k and v (..., H, n, d) of (..., n, 3·D), and the scale of their products."""
        parts = qkv.unflatten(-1, (3, self.heads, self.head_width))  # (..., n, 3, H, d)
        v = parts[..., 2, :, :].transpose(-3, -2)
        scale = 0.25 * scale_of_heads(self.head_width)
        qk = parts[..., :2, :, :]
        if factors is not None:
            norm = torch.linalg.vector_norm(qk, dim=-1, keepdim=True)
            qk, scale = qk * (factors / norm.clamp_min(1e-12)), 1.0
        q, k = (qk[..., i, :, :].transpose(-3, -2) for i in (0, 1))
        return q, k, v, scale


class VARStep(StepGraph):
    """See `StepGraph`."""

    ratio: Tensor

    def __init__(self, trunk: VARTrunk, output: nn.Module, unconditional: int, guided: bool,
                 ratio: Tensor):
        super().__init__(trunk, output, unconditional, guided)
        self.register_buffer("ratio", ratio)  # k/(K − 1) of each token, (L, 1)

    def guide(self, cond: Tensor, uncond: Tensor, strength: Tensor, positions: Tensor) -> Tensor:
        """As `VARTeacher.guide`."""
        return cond + (cond - uncond) * (strength * self.ratio[positions])


class VARPaint(nn.Module):
    """Tokens → images (B, channels, H, W); scales that are not decided as a whole add nothing."""

    codes: Tensor

    def __init__(self, teacher: VARTeacher):
        super().__init__()
        self.tokenizer = teacher.tokenizer
        self.register_buffer("codes", teacher.tokenizer.codes.detach())
        pyramid = teacher.tokenizer.pyramid
        self.kernels = [tuple(a.detach() for a in pair) for pair in pyramid.kernels()]

    def forward(self, tokens: Tensor, upto: Tensor) -> Tensor:
        """(B, L), (1,) → (B, channels, H, W)."""
        pyramid, vectors = self.tokenizer.pyramid, self.codes[tokens]
        f = torch.zeros_like(vectors[:, :1])
        for k, (first, last) in enumerate(pyramid.spans):
            own = Pyramid.contribution(pyramid, vectors[:, first:last], k,
                                       cast(list[Kernel], self.kernels))
            f = f + own * (upto >= last).to(own.dtype)
        # Not `decode_map`: the len() in it would freeze the batch of a trace.
        f = f.reshape(-1, pyramid.side, pyramid.side, pyramid.width).permute(0, 3, 1, 2)
        return self.tokenizer.decoder(self.tokenizer.post_quant_conv(f))
