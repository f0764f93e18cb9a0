"""Gradients of one update: added up over passes, clipped, or kept from a network altogether."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def backward_mean(
    network: torch.nn.Module, losses: Iterable[Tensor], count: int = 1,
    before: Callable[[torch.nn.Module, bool], None] | None = None,
) -> Tensor:
    """Add to a network's gradients that of the mean of `count` losses, one after the other.

    Args:
        network (nn.Module): whose gradients they are.
        losses (Iterable[Tensor]): scalars; each is asked for when the one before has gone backward,
            so that one graph is alive at a time.
        count (int): how many there are.
        before (Callable | None): see `CSDTrainer`.

    Returns:
        Tensor: their mean, a scalar without a graph.
    """
    total = torch.zeros(())
    for i, loss in enumerate(losses):
        if before is not None:
            before(network, i == count - 1)
        loss = loss / count if count > 1 else loss
        loss.backward()
        total = loss.detach() + (total if i else 0)
        del loss
    return total


def clip_gradients(module: torch.nn.Module, most: float) -> float:
    """Scale all gradients so that their norm is `most` at most; returns the norm before."""
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), most)
    if hasattr(norm, "full_tensor"):  # a DTensor, of sharded gradients
        norm = norm.full_tensor()
    return norm.item()


class frozen:
    """Context in which a module's parameters record no gradient."""

    def __init__(self, module: torch.nn.Module):
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for p in self.parameters:
            p.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        for p in self.parameters:
            p.requires_grad_(True)
