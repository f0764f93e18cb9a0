"""Exponential moving average of a module's weights."""

import copy

import torch
from torch import Tensor, nn


def ema_weight(
    n: int, decay: float, warmup: float = 9.0, first: int = 0, first_decay: float = 0.0
) -> float:
    """Weight of the old average in update n, from 0.

    For the first `first` updates it is `first_decay`; from there on, counted anew,
    min(decay, (n + 1)/(n + 1 + warmup)): the memory grows as n/warmup updates, up to `decay`.
    warmup = 1 is the plain mean.
    """
    if n < first:
        return first_decay
    n -= first
    return min(decay, (n + 1) / (n + 1 + warmup))


class EMA(nn.Module):
    """A frozen float32 copy of `module` that follows it.

    Args:
        module (nn.Module): the module to follow.
        decay (float): weight of the old average in the long run, in [0, 1).
        warmup (float): see `ema_weight`, > 0.
        first (int), first_decay (float): see `ema_weight`; a short memory while G still moves far.
    """

    updates: Tensor  # () int64, how often it has moved

    def __init__(
        self, module: nn.Module, decay: float, warmup: float = 9.0, first: int = 0,
        first_decay: float = 0.0,
    ):
        super().__init__()
        self.decay, self.warmup, self.first, self.first_decay = decay, warmup, first, first_decay
        self.module = copy.deepcopy(module).float().requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards `module`: ema ← w·ema + (1 − w)·module."""
        w = ema_weight(int(self.updates), self.decay, self.warmup, self.first, self.first_decay)
        ours: list[Tensor] = list(self.module.parameters())
        theirs = list(module.parameters())
        torch._foreach_lerp_(ours, [p.detach().to(o.dtype) for o, p in zip(ours, theirs,
                                                                       strict=True)], 1 - w)
        for o, b in zip(self.module.buffers(), module.buffers(), strict=True):
            o.copy_(b)
        self.updates += 1
