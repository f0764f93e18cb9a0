"""Parallel sampling, DD1 and DD2 on a distribution that is known, by total variation."""

import dataclasses
import time

import torch
from torch import Tensor

from dd2core.baselines import dd1_loss, dd1_pairs, parallel_sample
from dd2core.csd import CSDOptions, CSDTrainer
from dd2core.ema import EMA
from dd2core.gts import ScoreOptions, gts_step_loss
from dd2core.noise import stream_seed
from dd2core.sampling import Sampling
from dd2core.score_model import ConditionalScoreModel
from train.toys.field import FieldTeacher

METHODS = ("true", "parallel", "dd1", "dd2_dmd", "dd2_sid")


@dataclasses.dataclass(frozen=True)
class Budget:
    """Steps and sizes of one study."""

    gts: int = 300  # steps of ψ
    distil: int = 500  # steps of DD1, and of CSD
    batch: int = 128  # sequences per step
    pairs: int = 4000  # of DD1, made once
    samples: int = 30_000  # whose histogram is compared with the joint


def total_variation(tokens: Tensor, joint: Tensor) -> float:
    """½ Σ |share of the tokens (N, L) − probability| over all (V,) · L sequences, in [0, 1]."""
    place = torch.zeros(len(tokens), dtype=torch.int64)
    for q in tokens.unbind(1):
        place = place * joint.shape[0] + q
    share = place.bincount(minlength=joint.numel()).double() / len(tokens)
    return 0.5 * (share - joint.flatten().double()).abs().sum().item()


def study(joint: Tensor, seed: int, budget: Budget) -> dict[str, float]:
    """Total variation of every method of `METHODS` and the seconds of the whole; `true` are as
    many draws of the joint itself: what a perfect sampler would get."""
    since, b = time.perf_counter(), budget
    torch.manual_seed(stream_seed(seed, "toy"))
    teacher = FieldTeacher(joint)
    labels = torch.zeros(b.samples, dtype=torch.int64)
    noise = torch.rand(b.samples, teacher.num_tokens)
    found = {"true": teacher.sample(labels, noise=noise),
             "parallel": parallel_sample(teacher, labels, noise, Sampling())}
    psi = _ground_truth_score(teacher, b)
    found["dd1"] = _one_step(teacher, _dd1(teacher, psi, b), b)
    for form in ("dmd", "sid"):
        found[f"dd2_{form}"] = _one_step(teacher, _dd2(teacher, psi, form, b), b)
    numbers = {name: total_variation(tokens, joint) for name, tokens in found.items()}
    return {**numbers, "seconds": time.perf_counter() - since}


def _new(teacher: FieldTeacher, like: ConditionalScoreModel | None = None
         ) -> ConditionalScoreModel:
    model = ConditionalScoreModel(teacher.backbone(), teacher.code_dim, 32, 2)
    if like is not None:
        model.load_state_dict(like.state_dict())
    return model


def _adam(model: ConditionalScoreModel, lr: float, beta1: float) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr, betas=(beta1, 0.99))


def _step(optimizer: torch.optim.Adam, loss: Tensor, share: float) -> None:
    """One step at the first rate times 1 − share of the way, a tenth at least."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("first", group["lr"]) * max(0.1, 1 - share)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _ground_truth_score(teacher: FieldTeacher, b: Budget) -> ConditionalScoreModel:
    psi = _new(teacher)
    labels, optimizer = torch.zeros(b.batch, dtype=torch.int64), _adam(psi, 3e-3, 0.9)
    for i in range(b.gts):
        tokens = teacher.sample(labels)
        loss = gts_step_loss(psi, teacher, tokens, labels, ScoreOptions(2, 0.02, 0.99))
        _step(optimizer, loss, i / b.gts)
    return psi


def _dd1(teacher: FieldTeacher, psi: ConditionalScoreModel, b: Budget) -> torch.nn.Module:
    g = _new(teacher, psi)
    eps = torch.randn(b.pairs, teacher.num_tokens, teacher.code_dim)
    labels = torch.zeros(b.pairs, dtype=torch.int64)
    tokens = dd1_pairs(teacher, labels, eps, Sampling())
    average, optimizer = EMA(g, 0.98), _adam(g, 3e-3, 0.9)
    for i in range(b.distil):
        pick = torch.randint(b.pairs, (b.batch,))
        x = g.generate(eps[pick], labels[pick])
        _step(optimizer, dd1_loss(x, tokens[pick], teacher.codebook), i / b.distil)
        average.update(g)
    return average.module


def _dd2(teacher: FieldTeacher, psi: ConditionalScoreModel, form: str, b: Budget
         ) -> torch.nn.Module:
    g, guidance = _new(teacher, psi), _new(teacher, psi)
    options = CSDOptions(times=2, form=form, ema=0.98)
    first = {g: 2e-3, guidance: 4e-3}
    optimizers = {model: _adam(model, lr, 0.0) for model, lr in first.items()}
    trainer = CSDTrainer(teacher, g, guidance, optimizers[g], optimizers[guidance], options)
    labels = torch.zeros(b.batch, dtype=torch.int64)
    for i in range(b.distil):
        for model, lr in first.items():
            optimizers[model].param_groups[0]["lr"] = lr * max(0.1, 1 - i / b.distil)
        trainer.step(torch.randn(b.batch, teacher.num_tokens, teacher.code_dim), labels)
    return trainer.ema.module


@torch.no_grad()
def _one_step(teacher: FieldTeacher, g: torch.nn.Module, b: Budget) -> Tensor:
    """Tokens (samples, L) of a generator."""
    parts = torch.zeros(b.samples, dtype=torch.int64).split(10_000)
    return torch.cat([teacher.quantise(g.generate(
        torch.randn(len(y), teacher.num_tokens, teacher.code_dim), y)) for y in parts])
