"""How a teacher is sampled: the settings as one object, their filters, inversion of the CDF.

Whatever is drawn from a teacher or scored by it (AR sampling, the conditional score of training,
data that the teacher makes, evaluation, the page) is drawn under one `Sampling` (method §2).
"""

import dataclasses
import math
import numbers
from typing import Any

import torch
from torch import Tensor

from dd2core.errors import DD2Error


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings under which a teacher's probabilities are taken; checked when it is made.

    Raises:
        DD2Error: a setting out of its range.
    """

    cfg: float | None = None  # guidance strength, in the family's own scale; None is off
    temperature: float = 1.0  # divides the logits, > 0
    top_k: int = 0  # keep the k likeliest codes; 0 is all
    top_p: float = 1.0  # keep the likeliest codes up to this probability, in (0, 1]; 1 is all

    def __post_init__(self) -> None:
        if self.cfg is not None and not _is_number(self.cfg):
            raise DD2Error(f"cfg={self.cfg!r} must be a finite number.")
        check_settings(self.temperature, self.top_k, self.top_p)
        for name, kind in (("temperature", float), ("top_k", int), ("top_p", float)):
            object.__setattr__(self, name, kind(getattr(self, name)))
        if self.cfg is not None:
            object.__setattr__(self, "cfg", float(self.cfg))

    @property
    def filters(self) -> bool:
        """Whether it changes the guided probabilities any further."""
        return (self.temperature, self.top_k, self.top_p) != (1.0, 0, 1.0)

    def filter(self, logits: Tensor) -> Tensor:
        """`filter_logits` under these settings, guidance aside: (..., V) → log-probabilities."""
        return filter_logits(logits, self.temperature, self.top_k, self.top_p)

    def override(self, **given: Any) -> "Sampling":
        """These settings with the given ones in their place; one that is None stays as it is."""
        return dataclasses.replace(self, **{k: v for k, v in given.items() if v is not None})

    def unfiltered(self) -> "Sampling":
        """The same guidance without temperature, top-k and top-p."""
        return Sampling(self.cfg)

    def keywords(self) -> dict[str, Any]:
        """As keyword arguments of the samplers of `Teacher` and `Pipeline`."""
        return dataclasses.asdict(self)


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
        if not _is_number(value):
            raise DD2Error(f"{name}={value!r} must be a finite number.")
    if temperature <= 0:
        raise DD2Error(f"temperature={temperature} must be a positive number; 1 is the teacher's.")
    if int(top_k) != top_k or top_k < 0:
        raise DD2Error(f"top_k={top_k} must be a whole number from 0; 0 keeps all codes.")
    if not 0 < top_p <= 1:
        raise DD2Error(f"top_p={top_p} must lie in (0, 1]; 1 keeps all codes.")


def _is_number(value: object) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    return math.isfinite(value)


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


