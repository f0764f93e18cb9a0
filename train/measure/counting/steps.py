"""One step of each stage that `dry_run` counts, without optimisers; and which kinds there are."""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.csd import Batch, CSDTrainer
from dd2core.gts import gts_step_loss
from dd2core.noise import Part, same_draws
from dd2core.teacher import Teacher
from dd2core.tools.gradients import backward_mean
from train.settings.schema import AdaptStage, Config, CSDStage, GTSStage, Stage

# Images of a batch, the parts of it that are worked on, and what is called after each kind of work.
Step = Callable[[int, list[Part], Callable[[str], None]], None]


def gts_step(o: GTSStage, teacher: Teacher, networks: list) -> Step:
    """Forward and backward passes of the stage gts on parts of a batch."""
    model = networks[0]

    def step(batch: int, parts: list[Part], done: Callable[[str], None]) -> None:
        tokens, labels = random_data(teacher, batch)
        for head_only in (True, False) if o.head_steps else (False,):
            model.zero_grad(set_to_none=True)  # as in the stages: the last step's lived until now
            backward_mean(model, (
                gts_step_loss(model, teacher, part.take(tokens), part.take(labels), o, True,
                              head_only, part, o.target)
                for part in same_draws(parts, teacher.device)), len(parts))
            done("head" if head_only else "whole")

    return step


def csd_step(o: CSDStage, teacher: Teacher, networks: list) -> Step:
    """The trainer's own updates, one of each network, without what needs content: optimisers and
    logged numbers."""
    judge = networks[2] if len(networks) > 2 else None
    trainer = CSDTrainer(teacher, *networks[:2], None, None,
                         dataclasses.replace(o, guidance_steps=1), discriminator=judge)
    trainer.note = lambda made, score: None

    def step(batch: int, parts: list[Part], done: Callable[[str], None]) -> None:
        real = random_data(teacher, batch)
        eps = torch.randn(batch, teacher.num_tokens, teacher.code_dim)
        made = trainer.passes(Batch(eps, real[1], real=real), parts)
        done("pass of G")
        names = {trainer.generator: "G", trainer.guidance: "psi", judge: "discriminator"}
        for network, loss in trainer.updates():
            network.zero_grad(set_to_none=True)
            backward_mean(network, trainer.losses(network, loss, made), len(parts))
            done(names[network])

    return step


def adapt_step(o: AdaptStage, teacher: Teacher, networks: list) -> Step:
    """Forward and backward passes of the stage adapt."""
    model = networks[0]

    def step(batch: int, parts: list[Part], done: Callable[[str], None]) -> None:
        model.zero_grad(set_to_none=True)
        data = [random_data(teacher, batch // part.count) for part in parts]
        with torch.autocast("cpu", torch.bfloat16, enabled=o.bf16):
            losses = (F.cross_entropy(model(x, y).float().flatten(0, 1), x.flatten())
                      for x, y in data)
            backward_mean(model, losses, len(parts))
        done("whole")

    return step


def kinds_of_steps(o: Stage, flops: dict[str, int]) -> list[tuple[int, str, int]]:
    """The steps of a stage by what they do, the usual ones first: how many, in words, operations.

    Args:
        o (Stage): of the stage.
        flops (dict[str, int]): of each kind of work, as the steps above name it.
    """
    if isinstance(o, GTSStage):
        few = min(o.head_steps, o.steps)
        return [(o.steps - few, "", flops["whole"]),
                (few, "that train the head alone", flops.get("head", 0))]
    if not isinstance(o, CSDStage):
        return [(o.steps, "", flops["whole"])]
    at = o.steps if o.align_at is None else min(o.align_at, o.steps)
    held = min(o.align_steps, o.steps - at)
    r, after = o.guidance_steps, o.guidance_steps_after or o.guidance_steps
    psi = flops["psi"]
    generator = flops["pass of G"] + flops["G"] + flops.get("discriminator", 0)
    return [(at, "", r * psi + generator),
            (held, "on hold", r * psi + flops["pass of G"]),
            (o.steps - at - held, "after the alignment", after * psi + generator)]


STEPS = {  # stage → step, networks that it trains; see `trained`
    "adapt": (adapt_step, 1), "gts": (gts_step, 1), "csd": (csd_step, 2), "tune": (csd_step, 2)}


def trained(cfg: Config, stage: str) -> int:
    """How many networks a stage trains, the discriminator of an adversarial term among them."""
    opts = getattr(cfg, stage)
    return STEPS[stage][1] + (isinstance(opts, CSDStage) and opts.adversarial > 0)


def random_data(teacher: Teacher, batch: int) -> tuple[Tensor, Tensor]:
    """Tokens (batch, L) and labels (batch,) without a meaning."""
    tokens = torch.randint(teacher.num_codes, (batch, teacher.num_tokens))
    return tokens, torch.randint(teacher.num_classes, (batch,))
