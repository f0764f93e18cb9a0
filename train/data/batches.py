"""Which images make the batch of a step, or stand for a data set: functions of labels and seed."""

import torch
from torch import Tensor

from dd2core.noise import stream_seed

SURE = 10  # expected images of a class from which its share of a part is judged


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
        source = torch.Generator().manual_seed(stream_seed(seed, "epoch", epoch))
        _permutations[key] = torch.randperm(n, generator=source)
    return _permutations[key]


def spaced(n: int, total: int) -> Tensor:
    """Indices of min(n, total) of `total` images, at even distances, int64; all where n ≥ total."""
    n = min(n, total)
    return torch.arange(n) * total // max(n, 1)


def evenly(labels: Tensor, n: int) -> Tensor:
    """Indices of n images that hold the classes in the shares of the whole data set.

    Class folders and many IDX files are sorted by class, so the first n would be of few classes.
    Where the data are mixed already (Fashion-MNIST), they are the first n.

    Args:
        labels (Tensor): int64 (N,), N ≥ 1, of the data set.
        n (int): how many; beyond N the whole set is repeated, then a part of it as above.

    Returns:
        Tensor: int64 (n,), rising within each repetition; arange(N) for n = N.
    """
    total = len(labels)
    whole, rest = divmod(n, total)
    return torch.cat([*[torch.arange(total)] * whole, _part(labels, rest)])


def _part(labels: Tensor, n: int) -> Tensor:
    """`evenly` for n < N."""
    share = labels.bincount().double() / len(labels)
    found = labels[:n].bincount(minlength=len(share))
    expected, share = n * share[share > 0], share[share > 0]
    off = (found[labels.bincount() > 0] - expected).abs()
    if (expected >= SURE).all() and (off <= 3 * (expected * (1 - share)).sqrt()).all():
        return torch.arange(n)
    return labels.argsort(stable=True)[spaced(n, len(labels))].sort().values


def mixed(labels: Tensor) -> Tensor:
    """An order (N,) of the images in which every beginning has the classes in their shares."""
    count, order = labels.bincount(), labels.argsort(stable=True)
    first = (count.cumsum(0) - count)[labels[order]]
    place = (torch.arange(len(labels)) - first + 0.5).double() / count[labels[order]]
    return order[place.argsort(stable=True)]
