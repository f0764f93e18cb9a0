"""Attention: both kernels against the written-out softmax, and the choice between them."""

import logging

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.families import attention as module
from dd2core.families.attention import attention, choose_kernel


@pytest.fixture(autouse=True)
def fresh_choice(monkeypatch):
    """No override from outside, and no kernel remembered from another test."""
    monkeypatch.delenv("DD2_ATTENTION", raising=False)
    module._choose.cache_clear()
    yield
    module._choose.cache_clear()


def written_out(q, k, v, mask=None, causal=False, scale=None):
    """softmax(q kᵀ · scale + mask) v, head by head, in float64."""
    q, k, v = (a.double().transpose(1, 2) for a in (q, k, v))
    logits = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        logits = logits + mask.double()
    if causal:
        after = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        logits = logits.masked_fill(after, float("-inf"))
    return (logits.softmax(-1) @ v).transpose(1, 2)


def inputs(n: int, m: int, dtype=torch.float32, device="cpu"):
    return (torch.randn(2, length, 3, 16).to(device, dtype) for length in (n, m, m))


def causal_mask(n: int, m: int) -> torch.Tensor:
    """−inf where a key comes after its query, queries being the last n of m positions."""
    hidden = ~torch.ones(n, m, dtype=torch.bool).tril(m - n)
    return torch.zeros(n, m).masked_fill(hidden, float("-inf"))


CASES = {
    "plain": (5, 9, {}),
    "one query": (1, 9, {}),
    "causal": (9, 9, {"causal": True}),
    "scale": (5, 9, {"scale": 0.7}),
    "causal and scale": (9, 9, {"causal": True, "scale": 0.1}),
    "mask of -inf": (5, 9, {"mask": causal_mask(5, 9)}),
    "mask per head": (5, 9, {"mask": torch.randn(2, 3, 5, 9)}),
    "mask and scale": (5, 9, {"mask": torch.randn(1, 1, 5, 9), "scale": 0.3}),
}


@pytest.mark.parametrize("n, m, options", CASES.values(), ids=CASES.keys())
def test_sdpa_is_softmax_attention(n, m, options):
    q, k, v = inputs(n, m)
    out = attention(q, k, v, **options)
    assert out.shape == q.shape and out.dtype == q.dtype
    torch.testing.assert_close(out.double(), written_out(q, k, v, **options), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_softmax_attention():
    leaves = [a.requires_grad_(True) for a in inputs(6, 6)]
    got = torch.autograd.grad(attention(*leaves, causal=True).square().sum(), leaves)
    expected = torch.autograd.grad(written_out(*leaves, causal=True).square().sum(), leaves)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n, m, options", CASES.values(), ids=CASES.keys())
def test_gradients_of_short_sequences_in_bfloat16_are_taken_in_float32(n, m, options, monkeypatch):
    used, sdpa = [], module.F.scaled_dot_product_attention

    def noted(q, *rest, **more):
        used.append((q.dtype, torch.is_autocast_enabled("cpu")))
        return sdpa(q, *rest, **more)

    monkeypatch.setattr(module.F, "scaled_dot_product_attention", noted)
    leaves = [a.requires_grad_(True) for a in inputs(n, m, torch.bfloat16)]
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(*leaves, **options)
    assert out.dtype == torch.bfloat16 and used == [(torch.float32, False)]
    got = torch.autograd.grad(out.square().sum(), leaves)
    expected = torch.autograd.grad(written_out(*leaves, **options).square().sum(), leaves)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.float(), b.float(), atol=0.05, rtol=0.05)
    with torch.no_grad():  # nothing is to be differentiated: bfloat16 is the faster one
        attention(*leaves, **options)
    attention(*(a.detach() for a in leaves), **options)
    assert [dtype for dtype, _ in used[1:]] == [torch.bfloat16] * 2


def test_long_sequences_in_bfloat16_stay_in_bfloat16(monkeypatch):
    used, sdpa = [], module.F.scaled_dot_product_attention
    monkeypatch.setattr(module.F, "scaled_dot_product_attention",
                        lambda q, *rest, **more: used.append(q.dtype) or sdpa(q, *rest, **more))
    attention(*(a.requires_grad_(True) for a in inputs(4, 256, torch.bfloat16)))
    assert used == [torch.bfloat16]


@pytest.mark.parametrize("wanted", [None, "auto", "sdpa"])
def test_on_a_cpu_the_kernel_is_sdpa(wanted, monkeypatch):
    if wanted:
        monkeypatch.setenv("DD2_ATTENTION", wanted)
    assert choose_kernel("cpu", torch.float32) == "sdpa"


@pytest.mark.parametrize("wanted, sentence", [
    ("flash", "DD2_ATTENTION=flash is unknown"), ("", "DD2_ATTENTION= is unknown"),
    ("xformers", "xformers cannot run here"),
])
def test_an_override_that_cannot_be_had_is_one_sentence(wanted, sentence, monkeypatch):
    monkeypatch.setenv("DD2_ATTENTION", wanted)
    with pytest.raises(DD2Error, match=sentence) as error:
        attention(*inputs(3, 3))
    assert "\n" not in str(error.value)


def test_the_override_is_read_at_every_call(monkeypatch):
    assert choose_kernel("cpu", torch.float32) == "sdpa"
    monkeypatch.setenv("DD2_ATTENTION", "nonsense")
    with pytest.raises(DD2Error):
        choose_kernel("cpu", torch.float32)


@pytest.mark.parametrize("reason, kernel", [(None, "xformers"), ("built for another", "sdpa")])
def test_on_cuda_xformers_is_taken_where_it_runs(reason, kernel, monkeypatch, caplog):
    monkeypatch.setattr(module, "_why_xformers_fails", lambda *_: reason)
    with caplog.at_level(logging.WARNING):
        kernels = {choose_kernel("cuda", torch.bfloat16) for _ in range(3)}
    assert kernels == {kernel}
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == (reason is not None)  # the reason, once
    assert all(reason in line for line in said)


class RecordedKernel:
    """Stands for xformers: records what its kernel is called with and computes it."""

    class LowerTriangularMask:
        pass

    def memory_efficient_attention(self, q, k, v, attn_bias, scale):
        self.bias = attn_bias
        causal = isinstance(attn_bias, self.LowerTriangularMask)
        return written_out(q, k, v, None if causal else attn_bias, causal, scale).to(q.dtype)


@pytest.mark.parametrize("n, m, options", CASES.values(), ids=CASES.keys())
def test_xformers_is_called_for_the_same_function(n, m, options, monkeypatch):
    kernel = RecordedKernel()
    monkeypatch.setitem(__import__("sys").modules, "xformers.ops", kernel)
    monkeypatch.setitem(__import__("sys").modules, "xformers", type("package", (), {"ops": kernel}))
    q, k, v = inputs(n, m)
    out = module._xformers(q, k, v, options.get("mask"), options.get("causal", False),
                           options.get("scale"))
    torch.testing.assert_close(out.double(), written_out(q, k, v, **options), atol=1e-5, rtol=1e-5)
    if isinstance(kernel.bias, torch.Tensor):  # what the kernel demands of a bias
        assert kernel.bias.shape == (2, 3, n, m) and kernel.bias.stride(-2) % 8 == 0
        numbers = kernel.bias.untyped_storage().nbytes() // kernel.bias.element_size()
        padded = options["mask"].numel() // m * (m + -m % 8)
        assert numbers <= padded  # one mask for all samples and heads, not a copy of it for each


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("n, m, options", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_xformers_and_sdpa_agree_on_a_gpu(n, m, options, dtype):
    reason = module._why_xformers_fails("cuda", dtype)
    if reason is not None:
        pytest.skip(f"xformers cannot run here: {reason}")
    q, k, v = inputs(n, m, dtype, "cuda")
    mask = options.get("mask")
    rest = (None if mask is None else mask.to("cuda", dtype), options.get("causal", False),
            options.get("scale"))
    a, b = module._xformers(q, k, v, *rest), module._sdpa(q, k, v, *rest)
    loose = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(a, b, atol=loose, rtol=loose)
