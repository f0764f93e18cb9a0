"""Scores of teacher and network on noised tokens, and the step of ground-truth score (GTS).

What D_Φ and D_ψ are evaluated on (options, noise, prefixes) is written here once, for GTS, CSD and
the measurements (method §2, §4 (4)).
"""

import dataclasses

import torch
from torch import Tensor

from dd2core.losses import Denoiser, gts_loss
from dd2core.noise import WHOLE, Part
from dd2core.sampling import Sampling
from dd2core.schedule import draw_times, find_loss_weight
from dd2core.score_model import ConditionalScoreModel
from dd2core.teacher import Teacher, TeacherScore

GTS_TARGETS = ("score", "sample")  # of `gts_step_loss`


@dataclasses.dataclass
class ScoreOptions:
    """How the scores are evaluated."""

    times: int = 2  # S, noise times per token
    t_min: float = 0.05  # smallest time
    t_max: float = 0.95  # largest time
    sampling: Sampling = Sampling()  # noqa: RUF009 (frozen) guidance and filters in the score
    chunk: int | None = None  # most tokens per posterior matrix; None is all at once
    bf16: bool = False  # autocast the teacher's transformer; the posterior stays float32
    weighting: str = "preconditioned"  # λ(t) of (4), (5): preconditioned or velocity (1/t²)

    def __post_init__(self) -> None:
        find_loss_weight(self.weighting)


def draw(
    x: Tensor, o: ScoreOptions, times: int | None = None, part: Part = WHOLE
) -> tuple[Tensor, Tensor]:
    """Noise (S, B, L, C) and times (S, B, L, 1) for tokens like x (B, L, C).

    S is `times`, or that of the options. Where x is a part of a batch, all of it is drawn.
    """
    shape = (times or o.times, len(x) * part.count, *x.shape[1:])
    t = part.take(draw_times((*shape[:-1], 1), o.t_min, o.t_max, x), 1)
    return part.take(torch.randn(shape, device=x.device, dtype=x.dtype), 1), t


def teacher_score(teacher: Teacher, tokens: Tensor, labels: Tensor, o: ScoreOptions
                  ) -> TeacherScore:
    """The teacher's score given the prefix `tokens` and labels (B,), under `o.sampling`."""
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=o.bf16):
        return teacher.score(tokens, labels, o.sampling, o.chunk)


def model_denoiser(model: ConditionalScoreModel, h: Tensor) -> Denoiser:
    """D(x_t, t) of a score model for prefix features h (B, L, D)."""
    return lambda x_t, t: model.denoise(x_t, t, h)


def gts_step_loss(
    model: ConditionalScoreModel, teacher: Teacher, tokens: Tensor, labels: Tensor,
    o: ScoreOptions, as_vectors: bool = False, head_only: bool = False, part: Part = WHOLE,
    target: str = "score",
) -> Tensor:
    """GTS loss of a batch of data tokens (B, L), labels (B,), or of a part (method §4 (4)).

    With `as_vectors` the prefix is given as code vectors, which trains the generator's
    Linear(C, D) where the teacher has a token table (method §3). With `head_only` the backbone
    gets no gradient, and no backward pass. Its features are computed once for all S noise times.
    With `target` "sample" the tokens themselves are the target: the ordinary diffusion loss, whose
    minimiser is the same where the tokens come as the teacher draws them (paper Tab. 7).
    """
    codes = teacher.vectors(tokens)  # (B, L, C)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not head_only):
        h = model.features(codes if as_vectors else tokens, labels)
    eps, t = draw(codes, o, part=part)
    known: Denoiser = lambda x_t, t: codes.expand_as(x_t)  # noqa: E731 (a D beside `denoise`)
    if target == "score":
        known = teacher_score(teacher, tokens, labels, o).denoise
    return gts_loss(model_denoiser(model, h), known, codes, eps, t, find_loss_weight(o.weighting))
