"""Which tokens an erased part of the image touches."""

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.teacher import Teacher

HALF = 0.5  # share of its area from which a token of a coarse scale counts as erased


def erased_tokens(teacher: Teacher, mask: Tensor) -> Tensor:
    """The tokens that are to be sampled again where pixels were erased.

    A token of the finest grid is erased with the first of its pixels; one of a coarser scale, which
    says something of a large part of the image, when at least half of its area is.

    Args:
        teacher (Teacher): its tokens lie in raster order on one square grid, or each of its steps
            is a square grid of its own, from coarse to fine.
        mask (Tensor): bool (B, H, W), True where erased.

    Returns:
        Tensor: bool (B, L).

    Raises:
        DD2Error: the tokens lie on no such grids, or the mask is none.
    """
    if mask.ndim != 3 or not mask.numel():
        raise DD2Error("The mask must be true or false for each pixel, shape (B, H, W).")
    share = mask.float()[:, None]  # (B, 1, H, W)
    grids = _grids(teacher)
    erased = mask.new_zeros(len(mask), teacher.num_tokens).bool()
    for first, side in grids:
        area = _areas(share, side).flatten(1)  # (B, side²)
        enough = area > 0 if side == grids[-1][1] else area >= HALF
        erased[:, first : first + side * side] = enough
    return erased


def _areas(share: Tensor, side: int) -> Tensor:
    """How much of each cell of a grid is erased, (B, 1, side, side)."""
    height, width = share.shape[-2:]
    scale = [math.lcm(n, side) // n for n in (height, width)]  # cells may cut pixels
    fine = share.repeat_interleave(scale[0], -2).repeat_interleave(scale[1], -1)
    return F.avg_pool2d(fine, [n // side for n in fine.shape[-2:]])


def _grids(teacher: Teacher) -> list[tuple[int, int]]:
    """First token and side of each grid."""
    spans, total = teacher.spans, teacher.num_tokens
    pairs = [span for span in spans if isinstance(span, tuple)]
    sizes = [stop - first for first, stop in pairs]
    rising = all(a <= b for a, b in pairwise(sizes))
    square = all(math.isqrt(n) ** 2 == n for n in sizes)
    if len(pairs) == len(spans) and sizes[-1] > 1 and sizes[0] < sizes[-1] and rising and square:
        return [(first, math.isqrt(n)) for (first, _), n in zip(pairs, sizes, strict=True)]
    side = math.isqrt(total)
    if side * side != total:
        raise DD2Error(f"The {total} tokens of this model lie on no square grid: name the tokens "
                       "to be sampled again by themselves.")
    return [(0, side)]
