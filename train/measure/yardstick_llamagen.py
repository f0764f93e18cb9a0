"""A plain KV-cache sampler of a LlamaGen transformer: the yardstick of the teacher's speed.

Written as one writes such a sampler first: separate q, k, v projections, keys and values allocated
once per block, SDPA over what they hold, guidance as one batch of 2B rows, top-k and top-p off. It
shares no code with `dd2core`: it takes the teacher's weights and must give the teacher's tokens.
`train.benchmark` times it beside the teacher, so that no ratio comes from a slow teacher.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from train.measure.timing import sum_type


class PlainBlock:
    """Weights and cache of one block."""

    def __init__(self, block, heads: int):
        self.heads = heads
        self.wq, self.wk, self.wv = (w.contiguous() for w in block.wqkv.weight.chunk(3))
        self.wo, self.w1 = block.wo.weight, block.w1.weight
        self.w2, self.w3 = block.w2.weight, block.w3.weight
        self.attention_norm, self.ffn_norm = block.attention_norm.weight, block.ffn_norm.weight

    def allocate(self, rows: int, length: int) -> None:
        """Room for keys and values of `length` positions, (rows, heads, length, d)."""
        shape = (rows, self.heads, length, self.wq.shape[0] // self.heads)
        self.keys, self.values = self.wq.new_zeros(shape), self.wq.new_zeros(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, position: int) -> Tensor:
        """x (rows, D) of one position → (rows, D)."""
        rows, width = x.shape
        h = F.rms_norm(x, (width,), self.attention_norm, 1e-5)
        q, k, v = (F.linear(h, w).view(rows, self.heads, -1) for w in (self.wq, self.wk, self.wv))
        self.keys[:, :, position] = turn(k, cos, sin)
        self.values[:, :, position] = v
        h = F.scaled_dot_product_attention(
            turn(q, cos, sin)[:, :, None], self.keys[:, :, : position + 1],
            self.values[:, :, : position + 1],
        )  # (rows, heads, 1, d)
        x = x + F.linear(h.reshape(rows, width), self.wo)
        h = F.rms_norm(x, (width,), self.ffn_norm, 1e-5)
        return x + F.linear(F.silu(F.linear(h, self.w1)) * F.linear(h, self.w3), self.w2)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (x_0, x_1), … of (..., d) by angles (d/2)."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def angles(grid: int, d: int) -> Tensor:
    """2-D rotary angles of the grid² tokens, (L, d/2): rows first, then columns."""
    frequency = 10_000.0 ** -(torch.arange(0, d // 2, 2) / (d // 2))
    place = torch.arange(grid**2)
    return torch.cat([(place // grid)[:, None] * frequency,
                      (place % grid)[:, None] * frequency], 1)


class Yardstick:
    """The sampler.

    Args:
        teacher (LlamaGenTeacher): gives weights and sizes.
    """

    def __init__(self, teacher):
        model = teacher.transformer.backbone
        cfg = model.cfg
        self.length, self.num_classes = cfg.grid**2, cfg.num_classes
        self.blocks = [PlainBlock(block, cfg.heads) for block in model.blocks]
        self.classes, self.norm = model.class_embedding.weight, model.norm.weight
        self.output = teacher.transformer.output.weight
        angle = angles(cfg.grid, cfg.width // cfg.heads).to(self.norm.device)
        # The class token in front is turned by "cos = sin = 0": its query and key vanish.
        self.cos = F.pad(angle.cos(), (0, 0, 1, 0))
        self.sin = F.pad(angle.sin(), (0, 0, 1, 0))
        if model.token_table is None:
            self.tokens = model.code_input(teacher.codebook).detach()  # (V, D)
        else:
            self.tokens = model.token_table.weight

    @torch.inference_mode()
    def sample(self, labels: Tensor, scale: float, noise: Tensor) -> Tensor:
        """Labels (B,), guidance scale and uniform numbers (B, L) → tokens (B, L)."""
        b, wide = labels.shape[0], sum_type(labels.device)
        for block in self.blocks:
            block.allocate(2 * b, self.length)
        both = torch.cat([labels, torch.full_like(labels, self.num_classes)])
        x, out = self.classes[both], []  # (2B, D)
        for i in range(self.length):
            for block in self.blocks:
                x = block.forward(x, self.cos[i], self.sin[i], i)
            logits = F.linear(F.rms_norm(x, x.shape[-1:], self.norm, 1e-5), self.output)
            cond, uncond = logits.chunk(2)  # (B, V)
            p = (uncond + scale * (cond - uncond)).softmax(-1).to(wide)
            cdf = p.cumsum(-1)
            u = noise[:, i, None].to(wide) * cdf[:, -1:]
            out.append(torch.searchsorted(cdf, u, right=True).clamp_max(p.shape[-1] - 1))
            x = self.tokens[out[-1].repeat(2, 1)[:, 0]]
        return torch.cat(out, 1)
