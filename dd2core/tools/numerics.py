"""Numerics that must not be left to a backend's defaults: full precision, and nearest codes."""

import contextlib
from collections.abc import Iterator
from typing import Any

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
        return first_largest(x @ codebook.T - 0.5 * codebook.square().sum(-1))


def first_largest(scores: Tensor, run: int = 32) -> Tensor:
    """`scores.argmax(-1)`, of equal ones the first, faster on a CPU.

    Torch's argmax goes through a row number by number there, its amax sixteen at a time. So: the
    largest of each run of numbers, the run that has the largest of all, the place in that run.

    Args:
        scores (Tensor): (..., V).
        run (int): numbers in a run; rows that are no multiple of it are left to argmax.

    Returns:
        Tensor: int64 indices, shape (...).
    """
    if scores.device.type != "cpu" or scores.shape[-1] % run:
        return scores.argmax(-1)
    runs = scores.unflatten(-1, (-1, run))  # (..., V/run, run)
    best = runs.amax(-1).argmax(-1, keepdim=True)  # (..., 1)
    inside = runs.take_along_dim(best[..., None], -2)[..., 0, :]  # (..., run)
    return best[..., 0] * run + inside.argmax(-1)


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Autocast and TF32 off, of matrix products and of convolutions: near a border between codes
    TF32 moves D by 0.4 (method §2), and it changes 1% of VAR's tokens."""
    before = _switches()
    try:
        _switch_off()
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        _switch_back(*before)


# Torch keeps these settings twice, as `allow_tf32` and `float32_matmul_precision`, and from 2.9 on
# as `fp32_precision`; it refuses to read the former where the two disagree. So both are set, and
# both are put back.
def _new() -> list[Any]:
    b: Any = torch.backends
    if not hasattr(b, "fp32_precision"):
        return []
    return [b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn,
            b.mkldnn.matmul, b.mkldnn.conv, b.mkldnn.rnn]


def _switches() -> tuple[str | None, bool | None, list[str]]:
    matmul = cudnn = None  # where `fp32_precision` alone was set
    with contextlib.suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    with contextlib.suppress(RuntimeError):
        cudnn = torch.backends.cudnn.allow_tf32
    return matmul, cudnn, [backend.fp32_precision for backend in _new()]


def _switch_off() -> None:
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for backend in _new():  # after the others, which leave convolutions as torch's default
        backend.fp32_precision = "ieee"


def _switch_back(matmul: str | None, cudnn: bool | None, new: list[str]) -> None:
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    if cudnn is not None:
        torch.backends.cudnn.allow_tf32 = cudnn
    for backend, precision in zip(_new(), new, strict=True):
        backend.fp32_precision = precision
