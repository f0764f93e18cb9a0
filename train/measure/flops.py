"""Floating-point operations, counted by torch's counter with attention on every device."""

import os
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from train.measure.timing import Samplers


def attention_flops() -> dict:
    """How to count the attention kernels of the CPU, which torch's counter does not know."""
    ops = torch.ops.aten
    return {ops._scaled_dot_product_flash_attention_for_cpu: _attention,
            ops._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward}


def _attention(q, k, v, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(grad, q, k, v, *args, out_shape=None, **kwargs) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


def count_flops(samplers: Samplers) -> dict[str, int]:
    """Floating-point operations of one call of each sampler (products and convolutions)."""
    out = {}
    with _countable_attention():
        for name, f in samplers.items():
            with FlopCounterMode(display=False) as counter:
                f()
            out[name] = counter.get_total_flops()
    return out


@contextmanager
def _countable_attention():
    """Attention as plain products, which the counter knows on every device."""
    before = os.environ.get("DD2_ATTENTION")
    os.environ["DD2_ATTENTION"] = "sdpa"
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        if before is None:
            del os.environ["DD2_ATTENTION"]
        else:
            os.environ["DD2_ATTENTION"] = before
