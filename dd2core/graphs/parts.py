"""What the graphs of all families share: attention, norms, the generator's head, the decoder.

Written for exporters and runtimes, not for training: rows may have any leading dimensions (the
guided and the unguided half of a batch are one), modulation is taken by slices (a split has more
outputs than a WebGPU kernel has buffers), what depends on no input is computed once, here.
"""

import abc
import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.schedule import generator_input, precondition
from dd2core.score_model import ConditionalScoreModel, time_features
from dd2core.tools.images import to_uint8


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """RMSNorm over the last dimension, in the operations that onnxruntime knows as one."""
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, scale: float) -> Tensor:
    """Softmax attention: (..., H, n, d) to (..., H, m, d), `hidden` (n, m) bool → (..., n, H·d)."""
    weights = (q @ k.transpose(-1, -2) * scale).masked_fill(hidden, float("-inf")).softmax(-1)
    return (weights @ v).transpose(-3, -2).flatten(-2)


class Trunk(nn.Module, abc.ABC):
    """A transformer without its last Linear, at any positions, given the keys and values so far.

    Attributes:
        shapes (list[tuple[int, int]]): heads and their width of each block.
    """

    shapes: list[tuple[int, int]]

    @abc.abstractmethod
    def seen(self, prefix: Tensor, positions: Tensor) -> Tensor:
        """What stands at `positions` (n,) before the class is known: tokens (B, L) int64 or
        vectors (B, L, C) → (B, n, D)."""

    @abc.abstractmethod
    def run(self, seen: Tensor, labels: Tensor, positions: Tensor, past: list[Tensor]
            ) -> tuple[Tensor, list[Tensor]]:
        """Features (..., B, n, D) for labels (..., B), and the keys and values of all positions
        so far, as `past`: of each block, keys and then values, (..., B, H, positions, d)."""


class GeneratorGraph(nn.Module):
    """latents (B, L, C), labels (B,) → tokens (B, L): generator, nearest codes.

    Args:
        trunk (Trunk): of the generator's backbone.
        model (ConditionalScoreModel): the generator.
        codebook (Tensor): (V, C).
    """

    codes: Tensor
    norms: Tensor

    def __init__(self, trunk: Trunk, model: ConditionalScoreModel, codebook: Tensor):
        super().__init__()
        self.trunk, self.head = trunk, model.head
        self.velocity, self.t = model.prediction == "velocity", model.t_init
        t = torch.full((1, 1, 1), model.t_init)
        self.skip, self.out, self.inner = (float(c) for c in precondition(t))
        with torch.no_grad():
            time = model.head.t_in(time_features(t).to(codebook.device))
        self.register_buffer("time", time)
        self.register_buffer("codes", codebook.T.contiguous())
        self.register_buffer("norms", 0.5 * codebook.square().sum(-1))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        positions = torch.arange(latents.shape[1], device=latents.device)
        h, _ = self.trunk.run(self.trunk.seen(latents, positions), labels, positions, [])
        x = generator_input(latents, self.t)
        if self.velocity:
            x = x - self.t * self._head(x, h)
        else:
            x = self.skip * x + self.out * self._head(self.inner * x, h)
        return (x @ self.codes - self.norms).argmax(-1)

    def _head(self, x: Tensor, h: Tensor) -> Tensor:
        head, width = self.head, self.head.out.in_features
        m = head.modulation(F.silu(self.time + head.h_in(h)))  # (B, L, (3·depth + 2)·width)

        def part(i: int) -> Tensor:
            return m[..., i * width : (i + 1) * width]

        x = head.x_in(x)
        for i, layer in enumerate(head.layers):
            y = F.layer_norm(x, (width,)) * (1 + part(3 * i + 1)) + part(3 * i)
            x = x + part(3 * i + 2) * layer(y)
        last = 3 * head.depth
        return head.out(F.layer_norm(x, (width,)) * (1 + part(last + 1)) + part(last))


class StepGraph(nn.Module, abc.ABC):
    """One step of the teacher: tokens (B, L), of which those before the positions count; labels
    (B,); strength (1,) of guidance; positions (n,); past → logits (B, n, V), then present.

    Past and present have one more dimension in front: 2, conditional and not, or 1 unguided.

    Args:
        trunk (Trunk): of the teacher's backbone.
        output (nn.Linear): the last one.
        unconditional (int): the label that stands for no class.
        guided (bool): whether strength is used.
    """

    def __init__(self, trunk: Trunk, output: nn.Module, unconditional: int, guided: bool):
        super().__init__()
        self.trunk, self.output = trunk, output
        self.unconditional, self.guided = unconditional, guided

    @abc.abstractmethod
    def guide(self, cond: Tensor, uncond: Tensor, strength: Tensor, positions: Tensor) -> Tensor:
        """The family's rule for logits (B, n, V)."""

    def forward(self, tokens: Tensor, labels: Tensor, strength: Tensor, positions: Tensor,
                *past: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        rows = labels[None]
        if self.guided:
            rows = torch.cat([rows, torch.full_like(rows, self.unconditional)])
        seen = self.trunk.seen(tokens, positions)
        h, present = self.trunk.run(seen, rows, positions, list(past))
        logits = self.output(h)  # (2 or 1, B, n, V)
        if self.guided:
            logits = self.guide(logits[0], logits[1], strength, positions)
        else:
            logits = logits[0] + 0 * strength  # an input that nothing uses would vanish
        return (logits, *present)


class DecoderGraph(nn.Module):
    """tokens (B, L), upto (1,) → uint8 images (B, H, W, channels); `paint` is the family's."""

    def __init__(self, paint: nn.Module):
        super().__init__()
        self.paint = paint

    def forward(self, tokens: Tensor, upto: Tensor) -> Tensor:
        """Tokens from place `upto` on count as undecided, as in `Teacher.preview`."""
        return to_uint8(cast(Tensor, self.paint(tokens, upto))).permute(0, 2, 3, 1)


def scale_of_heads(width: int) -> float:
    """1/√d."""
    return 1 / math.sqrt(width)
