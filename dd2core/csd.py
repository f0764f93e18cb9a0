"""Conditional Score Distillation, step by step (method §4).

`CSDTrainer.step` is the algorithm box: one generator pass, r steps of the guidance network ψ on its
samples (FCS), one step of the generator G against teacher and ψ (CSD), EMA of G. It takes latents
and labels and returns numbers; it knows nothing of disk, logging or ranks.
"""

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dd2core.baselines import dd1_loss
from dd2core.ema import EMA
from dd2core.errors import DD2Error
from dd2core.families.codebook import CodebookTeacher
from dd2core.gts import ScoreOptions, draw, model_denoiser, teacher_score
from dd2core.losses import CSDLossOptions, csd_loss, fcs_loss
from dd2core.schedule import find_loss_weight
from dd2core.score_model import ConditionalScoreModel
from dd2core.teacher import Teacher, TeacherScore

PREFIXES = ("quantised", "continuous")


@dataclasses.dataclass
class CSDOptions(ScoreOptions, CSDLossOptions):
    """Settings of `CSDTrainer`."""

    guidance_steps: int = 1  # r, steps of ψ per step of G
    fresh: bool = False  # each step of ψ on samples of its own; else all on those of G's step
    prefix: str = "quantised"  # what ψ sees of earlier tokens: quantised, or G's continuous vectors
    fcs_times: int | None = None  # noise times per token in FCS; None: `times`
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.998  # decay of the average of G
    ema_warmup: float = 9.0  # the average's memory grows as updates / ema_warmup
    ema_first: int = 0  # updates at the start in which the average has a short memory
    ema_first_decay: float = 0.9  # its decay in those
    pair_weight: float = 0.0  # weight of DD1's regression where a batch has known tokens
    pair_sharpness: float = 4.0  # of that regression, see `dd1_loss`
    pair_latent_weight: float = 1.0  # of that regression, see `dd1_loss`

    def __post_init__(self) -> None:
        ScoreOptions.__post_init__(self)
        CSDLossOptions.__post_init__(self)
        if self.prefix not in PREFIXES:
            raise DD2Error(f"prefix={self.prefix} is unknown: use {' or '.join(PREFIXES)}.")


@dataclasses.dataclass
class GeneratorPass:
    """What one pass of the generator gave, and what has been computed of it since."""

    x: Tensor  # output of G with its graph, (B, L, C)
    tokens: Tensor  # its tokens, (B, L)
    labels: Tensor  # (B,)
    score: TeacherScore | None = None  # the teacher's, given these tokens
    numbers: dict[str, Tensor] = dataclasses.field(default_factory=dict)  # to be logged


def average_of(generator: torch.nn.Module, o: CSDOptions) -> EMA:
    """The average of G that the options ask for, at its start."""
    return EMA(generator, o.ema, o.ema_warmup, o.ema_first, o.ema_first_decay)


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
        self.optimizers = {generator: generator_optimizer, guidance: guidance_optimizer}
        self.o = options
        self.after_backward = after_backward or (lambda module: None)
        self.ema = average_of(generator, options) if average is None else average

    def step(
        self, eps: Tensor, labels: Tensor, targets: Tensor | None = None, hold: bool = False
    ) -> dict[str, float]:
        """One iteration on latents (B, L, C) and labels (B,).

        With `hold` G and its average stand still, and ψ alone takes its steps (alignment).

        `targets` (n, L), n ≤ B: tokens that DD1's map gives the first n latents; G also regresses
        them, with weight `pair_weight` (better agreement, less variety: README, "What we tried").

        Returns:
            dict[str, float]: `nll`, the teacher's nats per sampled token, and `entropy` of the
            batch's tokens, where the teacher can tell; `fcs`; `to_code`, mean squared distance of
            G's output to its codes; `csd`; and the gradient norms before clipping; with targets
            `right_tokens`, the share it meets.
        """
        norms = {self.generator: 0.0}
        with torch.set_grad_enabled(not hold):
            made = self.generate(eps, labels)
        for network, loss in self.losses(made, targets, hold):
            norms[network] = self._update(network, loss)
        if not hold:
            self.ema.update(self.generator)
        gap = (made.x.detach() - self.teacher.vectors(made.tokens)).square().mean()
        said = {} if made.score is None else made.score.statistics()
        numbers = {**said, "to_code": gap, **made.numbers}
        first = [k for k in ("nll", "fcs", "entropy") if k in numbers]
        return {**{k: numbers[k].item() for k in (*first, *numbers)},
                "grad_g": norms[self.generator], "grad_psi": norms[self.guidance]}

    def generate(self, eps: Tensor, labels: Tensor) -> GeneratorPass:
        """One pass of G, with its graph."""
        x = self.generator.generate(eps, labels)  # (B, L, C)
        return GeneratorPass(x, self.teacher.quantise(x.detach()), labels)

    def losses(
        self, made: GeneratorPass, targets: Tensor | None = None, hold: bool = False
    ) -> Iterator[tuple[ConditionalScoreModel, Tensor]]:
        """The losses of an iteration in their order, each with the network that it trains: r times
        FCS, then, unless G is on `hold`, CSD. Each is computed after the caller has taken the step
        before it."""
        for _ in range(self.o.guidance_steps):
            yield self.guidance, self.fcs(made if not self.o.fresh else self.again(made))
        if hold:
            return
        loss = self.csd(made)
        if targets is not None:
            loss = loss + self.o.pair_weight * self.pairs(made, targets)
        yield self.generator, loss

    @torch.no_grad()
    def again(self, made: GeneratorPass) -> GeneratorPass:
        """Another pass of G, without a graph: new latents, the same labels in another order. Its
        numbers are logged as those of `made`."""
        labels = made.labels[torch.randperm(len(made.labels), device=made.labels.device)]
        new = self.generate(torch.randn_like(made.x), labels)
        new.numbers = made.numbers
        return new

    def align(self) -> None:
        """Put the average into G, and forget G's moments, which belong to other weights.

        What follows is a time in which ψ alone takes steps (`step` with `hold`), so that it fits
        what is kept in the end (paper: alignment)."""
        with torch.no_grad():
            for ours, kept in zip(self.generator.parameters(), self.ema.module.parameters(),
                                  strict=True):
                ours.copy_(kept)
        self.optimizers[self.generator].state.clear()

    def _prefix(self, made: GeneratorPass) -> Tensor:
        return made.tokens if self.o.prefix == "quantised" else made.x.detach()

    def fcs(self, made: GeneratorPass) -> Tensor:
        """FCS loss of the generator's output with its prefix (method §4 (5))."""
        o, h = self.o, self.guidance.features(self._prefix(made), made.labels)
        loss = fcs_loss(model_denoiser(self.guidance, h), made.x,
                        *draw(made.x, o, o.fcs_times), find_loss_weight(o.weighting))
        made.numbers["fcs"] = loss.detach()
        return loss

    def csd(self, made: GeneratorPass) -> Tensor:
        """CSD loss of x, prefix stop-gradient for both scores (method §4 (6)–(7))."""
        made.score = score = teacher_score(self.teacher, made.tokens, made.labels, self.o)
        eps, t = draw(made.x, self.o)
        with frozen(self.guidance):
            with torch.no_grad():
                h = self.guidance.features(self._prefix(made), made.labels)
            loss = csd_loss(score.denoise, model_denoiser(self.guidance, h), made.x, eps, t,
                            self.o)
        made.numbers["csd"] = loss.detach()
        return loss

    def pairs(self, made: GeneratorPass, targets: Tensor) -> Tensor:
        """DD1's regression of known tokens (n, L) by the first n of the generator's outputs."""
        if not isinstance(self.teacher, CodebookTeacher):
            raise DD2Error("Known tokens can be regressed where the teacher has a codebook alone: "
                           "set pair_weight=0.")
        x, o = made.x[: len(targets)], self.o
        right = made.tokens[: len(targets)] == targets
        made.numbers["right_tokens"] = right.float().mean()
        return dd1_loss(x, targets, self.teacher.codebook, o.pair_sharpness, o.pair_latent_weight)

    def _update(self, network: ConditionalScoreModel, loss: Tensor) -> float:
        optimizer = self.optimizers[network]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.after_backward(network)
        norm = clip_gradients(network, self.o.clip)
        optimizer.step()
        return norm


def clip_gradients(module: torch.nn.Module, most: float) -> float:
    """Scale all gradients so that their norm is `most` at most; returns the norm before."""
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), most)
    if hasattr(norm, "full_tensor"):  # a DTensor, of sharded gradients
        norm = norm.full_tensor()
    return norm.item()


class frozen:
    """Context in which a module's parameters record no gradient."""

    def __init__(self, module: torch.nn.Module):
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for p in self.parameters:
            p.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        for p in self.parameters:
            p.requires_grad_(True)
