"""What the tabs of own pictures and the gallery ask of a pipeline, each in its turn."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.serve.turns import turn
from dd2core.inpaint import erased_tokens, inpaint
from dd2core.noise import stream_seed
from dd2core.teacher import span_index
from dd2core.tools.images import to_float


@dataclass(frozen=True)
class Rebuilt:
    """A picture as the tokenizer has it.

    Attributes:
        picture, image: uint8 (H, W, C), as it came and as its tokens paint it.
        erased: tokens to be sampled again.
        tokens: of the picture in all.
    """

    picture: np.ndarray
    image: np.ndarray
    erased: int
    tokens: int


@dataclass(frozen=True)
class Way:
    """One way of filling what is erased.

    Attributes:
        image: uint8 (H, W, C).
        passes: of a network.
        one_step, teacher: tokens that each of them gave.
    """

    image: np.ndarray
    passes: int
    one_step: int
    teacher: int


@torch.no_grad()
def rebuild(pipe: Any, picture: Tensor, mask: Tensor | None) -> Rebuilt:
    """Encode and decode a picture (1, C, H, W); `mask` (1, H, W), or None: nothing is erased."""
    with turn(live=True):
        tokens = pipe.teacher.encode(to_float(picture).to(pipe.device))
        image = pipe.engine.images(tokens)[0].cpu().numpy()
    erased = 0 if mask is None else int(erased_tokens(pipe.teacher, mask).sum())
    return Rebuilt(_pixels(picture), image, erased, pipe.teacher.num_tokens)


@torch.no_grad()
def fill(pipe: Any, picture: Tensor, mask: Tensor, label: int, seed: int) -> list[Way]:
    """Fill what is erased: by the teacher, half by one step and half by the teacher, by one step.

    Raises:
        DD2Error: see `dd2core.inpaint`.
    """
    with turn():
        tokens = pipe.teacher.encode(to_float(picture).to(pipe.device))
    erased = erased_tokens(pipe.teacher, mask)
    ways = []
    for start in _starts(pipe.teacher, erased):
        with turn():
            made = inpaint(pipe, tokens, erased, [label], own_seed(seed), start)
        ways.append(Way(made.images[0], made.passes, int(made.by_one_step.sum()),
                        int(made.by_teacher.sum())))
    return ways


def own_seed(seed: int) -> int:
    """The seed that fills: another one than of the model's picture, which one step would repeat."""
    return stream_seed(seed, "fill")


def _starts(teacher: Any, erased: Tensor) -> tuple[int, int, int]:
    """The first step of the teacher: none left out, the middle one of those with an erased token,
    and none at all."""
    touched = [k for k, span in enumerate(teacher.spans) if erased[:, span_index(span)].any()]
    return 0, touched[len(touched) // 2] if touched else 0, teacher.num_steps


@dataclass(frozen=True)
class Painted:
    """One-step images uint8 (B, H, W, C), all from one pass, and what it took."""

    images: np.ndarray
    seconds: float


def gallery(pipe: Any, labels: list[int], seed: int) -> Painted:
    """One-step images of the seeds from `seed` on, one each, so that each seed paints alone what
    it paints here; in one pass."""
    latents = torch.cat([pipe.latents(1, seed + i) for i in range(len(labels))])
    with turn(live=True):
        since = time.perf_counter()
        sample = pipe.sample_one_step(labels, latents=latents)
        return Painted(sample.images, time.perf_counter() - since)


def _pixels(picture: Tensor) -> np.ndarray:
    return picture[0].permute(1, 2, 0).numpy()
