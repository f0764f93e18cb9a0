"""In-painting: tokens of an erased part are sampled again, all others stay as they are."""

from dd2core.inpaint.areas import erased_tokens
from dd2core.inpaint.fill import Filled, inpaint

__all__ = ["Filled", "erased_tokens", "inpaint"]
