"""Conditional Score Distillation, step by step (method §4).

`CSDTrainer.step` is the algorithm box: one generator pass, r steps of the guidance network ψ on its
samples (FCS), one step of the generator G against teacher and ψ (CSD), EMA of G; with the
adversarial term one of the discriminator too. It takes latents and labels and returns numbers; it
knows nothing of disk, logging or ranks, only which part of a batch is its own.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from dd2core.baselines import dd1_loss
from dd2core.ema import EMA
from dd2core.errors import DD2Error
from dd2core.families.codebook import CodebookTeacher, entropy_of
from dd2core.gts import ScoreOptions, draw, model_denoiser, teacher_score
from dd2core.losses import CSDLossOptions, adversarial_loss, csd_loss, discriminator_loss, fcs_loss
from dd2core.noise import WHOLE, Part, same_draws
from dd2core.schedule import add_noise, draw_times, find_loss_weight
from dd2core.score_model import ConditionalScoreModel, Discriminator
from dd2core.teacher import Teacher, TeacherScore
from dd2core.tools.gradients import backward_mean, clip_gradients, frozen

PREFIXES = ("quantised", "continuous")


@dataclasses.dataclass
class CSDOptions(ScoreOptions, CSDLossOptions):
    """Settings of `CSDTrainer`."""

    guidance_steps: int = 1  # r, steps of ψ per step of G
    fresh: bool = False  # each step of ψ on samples of its own; else all on those of G's step
    prefix: str = "quantised"  # what ψ sees of earlier tokens: quantised, or G's continuous vectors
    fcs_times: int | None = None  # noise times per token in FCS; None: `times`
    accumulate: int = 1  # passes that a batch is divided into
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.998  # decay of the average of G
    ema_warmup: float = 9.0  # the average's memory grows as updates / ema_warmup
    ema_first: int = 0  # updates at the start in which the average has a short memory
    ema_first_decay: float = 0.9  # its decay in those
    pair_weight: float = 0.0  # weight of DD1's regression where a batch has known tokens
    pair_sharpness: float = 4.0  # of that regression, see `dd1_loss`; in stages, warm.sharpness
    pair_latent_weight: float = 1.0  # of that regression, see `dd1_loss`; warm.latent_weight
    adversarial: float = 0.0  # weight of the adversarial term in G's loss; 0: no discriminator
    adversarial_depth: int | None = None  # blocks of the discriminator; None: all of the teacher's
    adversarial_t_max: float = 0.8  # largest noise time of what it is shown; the smallest is t_min

    def __post_init__(self) -> None:
        ScoreOptions.__post_init__(self)
        CSDLossOptions.__post_init__(self)
        if self.prefix not in PREFIXES:
            raise DD2Error(f"prefix={self.prefix} is unknown: use {' or '.join(PREFIXES)}.")


@dataclasses.dataclass
class Batch:
    """What an iteration works on, in all processes and passes together."""

    eps: Tensor  # latents (B, L, C)
    labels: Tensor  # (B,)
    targets: Tensor | None = None  # (n, L), n ≤ B: tokens that DD1's map gives the first n latents
    real: tuple[Tensor, Tensor] | None = None  # tokens (B, L), labels (B,) of data


@dataclasses.dataclass
class GeneratorPass:
    """What one pass of the generator gave, of which part of which batch."""

    x: Tensor  # output of G, with its graph where it is to learn, (B, L, C)
    tokens: Tensor  # its tokens, (B, L)
    labels: Tensor  # (B,)
    batch: Batch
    part: Part = WHOLE
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
        before_part (Callable | None): called before each backward pass, with the network and
            whether it is the last of this update: sharded gradients are averaged in that one alone.
        total (Callable | None): sum of a tensor over all processes, for what is logged of a whole
            batch; None is one process.
        discriminator (Discriminator | None), discriminator_optimizer: of the adversarial term;
            None: there is none.

    Attributes:
        adversarial (float): weight of that term in G's loss from now on; the options' at first.
    """

    def __init__(
        self, teacher: Teacher, generator: ConditionalScoreModel, guidance: ConditionalScoreModel,
        generator_optimizer: torch.optim.Optimizer, guidance_optimizer: torch.optim.Optimizer,
        options: CSDOptions, after_backward: Callable[[torch.nn.Module], None] | None = None,
        average: EMA | None = None,
        before_part: Callable[[torch.nn.Module, bool], None] | None = None,
        total: Callable[[Tensor], Tensor] | None = None,
        discriminator: Discriminator | None = None,
        discriminator_optimizer: torch.optim.Optimizer | None = None,
    ):
        self.teacher, self.generator, self.guidance = teacher, generator, guidance
        self.optimizers = {generator: generator_optimizer, guidance: guidance_optimizer}
        self.discriminator = discriminator
        if discriminator is not None:
            self.optimizers[discriminator] = cast(torch.optim.Optimizer, discriminator_optimizer)
        self.o, self.adversarial = options, options.adversarial
        self.after_backward = after_backward or (lambda module: None)
        self.before_part, self.total = before_part, total or (lambda a: a)
        self.ema = average_of(generator, options) if average is None else average

    def step(
        self, eps: Tensor, labels: Tensor, targets: Tensor | None = None, hold: bool = False,
        part: Part = WHOLE, real: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, float]:
        """One iteration on latents (B, L, C) and labels (B,), of which `part` is this process's.

        With `hold` G and its average stand still, and ψ alone takes its steps (alignment).

        `targets` (n, L), n ≤ B: tokens that DD1's map gives the first n latents; G also regresses
        them, with weight `pair_weight` (better agreement, less variety: docs/experiments.md).
        `real`: tokens (B, L) and labels (B,) of data, which the discriminator needs if there is
        one.

        Returns:
            dict[str, float]: `nll`, the teacher's nats per sampled token, and `entropy` of the
            batch's tokens, where the teacher can tell; `fcs`; `to_code`, mean squared distance of
            G's output to its codes; `csd`; and the gradient norms before clipping; with targets
            `right_tokens`, the share it meets; with a discriminator `told_apart`, the share of
            tokens that it takes for what they are, and `adversarial`, G's loss by it. Where there
            are several passes, their means, but `entropy` is of all of them, in all processes.
        """
        norms = {self.generator: 0.0}
        parts, batch = part.split(self.o.accumulate), Batch(eps, labels, targets, real)
        made = self.passes(batch, parts, hold)
        for network, loss in self.updates(hold):
            norms[network] = self._update(network, self.losses(network, loss, made))
        if not hold:
            self.ema.update(self.generator)
        numbers = {k: torch.stack([m.numbers[k] for m in made]).mean() for k in made[0].numbers}
        if "entropy" in numbers:
            numbers["entropy"] = self.entropy(made)
        first = [k for k in ("nll", "fcs", "entropy", "to_code", "csd") if k in numbers]
        return {**{k: numbers[k].item() for k in (*first, *numbers)},
                "grad_g": norms[self.generator], "grad_psi": norms[self.guidance]}

    def passes(
        self, batch: Batch, parts: Sequence[Part], hold: bool = False
    ) -> list[GeneratorPass]:
        """Passes of G on parts of a batch. One alone keeps its graph for the step of G; of several,
        each is made again for it."""
        with torch.set_grad_enabled(not hold and len(parts) == 1):
            return [self.generate(batch, part) for part in parts]

    def losses(
        self, network: ConditionalScoreModel, loss: Callable[[GeneratorPass], Tensor],
        made: list[GeneratorPass],
    ) -> Iterator[Tensor]:
        """The loss of each pass for one of `updates`, each computed when it is asked for."""
        parts, device = [m.part for m in made], made[0].x.device
        for m, part in zip(made, same_draws(parts, device), strict=True):
            if network is self.generator and len(made) > 1:
                with_graph = self.generate(m.batch, part)
                with_graph.numbers = m.numbers
                yield loss(with_graph)
            else:
                yield loss(m)

    def generate(self, batch: Batch, part: Part = WHOLE) -> GeneratorPass:
        """One pass of G on a part of a batch, with its graph."""
        labels = part.take(batch.labels)
        x = self.generator.generate(part.take(batch.eps), labels)  # (B, L, C)
        tokens = self.teacher.quantise(x.detach())
        gap = (x.detach() - self.teacher.vectors(tokens)).square().mean()
        return GeneratorPass(x, tokens, labels, batch, part, {"to_code": gap})

    def updates(
        self, hold: bool = False
    ) -> Iterator[tuple[ConditionalScoreModel, Callable[[GeneratorPass], Tensor]]]:
        """The updates of an iteration in their order, each as a network and the loss of a pass that
        it learns from: r times FCS, then, unless G is on `hold`, the discriminator's if there is
        one, and CSD."""
        for _ in range(self.o.guidance_steps):
            yield self.guidance, self.fake
        if not hold:
            if self.discriminator is not None:
                yield self.discriminator, self.tell_apart
            yield self.generator, self.distil

    def fake(self, made: GeneratorPass) -> Tensor:
        """What ψ learns from: FCS on the samples of G's step, or on fresh ones."""
        return self.fcs(self.again(made) if self.o.fresh else made)

    def distil(self, made: GeneratorPass) -> Tensor:
        """What G learns from: CSD, the adversarial term, and the regression of known tokens."""
        loss = self.csd(made)
        if self.discriminator is not None and self.adversarial > 0:
            loss = loss + self.adversarial * self.deceive(self.discriminator, made)
        if made.batch.targets is not None:
            loss = loss + self.o.pair_weight * self.pairs(made)
        return loss

    @torch.no_grad()
    def again(self, made: GeneratorPass) -> GeneratorPass:
        """Another pass of G, without a graph: new latents, the batch's labels in another order. Its
        numbers are logged as those of `made`."""
        labels = made.batch.labels
        labels = labels[torch.randperm(len(labels), device=labels.device)]
        new = self.generate(Batch(torch.randn_like(made.batch.eps), labels), made.part)
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
                        *draw(made.x, o, o.fcs_times, made.part),
                        find_loss_weight(o.weighting))
        made.numbers["fcs"] = loss.detach()
        return loss

    def csd(self, made: GeneratorPass) -> Tensor:
        """CSD loss of x, prefix stop-gradient for both scores (method §4 (6)–(7))."""
        score = teacher_score(self.teacher, made.tokens, made.labels, self.o)
        eps, t = draw(made.x, self.o, part=made.part)
        with frozen(self.guidance):
            with torch.no_grad():
                h = self.guidance.features(self._prefix(made), made.labels)
            loss = csd_loss(score.denoise, model_denoiser(self.guidance, h), made.x, eps, t,
                            self.o)
        self.note(made, score)
        made.numbers["csd"] = loss.detach()
        return loss

    def tell_apart(self, made: GeneratorPass) -> Tensor:
        """What the discriminator learns from: tokens of data against those of G (method §4 (8))."""
        found, part = made.batch.real, made.part
        if found is None or self.discriminator is None:
            raise DD2Error("A discriminator needs tokens of data to compare with: give `real`.")
        both = torch.cat([self.teacher.vectors(part.take(found[0])),
                          self.teacher.vectors(made.tokens)])
        noised = [self._noised(x, made) for x in both.chunk(2)]
        x_t, t = (torch.cat(a) for a in zip(*noised, strict=True))
        logits = self.discriminator(x_t, t, torch.cat([part.take(found[1]), made.labels]))
        real, fake = logits.chunk(2)
        right = ((real > 0).float().mean() + (fake <= 0).float().mean()) / 2
        made.numbers["told_apart"] = right
        return discriminator_loss(real, fake)

    def deceive(self, discriminator: Discriminator, made: GeneratorPass) -> Tensor:
        """The adversarial term of G: its codes, with the gradient going to its vectors straight
        through the rounding, are to be taken for data (method §4 (9))."""
        codes = self.teacher.vectors(made.tokens).detach().requires_grad_()
        with frozen(discriminator):  # backward too: checkpointed blocks are computed again there
            loss = adversarial_loss(discriminator(*self._noised(codes, made), made.labels))
            gradient, = torch.autograd.grad(loss, codes)
        made.numbers["adversarial"] = loss.detach()
        return loss.detach() + ((made.x - made.x.detach()) * gradient).sum()

    def _noised(self, x: Tensor, made: GeneratorPass) -> tuple[Tensor, Tensor]:
        """x_t (B, L, C) and t (B, 1, 1), one time per image, for vectors like those of `made`."""
        n, part = len(made.batch.labels), made.part
        t = draw_times((n, 1, 1), self.o.t_min, self.o.adversarial_t_max, x)
        eps = torch.randn((n, *x.shape[1:]), device=x.device, dtype=x.dtype)
        t = part.take(t)
        return add_noise(x, part.take(eps), t), t

    def entropy(self, made: list[GeneratorPass]) -> Tensor:
        """Of the tokens of the whole batch, whatever passes and processes it is divided into."""
        assert isinstance(self.teacher, CodebookTeacher)  # no other has tokens to count
        counts = [m.tokens.flatten().bincount(minlength=self.teacher.num_codes) for m in made]
        return entropy_of(self.total(torch.stack(counts).sum(0)))

    def note(self, made: GeneratorPass, score: TeacherScore) -> None:
        """Keep what the teacher can tell of the samples for the log."""
        made.numbers |= score.statistics()

    def pairs(self, made: GeneratorPass) -> Tensor:
        """DD1's regression of the known tokens among this part's; the mean over all parts is that
        over all known tokens."""
        if not isinstance(self.teacher, CodebookTeacher):
            raise DD2Error("Known tokens can be regressed where the teacher has a codebook alone: "
                           "set pair_weight=0.")
        known, o = made.batch.targets, self.o
        assert known is not None
        targets = made.part.take(known)  # may be none at all
        share = len(targets) * made.part.count / len(known)
        x, right = made.x[: len(targets)], made.tokens[: len(targets)] == targets
        made.numbers["right_tokens"] = share * right.sum() / max(1, right.numel())
        if not len(targets):
            return x.sum()  # zero, with a graph
        return share * dd1_loss(x, targets, self.teacher.codebook, o.pair_sharpness,
                                o.pair_latent_weight)

    def _update(self, network: ConditionalScoreModel, losses: Iterable[Tensor]) -> float:
        optimizer = self.optimizers[network]
        optimizer.zero_grad(set_to_none=True)
        backward_mean(network, losses, self.o.accumulate, self.before_part)
        self.after_backward(network)
        norm = clip_gradients(network, self.o.clip)
        optimizer.step()
        return norm
