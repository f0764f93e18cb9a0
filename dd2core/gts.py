"""The scores of teacher and network on noised tokens, and the ground-truth-score step.

(method §4 (4))"""

import dataclasses

import torch
from torch import Tensor

from dd2core.losses import gts_loss
from dd2core.schedule import draw_times
from dd2core.score import posterior_mean
from dd2core.score_model import ConditionalScoreModel
from dd2core.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """How the scores are evaluated."""

    times: int = 2  # S, noise times per token
    t_min: float = 0.05  # smallest time
    t_max: float = 0.95  # largest time
    cfg: float | None = 1.5  # guidance of the teacher inside the score; None is off
    chunk: int | None = None  # most tokens per posterior matrix; None is all at once
    bf16: bool = False  # autocast the teacher's transformer; the posterior stays float32


def draw(x: Tensor, o: ScoreOptions) -> tuple[Tensor, Tensor]:
    """Noise (S, B, L, C) and times (S, B, L, 1) for tokens like x (B, L, C)."""
    t = draw_times((o.times, *x.shape[:-1], 1), o.t_min, o.t_max, x)
    return torch.randn(o.times, *x.shape, device=x.device, dtype=x.dtype), t


def teacher_log_probs(teacher: Teacher, tokens: Tensor, labels: Tensor, o: ScoreOptions) -> Tensor:
    """The teacher's guided log p(· | q_<i) for the prefix `tokens` (B, L): (B, L, V), float32."""
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=o.bf16):
        return teacher.log_probs(tokens, labels, cfg=o.cfg)


def teacher_denoiser(teacher: Teacher, log_p: Tensor, o: ScoreOptions):
    """D_Φ(x_t, t) in closed form, given the teacher's log p (B, L, V)."""
    return lambda x_t, t: posterior_mean(x_t, t, log_p, teacher.codebook, o.chunk)


def guidance_denoiser(model: ConditionalScoreModel, h: Tensor):
    """D_ψ(x_t, t) for prefix features h (B, L, D)."""
    return lambda x_t, t: model.denoise(x_t, t, h)


def gts_step_loss(
    model: ConditionalScoreModel, teacher: Teacher, tokens: Tensor, labels: Tensor,
    o: ScoreOptions, as_vectors: bool = False,
) -> Tensor:
    """GTS loss of a batch of data tokens (B, L), labels (B,) (method §4 (4)).

    With `as_vectors` the prefix is given as code vectors, which trains the generator's
    Linear(C, D) where the teacher has a token table (method §3).
    """
    codes = teacher.codebook[tokens]  # (B, L, C)
    h = model.features(codes if as_vectors else tokens, labels)
    eps, t = draw(codes, o)
    log_p = teacher_log_probs(teacher, tokens, labels, o)
    target = teacher_denoiser(teacher, log_p, o)
    return gts_loss(guidance_denoiser(model, h), target, codes, eps, t)
