"""The teacher's closed-form score: densities, autograd, limits, precision, memory (method §2)."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dd2core.score import conditional_score, posterior_mean, posterior_weights
from dd2core.tools import numerics
from dd2core.tools.numerics import full_precision, nearest_code

V, C = 23, 3


def problem(*lead: int, dtype=torch.float64, codes: int = V, dim: int = C, low: float = 0.05):
    """Random x_t, t, log p and codebook; log p has no draw dimension S (the first of three)."""
    x_t = torch.randn(*lead, dim, dtype=dtype)
    t = low + (1 - low) * torch.rand(*lead, 1, dtype=dtype)
    log_p = (3 * torch.randn(*lead[-2:], codes, dtype=dtype)).log_softmax(-1)
    return x_t, t, log_p, torch.randn(codes, dim, dtype=dtype)


def log_density(x_t, t, log_p, codebook):
    """log Σ_j p_j N(x_t; (1 − t) c_j, t² I), written out."""
    normal = torch.distributions.Normal((1 - t)[..., None] * codebook, t[..., None])
    return (log_p + normal.log_prob(x_t[..., None, :]).sum(-1)).logsumexp(-1)


@pytest.mark.parametrize("t", [0.02, 0.1, 0.3, 0.83, 1.0])
def test_posterior_mean_is_that_of_the_explicit_mixture_of_gaussians(t):
    x_t, times, log_p, codebook = problem(40)
    times.fill_(t)
    normal = torch.distributions.Normal((1 - times)[..., None] * codebook, times[..., None])
    w = log_p.exp() * normal.log_prob(x_t[:, None]).sum(-1).exp()  # (40, V)
    inside = w.sum(-1) > 1e-250  # where the densities themselves do not underflow
    expected = (w @ codebook / w.sum(-1, keepdim=True))[inside]
    assert inside.sum() >= 10
    torch.testing.assert_close(posterior_mean(x_t, times, log_p, codebook)[inside], expected)


def test_conditional_score_is_the_gradient_of_the_log_density():
    x_t, t, log_p, codebook = problem(60)
    x_t.requires_grad_(True)
    expected, = torch.autograd.grad(log_density(x_t, t, log_p, codebook).sum(), x_t)
    torch.testing.assert_close(conditional_score(x_t, t, log_p, codebook), expected)


def test_posterior_mean_tends_to_the_nearest_allowed_code_as_t_goes_to_0():
    x_t, t, log_p, codebook = problem(50)
    log_p[:, ::3] = float("-inf")
    allowed = torch.cdist(x_t, codebook).masked_fill(log_p.isinf(), float("inf")).argmin(-1)
    d = posterior_mean(x_t, torch.full_like(t, 1e-4), log_p, codebook)
    torch.testing.assert_close(d, codebook[allowed], atol=1e-6, rtol=0)


def test_posterior_mean_tends_to_the_mean_code_as_t_goes_to_1():
    x_t, t, log_p, codebook = problem(50)
    d = posterior_mean(x_t, torch.full_like(t, 1 - 1e-9), log_p, codebook)
    torch.testing.assert_close(d, log_p.exp() @ codebook, atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunk", [None, 4])
def test_excluded_codes_never_contribute(chunk):
    x_t, t, log_p, codebook = problem(9)
    log_p[:, 5:] = float("-inf")
    shifted = codebook.clone()
    shifted[5:] *= 1000
    expected = posterior_mean(x_t, t, log_p[:, :5], codebook[:5])
    torch.testing.assert_close(posterior_mean(x_t, t, log_p, shifted, chunk), expected)


@pytest.mark.parametrize("chunk", [None, 4])
def test_a_single_allowed_code_is_the_mean_and_gives_a_zero_gradient(chunk):
    x_t, t, log_p, codebook = problem(9, dtype=torch.float32)
    only = torch.full_like(log_p, float("-inf"))
    only[:, 7] = 0
    x_t.requires_grad_(True)
    d = posterior_mean(x_t, t, only, codebook, chunk)
    d.square().sum().backward()
    torch.testing.assert_close(d, codebook[7].expand_as(d))
    assert torch.equal(x_t.grad, torch.zeros_like(x_t))


def test_posterior_mean_passes_gradcheck():
    x_t, t, log_p, codebook = problem(6, low=0.2)
    assert torch.autograd.gradcheck(
        lambda x: posterior_mean(x, t, log_p, codebook), x_t.requires_grad_(True)
    )


@pytest.mark.parametrize("given, expected", [
    (torch.float64, torch.float64), (torch.float32, torch.float32),
    (torch.float16, torch.float32), (torch.bfloat16, torch.float32),
])
@pytest.mark.parametrize("function", [posterior_mean, conditional_score])
def test_scores_keep_float64_and_never_fall_below_float32(function, given, expected):
    arguments = [a.to(given) for a in problem(4, 5)]
    out = function(*arguments)
    assert out.dtype == expected
    wide = [a.double() for a in arguments]  # the very numbers given
    torch.testing.assert_close(out.double(), function(*wide), atol=1e-3, rtol=1e-3)


def test_float32_is_close_to_float64_on_the_border_between_two_codes():
    x_t, t, log_p, codebook = problem(200, codes=512, dim=8)
    pair = torch.cdist(x_t, codebook).topk(2, largest=False).indices  # the two nearest
    t.fill_(0.05)
    x_t = (1 - t) * codebook[pair].mean(1)
    narrow = posterior_mean(*(a.float() for a in (x_t, t, log_p, codebook)))
    assert (narrow - posterior_mean(x_t, t, log_p, codebook)).abs().max() < 1e-2


def test_autocast_around_the_score_changes_nothing():
    arguments = problem(4, 5, dtype=torch.float32)

    def results():
        return (posterior_mean(*arguments), posterior_weights(*arguments),
                conditional_score(*arguments), nearest_code(arguments[0], arguments[3]))

    expected = results()
    with torch.autocast("cpu", torch.bfloat16):
        got = results()
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def precision() -> list:
    """What torch says of TF32, in its old words and, where it has them, its new ones."""
    b, found = torch.backends, []
    for ask in (lambda: b.cuda.matmul.allow_tf32, lambda: b.cudnn.allow_tf32,
                torch.get_float32_matmul_precision):
        try:
            found.append(ask())
        except RuntimeError:
            found.append("torch refuses to say")
    if not hasattr(b, "fp32_precision"):
        return found
    return found + [x.fp32_precision for x in (
        b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul, b.mkldnn.conv)]


def old_words(b):
    b.cuda.matmul.allow_tf32 = b.cudnn.allow_tf32 = True


def medium(b):
    torch.set_float32_matmul_precision("medium")


def new_words(b):
    b.fp32_precision = b.cuda.matmul.fp32_precision = b.cudnn.conv.fp32_precision = "tf32"


@pytest.mark.parametrize("switch_on", [old_words, medium, new_words])
def test_full_precision_switches_tf32_off_and_back_on_even_after_an_error(switch_on):
    b = torch.backends
    new = hasattr(b, "fp32_precision")
    if switch_on is new_words and not new:
        pytest.skip("this torch has no fp32_precision")
    start = (torch.get_float32_matmul_precision(), b.cudnn.allow_tf32,
             [b.fp32_precision] if new else [])
    kept = numerics._switches()
    try:
        switch_on(b)
        before = precision()
        with pytest.raises(KeyError), full_precision(torch.device("cpu")):
            off = [False, False, "highest", *["ieee"] * 5]
            assert precision() == off[: len(before)]
            raise KeyError
        assert precision() == before
    finally:
        if new:
            b.fp32_precision = start[2][0]
        numerics._switch_back(*kept)
    assert (torch.get_float32_matmul_precision(), b.cudnn.allow_tf32) == start[:2]


@pytest.mark.parametrize("lead", [(11,), (5, 7), (3, 5, 7), (2, 1, 1)])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 8, 16, 1000])
def test_chunking_changes_neither_value_nor_gradient(lead, chunk):
    x_t, t, log_p, codebook = problem(*lead)
    results = []
    for c in (None, chunk):
        leaves = [a.clone().requires_grad_(True) for a in (x_t, log_p)]
        d = posterior_mean(leaves[0], t, leaves[1], codebook, c)
        results.append([d, *torch.autograd.grad(d.square().sum(), leaves)])
    for whole, chunked in zip(*results, strict=True):
        assert whole.shape == chunked.shape
        torch.testing.assert_close(chunked, whole)


class PeakMemory(TorchDispatchMode):
    """Counts the most bytes alive at once in storages made inside this context."""

    def __init__(self, *given):
        super().__init__()
        self.live, self.now, self.peak = {a.untyped_storage()._cdata: 0 for a in given}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for a in tree_leaves(out):
            if isinstance(a, torch.Tensor):
                self.see(a.untyped_storage())
        return out

    def see(self, storage):
        key = storage._cdata
        if key not in self.live:
            self.live[key] = storage.nbytes()
            self.now += self.live[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.free, key)

    def free(self, key):
        self.now -= self.live.pop(key)


@pytest.mark.parametrize("tokens", [4, 64], ids=["L < chunk", "L > chunk"])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("function", [posterior_mean, conditional_score])
def test_chunk_bounds_the_peak_memory(function, tokens, gradient):
    draws, batch, codes, chunk = 8, 256 // tokens, 2048, 16
    x_t, t, log_p, codebook = problem(draws, batch, tokens, dtype=torch.float32, codes=codes)
    x_t.requires_grad_(gradient)
    with PeakMemory(x_t, t, log_p, codebook) as memory:
        d = function(x_t, t, log_p, codebook, chunk)
        if gradient:
            d.sum().backward()
    matrix, small = 4 * chunk * codes, 4 * draws * batch * tokens * (C + 1)
    assert memory.peak >= matrix
    assert memory.peak <= 8 * matrix + 20 * small  # all at once: 3 × 128 matrices


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_nearest_code_is_the_argmin_of_the_distance(dtype):
    x, codebook = torch.randn(4, 50, C).to(dtype), torch.randn(V, C).to(dtype)
    expected = torch.cdist(x.double(), codebook.double().expand(4, -1, -1)).argmin(-1)
    got = nearest_code(x, codebook)
    assert got.dtype == torch.int64 and torch.equal(got, expected)


def test_posterior_weights_are_bayes_rule():
    torch.manual_seed(0)
    codes = torch.randn(6, 3, dtype=torch.float64)
    log_p = torch.randn(6, dtype=torch.float64).log_softmax(-1)
    x_t = torch.randn(4, 3, dtype=torch.float64)
    t = torch.tensor([0.1, 0.4, 0.8, 1.0], dtype=torch.float64)[:, None]
    density = torch.distributions.Normal((1 - t)[..., None] * codes, t[..., None])
    joint = log_p + density.log_prob(x_t[:, None]).sum(-1)  # log p(c_j) + log N(x_t; (1−t)c_j, t²)
    expected = joint.softmax(-1)
    assert torch.allclose(posterior_weights(x_t, t, log_p, codes), expected)
    assert torch.allclose(posterior_weights(x_t, t, log_p, codes)[-1], log_p.exp())  # t = 1: p
