"""Turning logits into tokens: temperature, top-k, top-p, and inversion of the CDF."""

import math
import numbers

import torch
from torch import Tensor

from dd2core.errors import DD2Error


def filter_logits(
    logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Log-probabilities after temperature, top-k and top-p, in this order.

    Args:
        logits (Tensor): shape (..., V).
        temperature (float): divides the logits, > 0.
        top_k (int): keep exactly the k likeliest codes; 0 (or ≥ V) keeps all, 1 is greedy.
        top_p (float): keep the smallest set of likeliest codes whose probability reaches top_p,
            in (0, 1]; 1 keeps all.

    Returns:
        Tensor: normalised log-probabilities, −inf for dropped codes, float32 or wider, (..., V).

    Raises:
        DD2Error: a setting out of its range.
    """
    check_settings(temperature, top_k, top_p)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature != 1.0:
        logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        values, index = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, float("-inf")).scatter(-1, index, values)
    if top_p < 1.0:
        values, index = logits.sort(-1, descending=True)
        p = values.softmax(-1)
        before = p.cumsum(-1) - p  # mass of the likelier codes
        values = values.masked_fill(before >= top_p, float("-inf"))
        logits = torch.full_like(logits, float("-inf")).scatter(-1, index, values)
    return logits.log_softmax(-1)


def check_settings(temperature: float, top_k: int, top_p: float) -> None:
    """Raise DD2Error, in one sentence, for a sampling setting out of its range."""
    for name, value in (("temperature", temperature), ("top_k", top_k), ("top_p", top_p)):
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise DD2Error(f"{name}={value!r} must be a finite number.")
    if not 0 < temperature < float("inf"):
        raise DD2Error(f"temperature={temperature} must be a positive number; 1 is the teacher's.")
    if int(top_k) != top_k or top_k < 0:
        raise DD2Error(f"top_k={top_k} must be a whole number from 0; 0 keeps all codes.")
    if not 0 < top_p <= 1:
        raise DD2Error(f"top_p={top_p} must lie in (0, 1]; 1 keeps all codes.")


def invert_cdf(log_p: Tensor, u: Tensor) -> Tensor:
    """The code whose interval of the cumulative distribution holds u.

    A code of probability zero is never chosen; the result depends on its own row alone.

    Args:
        log_p (Tensor): normalised log-probabilities, shape (..., V).
        u (Tensor): uniform numbers in [0, 1), shape (...).

    Returns:
        Tensor: int64 codes, shape (...).
    """
    wide = log_p.dtype if log_p.device.type == "mps" else torch.float64  # of the sum alone
    cdf = log_p.softmax(-1).cumsum(-1, dtype=wide)  # faster than exp, the same numbers
    target = u.to(cdf.dtype)[..., None] * cdf[..., -1:]
    code = torch.searchsorted(cdf, target, right=True)[..., 0]  # first with cdf > u·total
    return code.clamp_max(log_p.shape[-1] - 1)


