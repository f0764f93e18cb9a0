"""Numerics that must not be left to a backend's defaults: full precision, and nearest codes."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


def nearest_code(x: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code in Euclidean distance, at full precision (method §2).

    Args:
        x (Tensor): vectors, shape (..., C).
        codebook (Tensor): codes, shape (V, C).

    Returns:
        Tensor: int64 indices, shape (...).
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, codebook = x.to(dtype), codebook.to(dtype)
    with full_precision(x.device):
        return (x @ codebook.T - 0.5 * codebook.square().sum(-1)).argmax(-1)


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Autocast and TF32 off: near a border between codes TF32 moves D by 0.4 (method §2)."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.allow_tf32 = before
