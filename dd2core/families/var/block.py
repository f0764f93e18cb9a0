"""The transformer block of the VAR family: attention and MLP, each under adaptive layer norm.

Class-conditioned gates, scales and shifts, optional l2 normalisation of queries and keys with a
learned scale per head (method §7).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.families.attention import attention
from dd2core.families.var.settings import VARConfig


class Modulation(NamedTuple):
    """What adaLN makes of the class for one block, each (B, 1, D); scales have their 1 in."""

    gate_attention: Tensor
    gate_mlp: Tensor
    scale_attention: Tensor
    scale_mlp: Tensor
    shift_attention: Tensor
    shift_mlp: Tensor


class Weights(NamedTuple):
    """The tensors of a block: looking them up in modules costs more than a small product."""

    qkv: Tensor
    qkv_bias: Tensor
    proj: Tensor
    proj_bias: Tensor
    fc1: Tensor
    fc1_bias: Tensor
    fc2: Tensor
    fc2_bias: Tensor
    qk_scale: Tensor | None  # (2, heads, 1), factors of unit q and k; None: q and k as they are


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LayerNorm(x)·scale + shift: (B, n, D), (B, 1, D) twice → (B, n, D)."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), scale)


def run_block(
    w: Weights, heads: int, x: Tensor, m: Modulation, mask: Tensor | None = None,
    cache: Tensor | None = None, start: int = 0, dropout: float = 0.0,
) -> Tensor:
    """x + γ1·attention(adaLN(x)), then x + γ2·MLP(adaLN(x)).

    Args:
        w (Weights): of the block.
        heads (int): attention heads.
        x (Tensor): (B, n, D).
        m (Modulation): of the block.
        mask (Tensor | None): additive, of the n queries, (n, keys).
        cache (Tensor | None): keys and values of all positions, (B, L, 2, heads, d/heads); those
            of x are written in place.
        start (int): position of x's first row.
        dropout (float): part of what attention and MLP add that is dropped.

    Returns:
        Tensor: (B, n, D).
    """
    b, n, d = x.shape
    h = modulate(x, m.scale_attention, m.shift_attention).view(b * n, d)
    qkv = F.linear(h, w.qkv, w.qkv_bias).view(b, n, 3, heads, -1)
    (q, k, v), scale = qkv.unbind(2), 0.25 / math.sqrt(d // heads)
    if w.qk_scale is not None:
        (q, k), scale = _unit(qkv[:, :, :2], w.qk_scale).unbind(2), 1.0
    if cache is not None:
        cache[:, start : start + n, 0], cache[:, start : start + n, 1] = k, v
        k, v = cache[:, : start + n].unbind(2)
    h = attention(q, k, v, None if mask is None else mask.to(q.dtype), scale=scale)
    h = F.linear(h.reshape(b * n, d), w.proj, w.proj_bias)
    h = F.dropout(h, dropout) if dropout else h
    x = torch.addcmul(x, h.view(b, n, d), m.gate_attention)
    h = modulate(x, m.scale_mlp, m.shift_mlp).view(b * n, d)
    h = F.linear(F.gelu(F.linear(h, w.fc1, w.fc1_bias), approximate="tanh"), w.fc2, w.fc2_bias)
    h = F.dropout(h, dropout) if dropout else h
    return torch.addcmul(x, h.view(b, n, d), m.gate_mlp)


def _unit(x: Tensor, scale: Tensor) -> Tensor:
    """x (…, d) to vectors of length `scale` (…, 1), in x's dtype."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=scale.dtype)
    return (x * (scale / norm.clamp_min(1e-12))).to(x.dtype)


class Block(nn.Module):
    """The parameters of `run_block`, and of the block's adaLN."""

    dropout: float = 0.0  # in training mode: see `Backbone.set_dropout`

    def __init__(self, cfg: VARConfig):
        super().__init__()
        d, hidden = cfg.width, round(cfg.width * cfg.mlp_ratio)
        self.heads = cfg.heads
        self.qkv = nn.Linear(d, 3 * d, bias=False)  # the bias of the keys is zero
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.proj = nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, hidden), nn.Linear(hidden, d)
        self.log_scale = nn.Parameter(torch.full((cfg.heads, 1), math.log(4.0))) \
            if cfg.attn_l2_norm else None
        self.modulation = None if cfg.shared_aln else nn.Linear(d, 6 * d)
        self.modulation_offset = nn.Parameter(torch.zeros(6, d)) if cfg.shared_aln else None

    def weights(self) -> Weights:
        """The parameters as `run_block` wants them."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        scale = None
        if self.log_scale is not None:
            log_scale = self.log_scale.clamp_max(math.log(100))
            scale = torch.stack([log_scale, torch.zeros_like(log_scale)]).exp()
        return Weights(self.qkv.weight, bias, self.proj.weight, self.proj.bias, self.fc1.weight,
                       self.fc1.bias, self.fc2.weight, self.fc2.bias, scale)

    def modulate(self, condition: Tensor) -> Modulation:
        """The block's modulation: from SiLU(class) (B, D), or from the shared Linear (B, 6·D)."""
        m = condition if self.modulation is None else self.modulation(condition)
        m = m.view(len(m), 6, 1, -1)
        if self.modulation_offset is not None:
            m = m + self.modulation_offset[:, None]
        gates, scales, shifts = m.chunk(3, 1)  # (B, 2, 1, D): attention's and the MLP's
        return Modulation(*gates.unbind(1), *(1 + scales).unbind(1), *shifts.unbind(1))

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """See `run_block` and `modulate`."""
        dropout = self.dropout if self.training else 0.0
        return run_block(self.weights(), self.heads, x, self.modulate(condition), mask,
                         dropout=dropout)
