"""Sampling the erased tokens again, the others forced, with any `Teacher`."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.noise import uniforms
from dd2core.pipeline import Labels, Pipeline, check_seed, check_whole
from dd2core.teacher import span_index


@dataclasses.dataclass(frozen=True)
class Filled:
    """What `inpaint` returns.

    Attributes:
        images: uint8 (B, H, W, channels) numpy.
        tokens: (B, L).
        passes: network forward passes; a guided pass of 2B rows counts as one.
        by_teacher: bool (B, L), the tokens that the teacher sampled.
        by_one_step: bool (B, L), those that are the one-step model's.
    """

    images: np.ndarray
    tokens: Tensor
    passes: int
    by_teacher: Tensor
    by_one_step: Tensor


def inpaint(
    pipe: Pipeline, tokens: Tensor, erased: Tensor, labels: Labels, seed: int = 0, start: int = 0,
    cfg: float | None = None, temperature: float | None = None, top_k: int | None = None,
    top_p: float | None = None,
) -> Filled:
    """Sample the erased tokens of images again.

    The erased tokens of the steps before `start` are taken from the one-step model's image of
    (seed, label), which knows nothing of what is left of the picture; those from `start` on are
    sampled by the teacher given all tokens of earlier steps, kept or new. Steps without an erased
    token cost nothing. With everything erased, `start` = 0 is `Pipeline.sample_teacher`, `start` =
    K is `Pipeline.sample_one_step`, and what lies between is `Pipeline.refine`.

    Args:
        pipe (Pipeline): of the model.
        tokens (Tensor): of the pictures, as `Teacher.encode` gives them, (B, L).
        erased (Tensor): bool (B, L), see `erased_tokens`.
        labels: one class per image.
        seed (int): ≥ 0; the same numbers as in the samplers.
        start (int): 0…K.
        cfg, temperature, top_k, top_p: None is the preset's value.

    Raises:
        DD2Error: nothing is erased, or an argument out of its range.
    """
    y, steps = pipe.check_labels(labels), pipe.teacher.num_steps
    seed, start = check_seed(seed), check_whole(start, "start")
    if not 0 <= start <= steps:
        raise DD2Error(f"start={start} must lie in 0…{steps}, the teacher's steps.")
    _check(pipe, tokens, erased, len(y))
    erased = erased.to(pipe.device)
    tokens = tokens.to(pipe.device).clone()
    late = torch.zeros_like(erased)  # tokens from `start` on
    for span in pipe.teacher.spans[start:]:
        late[:, span_index(span)] = True
    own, passes = erased & ~late, 0
    if own.any():
        tokens, passes = _put(own, pipe.sample_one_step(y, seed).tokens, tokens), 1
    noise = uniforms(len(y), pipe.teacher.num_tokens, seed)
    sampling = pipe.sampling.override(
        cfg=cfg, temperature=temperature, top_k=top_k, top_p=top_p)
    tokens, taken = _by_teacher(pipe, tokens, erased, y, start, noise, sampling.keywords())
    images = pipe.engine.images(tokens).cpu().numpy()
    return Filled(images, tokens, passes + taken, erased & late, own)


def _by_teacher(
    pipe: Pipeline, tokens: Tensor, erased: Tensor, y: Tensor, start: int, noise: Tensor,
    sampling: dict,
) -> tuple[Tensor, int]:
    """The tokens after the teacher's steps from `start` on, and how many were taken.

    A walk over steps goes on as long as the teacher may keep all that it samples; after a step
    that it may keep in part, or none of, another walk begins behind the tokens as they then are.
    """
    walk, passes = None, 0
    for step in range(start, pipe.teacher.num_steps):
        where = span_index(pipe.teacher.spans[step])
        if not erased[:, where].any():
            walk = None
            continue
        if walk is None:
            walk = pipe.engine.steps(y, noise=noise, prefix=tokens, start=step, **sampling)
        sampled, _ = next(walk)
        passes += 1
        here = torch.zeros_like(erased)
        here[:, where] = erased[:, where]
        tokens = _put(here, sampled, tokens)
        if not erased[:, where].all():
            walk = None
    return tokens, passes


def _put(where: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` where `where` (B, L) says so, else `old`; tokens may be vectors."""
    return torch.where(where.reshape(*where.shape, *(1,) * (old.ndim - 2)), new, old)


def _check(pipe: Pipeline, tokens: Tensor, erased: Tensor, count: int) -> None:
    shape = (count, pipe.teacher.num_tokens)
    if tokens.shape[:2] != shape:
        raise DD2Error(f"tokens must have the shape {shape}, one picture per label.")
    if erased.shape != shape or erased.dtype != torch.bool:
        raise DD2Error(f"erased must be true or false for each token, shape {shape}.")
    if not erased.any():
        raise DD2Error("Nothing is erased: erase a part of the picture first.")
    codes = getattr(pipe.teacher, "num_codes", None)
    if codes is not None and not (tokens.min() >= 0 and tokens.max() < codes):
        raise DD2Error(f"tokens must be codes from 0 to {codes - 1}.")
