"""The three losses (method §4): their minima, their gradients, and where no gradient may go."""

import math

import pytest
import torch

from dd2core.losses import (
    CSD_FORMS,
    CSDLossOptions,
    adversarial_loss,
    csd_loss,
    csd_loss_dmd,
    csd_loss_sid,
    discriminator_loss,
    distance_weight,
    fcs_loss,
    gts_loss,
    weighted_error,
)
from dd2core.schedule import add_noise, loss_weight
from dd2core.score import posterior_mean

S, B, L, C, V = 3, 2, 5, 4, 9
FORMS = pytest.mark.parametrize("csd_loss", [csd_loss_sid, csd_loss_dmd], ids=["sid", "dmd"])


def draws(dtype=torch.float64):
    """x (B, L, C), eps (S, B, L, C), t (S, B, L, 1)."""
    t = 0.05 + 0.9 * torch.rand(S, B, L, 1, dtype=dtype)
    return torch.randn(B, L, C, dtype=dtype), torch.randn(S, B, L, C, dtype=dtype), t


class Linear(torch.nn.Module):
    """A denoiser D(x_t, t) = A x_t + t·b with parameters to watch."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.randn(C, C, dtype=torch.float64))
        self.b = torch.nn.Parameter(torch.randn(C, dtype=torch.float64))

    def forward(self, x_t, t):
        return x_t @ self.a + t * self.b


def mixture(codes: int = V):
    """A closed-form teacher: D of random codes and probabilities."""
    log_p = torch.randn(B, L, codes, dtype=torch.float64).log_softmax(-1)
    codebook = torch.randn(codes, C, dtype=torch.float64)
    return lambda x_t, t: posterior_mean(x_t, t, log_p, codebook)


def test_the_weighted_error_sums_over_C_and_averages_over_the_rest():
    d, target, t = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4), torch.rand(2, 3, 5, 1) + 0.01
    total = sum(
        loss_weight(t[s, b, i]).item() * (d[s, b, i] - target[s, b, i]).square().sum().item()
        for s in range(2) for b in range(3) for i in range(5)
    )
    assert weighted_error(d, target, t).item() == pytest.approx(total / 30, rel=1e-5)


# GTS (4) and FCS (5) -------------------------------------------------------------------------


def test_gts_is_zero_when_the_student_is_the_teacher_and_positive_otherwise():
    codes, eps, t = draws()
    teacher = mixture()
    assert gts_loss(teacher, teacher, codes, eps, t).item() == 0
    assert gts_loss(mixture(), teacher, codes, eps, t).item() > 0.1


def test_gts_sends_gradients_to_the_student_only():
    codes, eps, t = draws()
    student, teacher = Linear(), Linear()
    gts_loss(student, teacher, codes, eps, t).backward()
    assert student.a.grad.abs().max() > 0
    assert teacher.a.grad is None


def test_the_minimiser_of_fcs_is_the_posterior_mean():
    """Over x drawn from codes, no perturbation of the posterior mean has a smaller loss."""
    n = 40_000
    codebook = torch.randn(V, C, dtype=torch.float64)
    log_p = torch.randn(V, dtype=torch.float64).log_softmax(-1)
    x = codebook[torch.multinomial(log_p.exp(), n, replacement=True)][None]
    eps, t = torch.randn(1, 1, n, C).double(), torch.full((1, 1, n, 1), 0.6).double()

    def loss(scale: float, shift: float) -> float:
        def d(x_t, t):
            return scale * posterior_mean(x_t, t, log_p, codebook) + shift
        return fcs_loss(d, x, eps, t).item()

    best = loss(1, 0)
    assert all(best < loss(*change) for change in [(1.05, 0), (0.95, 0), (1, 0.05), (1, -0.05)])


def test_fcs_sends_no_gradient_into_the_generators_output():
    x, eps, t = draws()
    guidance = Linear()
    x.requires_grad_(True)
    fcs_loss(guidance, x, eps, t).backward()
    assert x.grad is None and guidance.a.grad.abs().max() > 0


# CSD (6)–(7) ---------------------------------------------------------------------------------


def test_omega_is_the_clipped_mean_distance_without_gradient():
    x, d = torch.zeros(2, C, requires_grad=True), torch.zeros(2, C)
    d[0] = torch.tensor([1.0, -2, 3, -4])
    omega = distance_weight(x, d, 0.05)
    torch.testing.assert_close(omega, torch.tensor([[2.5], [0.05]]))
    assert not omega.requires_grad


def test_the_gradient_of_dmd_is_the_gap_over_omega():
    x, eps, t = draws()
    teacher, guidance = mixture(), mixture()
    x.requires_grad_(True)
    got, = torch.autograd.grad(csd_loss_dmd(teacher, guidance, x, eps, t), x)
    x_t = add_noise(x.detach(), eps, t)
    d_phi, d_psi = teacher(x_t, t), guidance(x_t, t)
    omega = (x.detach() - d_phi).abs().mean(-1, keepdim=True).clamp_min(0.05)
    torch.testing.assert_close(got, ((d_psi - d_phi) / omega).sum(0) / (B * L * S))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.2])
def test_sid_is_its_formula_in_value_and_in_gradient(alpha):
    x, eps, t = draws()
    teacher, guidance = mixture(), mixture()
    omega = None

    def formula(x):
        """(6) written out per token; ω is fixed at its value at the x given first."""
        nonlocal omega
        x_t = (1 - t) * x + t * eps
        phi, psi = teacher(x_t, t), guidance(x_t, t)
        if omega is None:
            omega = (x - phi).abs().mean(-1).clamp_min(0.05).detach()
        inner = ((phi - psi) * ((phi - x) - alpha * (phi - psi))).sum(-1)
        return (inner / omega).sum() / (S * B * L)

    x.requires_grad_(True)
    loss = csd_loss_sid(teacher, guidance, x, eps, t, alpha)
    torch.testing.assert_close(loss, formula(x))
    got, = torch.autograd.grad(loss, x)
    direction, step = torch.randn_like(x), 1e-5
    with torch.no_grad():
        slope = (formula(x + step * direction) - formula(x - step * direction)) / (2 * step)
    torch.testing.assert_close((got * direction).sum(), slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", CSD_FORMS)
def test_every_form_clips_by_the_options_omega_min(form):
    """Where the clip is above every distance, twice the clip gives half the gradient."""
    x, eps, t = draws()
    teacher, guidance = mixture(), mixture()
    x.requires_grad_(True)
    near, far = (torch.autograd.grad(csd_loss(
        teacher, guidance, x, eps, t, CSDLossOptions(form, omega_min=w)), x)[0] for w in (50, 100))
    assert near.abs().max() > 0
    torch.testing.assert_close(near, 2 * far)


@FORMS
def test_csd_vanishes_with_its_gradient_where_the_scores_agree_everywhere(csd_loss):
    x, eps, t = draws()
    teacher = mixture()
    x.requires_grad_(True)
    loss = csd_loss(teacher, teacher, x, eps, t)
    gradient, = torch.autograd.grad(loss, x)
    assert loss.item() == 0 and torch.equal(gradient, torch.zeros_like(x))


def test_sid_also_feels_the_slope_of_the_gap():
    """Where the scores agree at x_t but not around it, (6) pulls and (7) does not."""
    x, eps, t = draws()
    at = add_noise(x, eps, t)
    teacher = mixture()
    x.requires_grad_(True)

    def guidance(x_t, t):
        return teacher(x_t, t) + 0.3 * (x_t - at)

    sid, = torch.autograd.grad(csd_loss_sid(teacher, guidance, x, eps, t), x)
    dmd, = torch.autograd.grad(csd_loss_dmd(teacher, guidance, x, eps, t), x)
    d_phi = teacher(at, t)
    omega = distance_weight(x, d_phi, 0.05)
    expected = (-0.3 * (1 - t) * (d_phi - x) / omega).sum(0) / (S * B * L)
    torch.testing.assert_close(sid, expected)
    assert torch.equal(dmd, torch.zeros_like(x))


@FORMS
def test_csd_sends_no_gradient_into_frozen_scores(csd_loss):
    x, eps, t = draws()
    teacher, guidance = Linear().requires_grad_(False), Linear().requires_grad_(False)
    x.requires_grad_(True)
    csd_loss(teacher, guidance, x, eps, t).backward()
    assert x.grad.abs().max() > 0
    assert all(p.grad is None for m in (teacher, guidance) for p in m.parameters())


@FORMS
def test_csd_moves_free_particles_onto_the_teachers_codes_in_its_proportions(csd_loss):
    """ψ is exact here: the posterior mean over the particles themselves."""
    n, codebook = 64, torch.tensor([[-1.0], [1.0]])
    log_p = torch.tensor([0.25, 0.75]).log()
    uniform = torch.full((n,), 1 / n).log()
    x = (0.3 * torch.randn(1, n, 1)).requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=0.02, betas=(0.0, 0.99))
    for _ in range(300):
        particles = x.detach()[0]
        t = 0.05 + 0.9 * torch.rand(8, 1, n, 1)
        loss = csd_loss(lambda a, t: posterior_mean(a, t, log_p, codebook),
                        lambda a, t: posterior_mean(a, t, uniform, particles),  # noqa: B023
                        x, torch.randn(8, 1, n, 1), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    end = x.detach().flatten()
    assert (end.abs() - 1).abs().median() < 0.1  # on the codes
    assert (end > 0).float().mean().item() == pytest.approx(0.75, abs=0.1)


def test_the_discriminator_wants_data_high_and_samples_low():
    real, fake = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5], [3.0], [-4.0]])
    terms = [math.log(1 + math.exp(-z)) for z in (2.0, -1.0)]
    terms += [math.log(1 + math.exp(z)) for z in (0.5, 3.0, -4.0)]
    expected = sum(terms[:2]) / 2 + sum(terms[2:]) / 3
    assert discriminator_loss(real, fake).item() == pytest.approx(expected)


def test_the_adversarial_loss_wants_samples_high():
    expected = (math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(5.0))) / 2
    assert adversarial_loss(torch.tensor([2.0, -5.0])).item() == pytest.approx(expected)
