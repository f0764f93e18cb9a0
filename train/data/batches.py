"""Which images make the batch of a step: a function of (seed, step)."""

import torch
from torch import Tensor


def batch_indices(n: int, batch: int, step: int, seed: int) -> Tensor:
    """Indices of the batch of a step: a new permutation each epoch, a function of (seed, step).

    Args:
        n (int): size of the data set.
        batch (int): images per step, may exceed n.
        step (int): from 0.
        seed (int): of the permutations.

    Returns:
        Tensor: int64, shape (batch,).
    """
    want = torch.arange(step * batch, (step + 1) * batch)
    out = torch.empty(batch, dtype=torch.int64)
    for epoch in range(step * batch // n, ((step + 1) * batch - 1) // n + 1):
        inside = want // n == epoch
        out[inside] = _permutation(n, seed, epoch)[want[inside] % n]
    return out


_permutations: dict[tuple[int, int, int], Tensor] = {}


def _permutation(n: int, seed: int, epoch: int) -> Tensor:
    key = (n, seed, epoch)
    if key not in _permutations:
        if len(_permutations) > 4:
            _permutations.clear()
        source = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        _permutations[key] = torch.randperm(n, generator=source)
    return _permutations[key]
