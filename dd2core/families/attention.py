"""Attention: one function, two kernels. xformers on CUDA, torch's SDPA everywhere else.

`DD2_ATTENTION=auto|sdpa|xformers` overrides the choice. xformers imports on machines where its
kernels cannot run, so the choice is made by running it once per (device, dtype), not by importing.
"""

import functools
import logging
import os

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.errors import DD2Error

log = logging.getLogger(__name__)
SHORT = 128  # tokens, see `_is_slow_backward`


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention, softmax(q kᵀ · scale + mask) v.

    Args:
        q (Tensor): queries, shape (B, Lq, H, d).
        k (Tensor): keys, shape (B, Lk, H, d).
        v (Tensor): values, shape (B, Lk, H, d).
        mask (Tensor | None): additive, −inf where hidden, broadcastable to (B, H, Lq, Lk).
        causal (bool): hide keys after the query; needs Lq == Lk and no mask.
        scale (float | None): None means 1/√d.

    Returns:
        Tensor: shape (B, Lq, H, d), dtype of q.

    Raises:
        DD2Error: `DD2_ATTENTION` is none of auto, sdpa, xformers; or xformers is forced where its
            kernels do not run.
    """
    if choose_kernel(q.device.type, q.dtype) == "xformers":
        return _xformers(q, k, v, mask, causal, scale)
    if _is_slow_backward(q, k, v):
        wide = None if mask is None else mask.float()
        with torch.autocast("cpu", enabled=False):
            return _sdpa(q.float(), k.float(), v.float(), wide, causal, scale).to(q.dtype)
    return _sdpa(q, k, v, mask, causal, scale)


def choose_kernel(device: str, dtype: torch.dtype) -> str:
    """The kernel that `attention` uses for tensors of this device and dtype."""
    return _choose(os.environ.get("DD2_ATTENTION", "auto"), device, dtype)


@functools.cache
def _choose(wanted: str, device: str, dtype: torch.dtype) -> str:
    if wanted not in ("auto", "sdpa", "xformers"):
        raise DD2Error(f"DD2_ATTENTION={wanted} is unknown: set it to auto, sdpa or xformers.")
    if wanted == "sdpa" or (wanted == "auto" and device != "cuda"):
        return "sdpa"
    reason = _why_xformers_fails(device, dtype)
    if reason is None:
        return "xformers"
    if wanted == "xformers":
        raise DD2Error(f"DD2_ATTENTION=xformers, but xformers cannot run here: {reason}")
    log.warning("attention: using torch SDPA, xformers cannot run here: %s", reason)
    return "sdpa"


def _why_xformers_fails(device: str, dtype: torch.dtype) -> str | None:
    try:
        x = torch.zeros(1, 8, 1, 32, device=device, dtype=dtype)
        _xformers(x, x, x, None, True, None)
    except (ImportError, NotImplementedError, ValueError, RuntimeError, OSError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def _is_slow_backward(*qkv: Tensor) -> bool:
    """Whether a gradient is to come that torch takes several times as long for in bfloat16 as in
    float32: that of short sequences on a CPU, which was half of a CSD step of emoji-llamagen. From
    some 256 tokens on they take the same time."""
    q, k, _ = qkv
    return (q.device.type == "cpu" and q.dtype == torch.bfloat16
            and max(q.shape[1], k.shape[1]) <= SHORT
            and torch.is_grad_enabled() and any(a.requires_grad for a in qkv))


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, L, d)
    out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)
    return out.transpose(1, 2)  # (B, Lq, H, d)


def _xformers(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    from xformers.ops import LowerTriangularMask, memory_efficient_attention

    bias = LowerTriangularMask() if causal else None
    if mask is not None:
        bias = _padded(mask.to(q.dtype), q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    return memory_efficient_attention(q, k, v, attn_bias=bias, scale=scale)


def _padded(mask: Tensor, *shape: int) -> Tensor:
    """An additive mask as xformers wants it: a view of `shape` (B, H, Lq, Lk), not a copy per
    sample and head, whose rows are a multiple of 8 numbers apart."""
    own = mask.expand(*mask.shape[:-1], shape[-1])  # (…, Lk)
    padded = F.pad(own, (0, -shape[-1] % 8))  # the kernel reads whole rows: pad, slice the view
    return padded[..., : shape[-1]].expand(shape)
