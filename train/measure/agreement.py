"""How tokens look to the teacher: NLL, entropy, and the floor of the FCS loss (method §9)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dd2core.families.codebook import token_entropy
from dd2core.gts import ScoreOptions, draw, teacher_score
from dd2core.losses import weighted_error
from dd2core.schedule import add_noise, find_loss_weight
from dd2core.teacher import Teacher


@dataclass(frozen=True)
class Agreement:
    """How a set of tokens looks to the teacher (method §9).

    Attributes:
        nll: the teacher's guided negative log-likelihood, nats per token; tokens that top-k or
            top-p exclude make it infinite, so it is taken with both off.
        entropy: of the marginal token distribution, nats.
    """

    nll: float
    entropy: float


@torch.no_grad()
def agreement(teacher, tokens: Tensor, labels: Tensor, cfg: float, batch: int) -> Agreement:
    """NLL and entropy of tokens (N, L) with labels (N,), on the teacher's device."""
    total = 0.0
    for x, y in zip(tokens.split(batch), labels.split(batch), strict=True):
        x, y = x.to(teacher.device), y.to(teacher.device)
        log_p = teacher.log_probs(x, y, cfg)
        total -= log_p.gather(-1, x[..., None]).cpu().double().sum().item()
    nll = total / tokens.numel()
    return Agreement(nll if math.isfinite(nll) else float("nan"), token_entropy(tokens).item())


@torch.no_grad()
def posterior_floor(teacher: Teacher, tokens: Tensor, labels: Tensor, o: ScoreOptions) -> float:
    """FCS loss of the teacher's own score on its own tokens (n, L): the floor of (5)."""
    losses = []
    for x, y in zip(tokens.split(200), labels.split(200), strict=True):
        x, y = x.to(teacher.device), y.to(teacher.device)
        codes = teacher.vectors(x)
        eps, t = draw(codes, o)
        d = teacher_score(teacher, x, y, o).denoise(add_noise(codes, eps, t), t)
        losses.append(weighted_error(d, codes, t, find_loss_weight(o.weighting)).item())
    return sum(losses) / len(losses)
