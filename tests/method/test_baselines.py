"""The baselines: parallel sampling, DD1's map from noise to tokens, its pairs and its loss."""

import pytest
import torch
import torch.nn.functional as F

from dd2core import baselines
from dd2core.baselines import dd1_loss, dd1_pairs, flow_to_token, parallel_sample
from dd2core.noise import uniforms
from dd2core.sampling import Sampling, filter_logits
from tests.support import tiny

B, L, V, C = 3, 16, 32, 4
LABELS = torch.tensor([0, 1, 2])


@pytest.fixture(scope="module", params=["codes", "table"])
def teacher(request):
    return tiny.teacher(request.param)


# Parallel sampling ---------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [None, 1.0, 2.5])
def test_parallel_sampling_draws_every_token_from_the_blank_logits(teacher, cfg):
    logits = teacher.blank_logits(LABELS)
    if cfg == 2.5:
        u = teacher.blank_logits(torch.full_like(LABELS, teacher.num_classes))
        logits = u + cfg * (logits - u)
    greedy = parallel_sample(teacher, LABELS, torch.rand(B, L), Sampling(cfg, top_k=1))
    assert torch.equal(greedy, logits.argmax(-1))
    many = LABELS[:1].repeat(4000)
    sampling = Sampling(cfg, temperature=0.9, top_k=7)
    tokens = parallel_sample(teacher, many, torch.rand(4000, L), sampling)
    p = filter_logits(logits[0], 0.9, 7).exp()  # (L, V)
    frequency = F.one_hot(tokens, V).float().mean(0)
    assert (frequency - p).abs().max() < 5 * (0.25 / 4000) ** 0.5
    assert (frequency[p == 0] == 0).all()


def test_a_parallel_sample_does_not_depend_on_the_batch(teacher):
    whole = parallel_sample(teacher, LABELS, uniforms(3, L, 1), Sampling(2.0))
    first = parallel_sample(teacher, LABELS[:1], uniforms(1, L, 1), Sampling(2.0))
    assert torch.equal(first, whole[:1])


# DD1 -----------------------------------------------------------------------------------------


def test_the_flow_carries_noise_onto_the_teachers_probabilities():
    codebook = torch.tensor([[-1.0], [0.2], [1.0]])
    log_p = torch.tensor([0.2, 0.3, 0.5]).log()
    tokens = flow_to_token(log_p, torch.randn(20_000, 1), codebook, euler_steps=64)
    frequency = torch.bincount(tokens, minlength=3) / 20_000
    torch.testing.assert_close(frequency, log_p.exp(), atol=0.03, rtol=0)


def test_the_flow_is_monotone_on_a_line():
    """Paths of an ODE do not cross: larger noise, larger code."""
    codebook = torch.linspace(-2, 2, 9)[:, None]
    log_p = torch.randn(9).log_softmax(-1)
    tokens = flow_to_token(log_p, torch.linspace(-3, 3, 500)[:, None], codebook, 32)
    assert (tokens.diff() >= 0).all() and len(tokens.unique()) > 2


@pytest.mark.parametrize("euler_steps", [1, 16])
def test_the_flow_never_reaches_an_excluded_code(euler_steps):
    codebook, log_p = torch.randn(V, C), torch.full((500, V), float("-inf"))
    allowed = torch.randint(V, (500,))
    log_p[torch.arange(500), allowed] = 0
    assert torch.equal(flow_to_token(log_p, torch.randn(500, C), codebook, euler_steps), allowed)


@pytest.mark.parametrize("euler_steps", [1, 5, 16])
def test_the_flow_towards_a_single_code_is_a_straight_line(euler_steps, monkeypatch):
    """D_Φ stands still there, so Euler steps of any length are exact: x = c + t·(ε − c)."""
    seen, mean = [], baselines.posterior_mean
    monkeypatch.setattr(baselines, "posterior_mean",
                        lambda *a: seen.append(a[:2]) or mean(*a))
    eps, codebook = torch.randn(50, C), torch.randn(1, C)
    flow_to_token(torch.zeros(1), eps, codebook, euler_steps)
    assert len(seen) == euler_steps + 1
    for x, t in seen:
        torch.testing.assert_close(x, codebook + t * (eps - codebook))


@pytest.mark.parametrize("euler_steps", [1, 16])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(2.0), Sampling(2.0, 0.8, 9, 0.9)],
                         ids=["plain", "guided", "filtered"])
def test_pairs_are_the_flow_under_the_teacher_given_the_pairs_own_tokens(
    teacher, sampling, euler_steps
):
    eps = torch.randn(B, L, C)
    tokens = dd1_pairs(teacher, LABELS, eps, sampling, euler_steps)
    log_p = teacher.log_probs(tokens, LABELS, **sampling.keywords())
    assert torch.equal(tokens, flow_to_token(log_p, eps, teacher.codebook, euler_steps))
    assert not torch.equal(tokens, flow_to_token(log_p, eps, teacher.codebook, 17 - euler_steps))
    assert torch.equal(tokens, dd1_pairs(teacher, LABELS, eps, sampling, euler_steps))


def test_dd1_loss_is_cross_entropy_of_distances_plus_latent_distance():
    codebook, tokens = torch.randn(V, C).double(), torch.randint(V, (B, L))
    x = torch.randn(B, L, C).double()
    logits = -3.0 * torch.cdist(x, codebook.expand(B, -1, -1)).square() / 2
    expected = -logits.log_softmax(-1).gather(-1, tokens[..., None]).mean()
    expected += 0.5 * (x - codebook[tokens]).square().sum(-1).mean()
    torch.testing.assert_close(dd1_loss(x, tokens, codebook, 3.0, 0.5), expected)


def test_dd1_loss_pulls_outputs_onto_the_pairs_codes():
    codebook, tokens = torch.randn(V, C), torch.randint(V, (B, L))
    x = torch.randn(B, L, C).requires_grad_(True)
    for _ in range(200):
        gradient, = torch.autograd.grad(dd1_loss(x, tokens, codebook), x)
        x = (x - 2 * gradient).detach().requires_grad_(True)
    assert torch.equal(torch.cdist(x, codebook.expand(B, -1, -1)).argmin(-1), tokens)
