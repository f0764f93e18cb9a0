"""The three losses of DD2 (method §4): ground-truth score, fake score, conditional distillation.

Pure functions of tensors. `x` are code vectors (B, L, C), `h` features (B, L, D) of a
`ConditionalScoreModel`, t times (S, B, L, 1) and eps noise (S, B, L, C): several times per token
share one pass of the backbone.
"""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.schedule import add_noise, loss_weight

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) → D


def weighted_error(
    d: Tensor, target: Tensor, t: Tensor, weight: Callable[[Tensor], Tensor] = loss_weight
) -> Tensor:
    """E λ(t) ‖D − target‖²: sum over C, mean over everything else (method §4)."""
    return (weight(t) * (d - target).square()).sum(-1).mean()


def gts_loss(
    student: Denoiser, teacher: Denoiser, codes: Tensor, eps: Tensor, t: Tensor,
    weight: Callable[[Tensor], Tensor] = loss_weight,
) -> Tensor:
    """GTS: regress the teacher's closed-form denoised mean (method §4 (4)).

    Args:
        student (Denoiser): D_ψ given the tokens' prefix.
        teacher (Denoiser): D_Φ given the same prefix.
        codes (Tensor): code vectors of the tokens, (B, L, C).
        eps, t (Tensor): noise (S, B, L, C) and times (S, B, L, 1).
        weight (Callable): λ(t).

    Returns:
        Tensor: scalar.
    """
    x_t = add_noise(codes, eps, t)  # (S, B, L, C)
    with torch.no_grad():
        target = teacher(x_t, t)
    return weighted_error(student(x_t, t), target, t, weight)


def fcs_loss(
    guidance: Denoiser, x: Tensor, eps: Tensor, t: Tensor,
    weight: Callable[[Tensor], Tensor] = loss_weight,
) -> Tensor:
    """FCS: the guidance network learns the score of the generator's samples (method §4 (5)).

    Args:
        guidance (Denoiser): D_ψ given the quantised prefix.
        x (Tensor): the generator's output, (B, L, C); no gradient reaches it.
        eps, t (Tensor): noise (S, B, L, C) and times (S, B, L, 1).
        weight (Callable): λ(t).

    Returns:
        Tensor: scalar.
    """
    x = x.detach()
    return weighted_error(guidance(add_noise(x, eps, t), t), x, t, weight)


def distance_weight(x: Tensor, d_teacher: Tensor, omega_min: float) -> Tensor:
    """ω = sg max(ω_min, mean over C of |x − D_Φ|), per token and time: (..., 1) (method §4)."""
    return (x - d_teacher).detach().abs().mean(-1, keepdim=True).clamp_min(omega_min)


def csd_loss_sid(
    teacher: Denoiser, guidance: Denoiser, x: Tensor, eps: Tensor, t: Tensor, alpha: float = 1.0,
    omega_min: float = 0.05,
) -> Tensor:
    """CSD in SiD form, differentiated through x, x_t and both D's inputs (method §4 (6)).

    Args:
        teacher (Denoiser): D_Φ, differentiable in x_t.
        guidance (Denoiser): D_ψ, differentiable in x_t; its parameters must be frozen.
        x (Tensor): the generator's output with its graph, (B, L, C).
        eps, t (Tensor): noise (S, B, L, C) and times (S, B, L, 1).
        alpha (float): α.
        omega_min (float): clip of ω from below.

    Returns:
        Tensor: scalar.
    """
    x_t = add_noise(x, eps, t)  # (S, B, L, C)
    d_phi, d_psi = teacher(x_t, t), guidance(x_t, t)
    gap = d_phi - d_psi
    omega = distance_weight(x, d_phi, omega_min)
    return ((gap * ((d_phi - x) - alpha * gap)) / omega).sum(-1).mean()


def csd_loss_dmd(
    teacher: Denoiser, guidance: Denoiser, x: Tensor, eps: Tensor, t: Tensor,
    omega_min: float = 0.05,
) -> Tensor:
    """CSD in DMD form: a surrogate whose gradient in x is sg (D_ψ − D_Φ)/ω (method §4 (7)).

    Arguments as in `csd_loss_sid`; neither D is differentiated.

    Returns:
        Tensor: scalar whose value means nothing; its gradient in x_i is the mean over S of
        (D_ψ − D_Φ)/ω, divided by B·L.
    """
    with torch.no_grad():
        x_t = add_noise(x, eps, t)
        d_phi, d_psi = teacher(x_t, t), guidance(x_t, t)
        gradient = (d_psi - d_phi) / distance_weight(x, d_phi, omega_min)
    return (x * gradient).sum(-1).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Logistic loss of logits, any shapes: of data (wanted high), of G (low) (method §4 (8)).

    Returns:
        Tensor: scalar; 2 log 2 where nothing is told apart.
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def adversarial_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss of G by the discriminator's logits, any shape (method §4 (9))."""
    return F.softplus(-fake).mean()


@dataclasses.dataclass
class CSDLossOptions:
    """Which loss distils, and its numbers."""

    form: str = "dmd"  # sid (method §4 (6), the paper's) or dmd (method §4 (7)); see `CSD_FORMS`
    alpha: float = 1.0  # sid: α of (6)
    omega_min: float = 0.05  # clip of ω from below

    def __post_init__(self) -> None:
        find_csd_form(self.form)


# The one place that lists the distillation losses: (D_Φ, D_ψ, x, eps, t, options) → scalar.
CSD_FORMS: dict[str, Callable[..., Tensor]] = {
    "sid": lambda phi, psi, x, eps, t, o: csd_loss_sid(
        phi, psi, x, eps, t, o.alpha, o.omega_min),
    "dmd": lambda phi, psi, x, eps, t, o: csd_loss_dmd(phi, psi, x, eps, t, o.omega_min),
}


def find_csd_form(form: str) -> Callable[..., Tensor]:
    """The distillation loss of that name.

    Raises:
        DD2Error: there is none; lists those that exist.
    """
    if form not in CSD_FORMS:
        raise DD2Error(f"form={form} is unknown: use {' or '.join(CSD_FORMS)}.")
    return CSD_FORMS[form]


def csd_loss(
    teacher: Denoiser, guidance: Denoiser, x: Tensor, eps: Tensor, t: Tensor, o: CSDLossOptions
) -> Tensor:
    """CSD in the form that the options name (method §4 (6), (7)).

    Arguments as in `csd_loss_sid`.

    Raises:
        DD2Error: an unknown form.
    """
    return find_csd_form(o.form)(teacher, guidance, x, eps, t, o)
