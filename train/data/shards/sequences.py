"""Token sequences in many files, as one tensor that is read in place."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


class Sequences:
    """Token sequences (N, L) that stay on disk; what is asked for comes as int64.

    The files are memory-mapped, so all processes of a machine share what has been read.
    """

    def __init__(self, files: list[np.ndarray], first: int = 0, stop: int | None = None):
        """Files of (n, L) each, one after the other; those from `first` to `stop` alone."""
        self.files = files
        self.ends = np.cumsum([len(a) for a in files])
        self.first, self.stop = first, int(self.ends[-1]) if stop is None else stop

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return len(self), self.files[0].shape[1]

    def part(self, first: int, stop: int) -> "Sequences":
        """The sequences from `first` to `stop`; nothing is read."""
        return Sequences(self.files, self.first + first, self.first + stop)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """int64 (n, L) of the indices (n,)."""
        if isinstance(index, slice):
            index = torch.arange(*index.indices(len(self)))
        want = index.numpy()
        if len(want) and (want.min() < 0 or want.max() >= len(self)):
            raise IndexError(f"{want.min()}…{want.max()} of {len(self)} sequences")
        want = want + self.first
        of = np.searchsorted(self.ends, want, side="right")
        out = np.empty((len(want), self.shape[1]), np.int64)
        for i in np.unique(of):
            here = of == i
            out[here] = self.files[i][want[here] - (self.ends[i] - len(self.files[i]))]
        return torch.from_numpy(out)

    def split(self, n: int) -> Iterator[Tensor]:
        """All of them in order, int64, n at a time."""
        for a in range(0, len(self), n):
            yield self[a : min(a + n, len(self))]
