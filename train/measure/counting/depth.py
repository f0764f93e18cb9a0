"""A deep network's numbers from two shallow ones: blocks are alike, so what is counted is linear.

Operations and weights grow by the same number with every block. So does what is alive at any one
place of a step; the most of all places does not, so each has its own line (`alive.mark_blocks`).
"""

import dataclasses
from collections.abc import Callable

FEW = 3  # blocks: what is not deeper is counted as it is


@dataclasses.dataclass(frozen=True)
class Count:
    """One step of one process.

    Attributes:
        weights: bytes that are there before.
        peaks: most bytes alive, by place.
        work: operations by kind of work.
    """

    weights: int
    peaks: tuple[int, ...]
    work: dict[str, int]

    @property
    def peak(self) -> int:
        """Most bytes alive."""
        return max(self.peaks)


def at_depth(depth: int, count: Callable[[int], Count]) -> Count:
    """`count(depth)`, from `count(2)` and `count(3)`.

    Args:
        depth (int): blocks, 1 or more.
        count (Callable[[int], Count]): counts a step of networks of so many blocks.
    """
    if depth <= FEW:
        return count(depth)
    two, three = count(2), count(3)

    def line(a: int, b: int) -> int:
        return a + (depth - 2) * (b - a)

    return Count(line(two.weights, three.weights),
                 tuple(line(a, b) for a, b in zip(two.peaks, three.peaks, strict=True)),
                 {k: line(two.work[k], three.work[k]) for k in two.work})
