"""Conditional Score Distillation, step by step (method §4).

`CSDTrainer.step` is the algorithm box: one generator pass, r steps of the guidance network ψ on its
samples (FCS), one step of the generator G against teacher and ψ (CSD), EMA of G. It takes latents
and labels and returns numbers; it knows nothing of disk, logging or ranks.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from dd2core.baselines import dd1_loss
from dd2core.ema import EMA
from dd2core.gts import ScoreOptions, draw, guidance_denoiser, teacher_denoiser, teacher_log_probs
from dd2core.losses import csd_loss_dmd, csd_loss_sid, fcs_loss
from dd2core.score_model import ConditionalScoreModel
from dd2core.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class CSDOptions(ScoreOptions):
    """Settings of `CSDTrainer`."""

    form: str = "dmd"  # sid (6) or dmd (7)
    alpha: float = 1.0  # α of (6)
    omega_min: float = 0.05  # clip of ω from below
    guidance_steps: int = 1  # r, steps of ψ per step of G
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.998  # decay of the average of G
    ema_warmup: float = 9.0  # the average's memory grows as updates / ema_warmup
    pair_weight: float = 0.0  # weight of DD1's regression where a batch has known tokens


class CSDTrainer:
    """Alternating training of guidance network and generator.

    Args:
        teacher (Teacher): frozen.
        generator (ConditionalScoreModel): G.
        guidance (ConditionalScoreModel): ψ.
        generator_optimizer, guidance_optimizer (torch.optim.Optimizer): over all their parameters.
        options (CSDOptions): see there.
        after_backward (Callable | None): called with the network whose gradients are ready, before
            clipping; several processes average them here.
        average (EMA | None): of G; None makes it here, from `ema` and `ema_warmup` of the options.
    """

    def __init__(
        self, teacher: Teacher, generator: ConditionalScoreModel, guidance: ConditionalScoreModel,
        generator_optimizer: torch.optim.Optimizer, guidance_optimizer: torch.optim.Optimizer,
        options: CSDOptions, after_backward: Callable[[torch.nn.Module], None] | None = None,
        average: EMA | None = None,
    ):
        self.teacher, self.generator, self.guidance = teacher, generator, guidance
        self.opt_g, self.opt_psi, self.o = generator_optimizer, guidance_optimizer, options
        self.after_backward = after_backward or (lambda module: None)
        self.ema = EMA(generator, options.ema, options.ema_warmup) if average is None else average

    def step(
        self, eps: Tensor, labels: Tensor, targets: Tensor | None = None
    ) -> dict[str, float]:
        """One iteration on latents (B, L, C) and labels (B,).

        `targets` (n, L), n ≤ B: tokens that DD1's map gives the first n latents; G also regresses
        them, with weight `pair_weight` (better agreement, less variety: README, "What we tried").

        Returns:
            dict[str, float]: `nll`, the teacher's nats per sampled token; `fcs`; `entropy` of the
            batch's tokens; `to_code`, mean squared distance of G's output to its codes; `csd`; and
            the gradient norms before clipping; with targets `right_tokens`, the share it meets.
        """
        x = self.generator.generate(eps, labels)  # (B, L, C), with graph
        tokens = self.teacher.quantise(x.detach())  # (B, L)
        for _ in range(self.o.guidance_steps):
            fcs = self.fcs(x, tokens, labels)
            fcs_norm = self._update(fcs, self.guidance, self.opt_psi)
        log_p = teacher_log_probs(self.teacher, tokens, labels, self.o)  # (B, L, V)
        csd = self.csd(x, tokens, labels, log_p)
        pairs = {} if targets is None else self.pairs(x[: len(targets)], targets)
        loss = csd + self.o.pair_weight * pairs.pop("loss", 0.0)
        norm = self._update(loss, self.generator, self.opt_g)
        self.ema.update(self.generator)
        nll = -log_p.gather(-1, tokens[..., None]).mean()
        snap = (x.detach() - self.teacher.codebook[tokens]).square().mean()
        return {"nll": nll.item(), "fcs": fcs.item(), "entropy": token_entropy(tokens).item(),
                "to_code": snap.item(), "csd": csd.item(), "grad_g": norm, "grad_psi": fcs_norm,
                **pairs}

    def fcs(self, x: Tensor, tokens: Tensor, labels: Tensor) -> Tensor:
        """FCS loss of the generator's output x with its quantised prefix (method §4 (5))."""
        h = self.guidance.features(tokens, labels)
        return fcs_loss(guidance_denoiser(self.guidance, h), x, *draw(x, self.o))

    def csd(self, x: Tensor, tokens: Tensor, labels: Tensor, log_p: Tensor) -> Tensor:
        """CSD loss of x (with graph), prefix stop-gradient for both scores (method §4 (6)–(7))."""
        o = self.o
        d_phi = teacher_denoiser(self.teacher, log_p, o)
        eps, t = draw(x, o)
        with frozen(self.guidance):
            with torch.no_grad():
                h = self.guidance.features(tokens, labels)
            d_psi = guidance_denoiser(self.guidance, h)
            if o.form == "dmd":
                return csd_loss_dmd(d_phi, d_psi, x, eps, t, o.omega_min)
            return csd_loss_sid(d_phi, d_psi, x, eps, t, o.alpha, o.omega_min)

    def pairs(self, x: Tensor, targets: Tensor) -> dict:
        """DD1's regression of known tokens (n, L) by the generator's output x (n, L, C)."""
        right = (self.teacher.quantise(x.detach()) == targets).float().mean().item()
        return {"loss": dd1_loss(x, targets, self.teacher.codebook), "right_tokens": right}

    def _update(self, loss: Tensor, model: torch.nn.Module, optimizer) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.after_backward(model)
        norm = clip_gradients(model, self.o.clip)
        optimizer.step()
        return norm


def clip_gradients(module: torch.nn.Module, most: float) -> float:
    """Scale all gradients so that their norm is `most` at most; returns the norm before."""
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), most)
    if hasattr(norm, "full_tensor"):  # a DTensor, of sharded gradients
        norm = norm.full_tensor()
    return norm.item()


def token_entropy(tokens: Tensor) -> Tensor:
    """Entropy in nats of the marginal distribution of tokens, any shape; log V at most."""
    p = torch.bincount(tokens.flatten()).float()
    p = p[p > 0] / p.sum()
    return -(p * p.log()).sum()


class frozen:
    """Context in which a module's parameters record no gradient."""

    def __init__(self, module: torch.nn.Module):
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self):
        for p in self.parameters:
            p.requires_grad_(False)

    def __exit__(self, *error):
        for p in self.parameters:
            p.requires_grad_(True)
