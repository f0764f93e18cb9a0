"""A plain KV-cache sampler of a VAR transformer: the yardstick of the teacher's speed.

Written as one writes such a sampler first: maps as (B, C, p, p) through `F.interpolate` and the
convolutions φ, one product for q, k and v, keys and values allocated once per block, what depends
on the class computed once, the pyramid for B rows and guidance as one batch of 2B rows, top-k and
top-p off. It shares no code with `dd2core`: it takes the teacher's weights and must give the
teacher's tokens. `train.benchmark` times it beside the teacher, so that no ratio comes from a slow
teacher.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.measure.timing import sum_type


class PlainBlock:
    """Weights and cache of one block."""

    def __init__(self, block, heads: int):
        self.heads, self.wqkv = heads, block.qkv.weight
        self.qkv_bias = torch.cat([block.q_bias, torch.zeros_like(block.q_bias), block.v_bias])
        self.proj, self.fc1, self.fc2 = block.proj, block.fc1, block.fc2
        self.modulation, self.offset = block.modulation, block.modulation_offset
        self.factor = None if block.log_scale is None else \
            block.log_scale.clamp(max=math.log(100)).exp()[None, :, None]  # (1, heads, 1, 1)

    def allocate(self, condition: Tensor, length: int) -> None:
        """Room for keys and values of `length` positions, and the six numbers of adaLN."""
        rows, width = len(condition), self.wqkv.shape[1]
        shape = (rows, self.heads, length, width // self.heads)
        self.keys, self.values = self.wqkv.new_empty(shape), self.wqkv.new_empty(shape)
        if self.modulation is not None:
            condition = self.modulation(condition)
        six = condition.view(rows, 6, width)
        if self.offset is not None:
            six = six + self.offset
        self.six = six[:, :, None].unbind(1)  # six of (rows, 1, D)

    def forward(self, x: Tensor, position: int) -> Tensor:
        """x (rows, n, D) of one scale, whose first token has this position → (rows, n, D)."""
        rows, n, width = x.shape
        gate1, gate2, scale1, scale2, shift1, shift2 = self.six
        h = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale1) + shift1
        qkv = F.linear(h, self.wqkv, self.qkv_bias).view(rows, n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (rows, heads, n, d)
        scale = 0.25 / math.sqrt(q.shape[-1])
        if self.factor is not None:
            q, k, scale = F.normalize(q, dim=-1) * self.factor, F.normalize(k, dim=-1), 1.0
        end = position + n
        self.keys[:, :, position:end], self.values[:, :, position:end] = k, v
        h = F.scaled_dot_product_attention(q, self.keys[:, :, :end], self.values[:, :, :end],
                                           scale=scale)
        x = x + gate1 * self.proj(h.transpose(1, 2).reshape(rows, n, width))
        h = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale2) + shift2
        return x + gate2 * self.fc2(F.gelu(self.fc1(h), approximate="tanh"))


class VARYardstick:
    """The sampler.

    Args:
        teacher (VARTeacher): gives weights and sizes.
    """

    def __init__(self, teacher):
        model = teacher.transformer.backbone
        cfg, pyramid = model.cfg, teacher.tokenizer.pyramid
        self.sides, self.num_classes, self.width = cfg.patch_nums, cfg.num_classes, cfg.width
        self.length = sum(p * p for p in self.sides)
        self.blocks = [PlainBlock(block, cfg.heads) for block in model.blocks]
        self.classes, self.start = model.class_embedding.weight, model.start
        levels = [model.level.weight[k].expand(p * p, -1) for k, p in enumerate(self.sides)]
        self.place = model.position + torch.cat(levels)  # (L, D)
        self.word, self.norm, self.modulation = model.code_input, model.norm, model.modulation
        self.output, self.codes = teacher.transformer.output, teacher.tokenizer.codes
        self.phi = list(zip(pyramid.weight.chunk(pyramid.convs), pyramid.bias.chunk(pyramid.convs),
                            strict=True))
        end = 1 / (3 * pyramid.convs) if pyramid.convs == 4 else 1 / (2 * pyramid.convs)
        ticks = np.linspace(end, 1 - end, pyramid.convs)
        self.last = max(1, len(self.sides) - 1)
        self.which = [int(np.argmin(np.abs(ticks - k / self.last)))
                      for k in range(len(self.sides))]

    def grow(self, f: Tensor, tokens: Tensor, k: int) -> Tensor:
        """f̂ (B, C, p_K, p_K) with the tokens (B, p_k²) of scale k added."""
        p, side = self.sides[k], self.sides[-1]
        x = self.codes[tokens].mT.reshape(len(tokens), -1, p, p)
        if p != side:
            x = F.interpolate(x, size=(side, side), mode="bicubic")
        weight, bias = self.phi[self.which[k]]
        return f + 0.5 * x + 0.5 * F.conv2d(x, weight, bias, padding=1)

    @torch.inference_mode()
    def sample(self, labels: Tensor, scale: float, noise: Tensor) -> Tensor:
        """Labels (B,), guidance scale and uniform numbers (B, L) → tokens (B, L)."""
        b, side, wide = labels.shape[0], self.sides[-1], sum_type(labels.device)
        both = torch.cat([labels, torch.full_like(labels, self.num_classes)])
        classes = self.classes[both]  # (2B, D)
        c = F.silu(classes)
        condition = c if self.modulation is None else self.modulation(c)
        for block in self.blocks:
            block.allocate(condition, self.length)
        last_scale, last_shift = self.norm(c)[:, None].chunk(2, -1)
        f = self.codes.new_zeros(b, self.codes.shape[1], side, side)
        x, out, position = classes[:, None] + self.start, [], 0
        for k, p in enumerate(self.sides):
            x = x + self.place[position : position + p * p]
            for block in self.blocks:
                x = block.forward(x, position)
            x = F.layer_norm(x, (self.width,), eps=1e-6) * (1 + last_scale) + last_shift
            cond, uncond = self.output(x).chunk(2)  # (B, p², V)
            t = scale * k / self.last
            cdf = ((1 + t) * cond - t * uncond).softmax(-1).to(wide).cumsum(-1)
            u = noise[:, position : position + p * p, None].to(wide) * cdf[..., -1:]
            codes = torch.searchsorted(cdf, u, right=True)[..., 0]
            out.append(codes.clamp_max(len(self.codes) - 1))
            position += p * p
            if k + 1 < len(self.sides):
                f = self.grow(f, out[-1], k)
                seen = F.interpolate(f, size=(self.sides[k + 1],) * 2, mode="area")
                x = self.word(seen.flatten(2).mT).repeat(2, 1, 1)
        return torch.cat(out, 1)
