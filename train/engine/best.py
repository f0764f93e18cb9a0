"""The best weight average so far, by a number that is measured now and then."""

import copy

import torch
from torch import Tensor, nn

NEVER = 1e9  # of what has not been measured yet; a state may hold no infinity


class Best(nn.Module):
    """A copy of a module as it was when its number was lowest; part of a stage's state.

    Args:
        module (nn.Module): what it may become a copy of.
    """

    value: Tensor  # () float32, its number: Apple's GPUs have no float64
    step: Tensor  # () int64, after how many steps it was
    waited: Tensor  # () int64, measurements since then

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.register_buffer("value", torch.tensor(NEVER))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("waited", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def offer(self, value: float, step: int, module: nn.Module) -> None:
        """Become `module`, of the same shapes, if its number is lower than the lowest so far."""
        if torch.tensor(value) >= self.value.cpu():
            self.waited += 1
            return
        self.value.fill_(value), self.step.fill_(step), self.waited.zero_()
        for own, new in zip(self._tensors(self.module), self._tensors(module), strict=True):
            own.copy_(new)

    @staticmethod
    def _tensors(module: nn.Module) -> list[Tensor]:
        return [*module.parameters(), *module.buffers()]
