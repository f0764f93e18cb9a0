"""Nearest neighbours among many vectors, piece by piece, so that memory stays bounded."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dd2core.errors import DD2Error

AT_ONCE = 2**24  # distances held at a time
SPARE = 8  # candidates beyond those asked for: products of large vectors are not exact


@dataclass(frozen=True)
class Nearest:
    """The k nearest of each query, nearest first.

    Attributes:
        index: int64 (N, k), which of the keys.
        distance: Euclidean, (N, k).
    """

    index: Tensor
    distance: Tensor


@torch.no_grad()
def nearest(queries: Tensor, keys: Tensor, k: int = 1) -> Nearest:
    """The k nearest keys of every query.

    Args:
        queries (Tensor): vectors (N, D).
        keys (Tensor): vectors (M, D), on the same device.
        k (int): 1…M.

    Raises:
        DD2Error: fewer than k keys.
    """
    if not 1 <= k <= len(keys):
        raise DD2Error(f"k={k} nearest of {len(keys)} vectors cannot be found: give more of them, "
                       "or ask for fewer.")
    squares, rows = keys.square().sum(-1), max(1, AT_ONCE // len(keys))
    index, distance = [], []
    for part in queries.split(rows):
        rank = torch.addmm(squares, part, keys.T, alpha=-2)  # ‖q − c‖² less ‖q‖², (n, M)
        near = rank.topk(min(k + SPARE, len(keys)), dim=-1, largest=False).indices
        exact = (part[:, None] - keys[near]).norm(dim=-1)  # (n, k + SPARE)
        best = exact.topk(k, dim=-1, largest=False)
        distance.append(best.values)
        index.append(near.gather(-1, best.indices))
    return Nearest(torch.cat(index), torch.cat(distance))
