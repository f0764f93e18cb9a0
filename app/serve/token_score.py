"""One token of a one-step image: what the teacher expects there, and both denoised means."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from app.serve.turns import turn
from dd2core.schedule import add_noise
from dd2core.score import posterior_mean, posterior_weights

TIMES = 49  # points of a curve against t


@dataclass(frozen=True)
class Token:
    """What is known about token i. N is the number of times, V of codes; places are in the plane
    in which the codes that matter here spread most."""

    place: int
    step: int
    time: float
    image: np.ndarray  # uint8 (H, W, C)
    code: int
    p: np.ndarray  # (V,)
    after: np.ndarray  # (V,), the posterior at `time`
    times: np.ndarray  # (N,)
    codes: np.ndarray  # (V, 2)
    noised: np.ndarray  # (N, 2)
    teacher: np.ndarray  # (N, 2), D_Φ
    fake: np.ndarray | None  # (N, 2), D_ψ; None without a guidance network
    gap: np.ndarray | None  # (N,), ‖D_Φ − D_ψ‖ in all C dimensions


@torch.no_grad()
def examine(pipe: Any, label: int, seed: int, place: int, time: float) -> Token:
    """Noise token `place` of the one-step image of (label, seed) at every time, and denoise it."""
    teacher = pipe.teacher
    with turn(live=True):
        sample = pipe.sample_one_step([label], seed=seed)
        tokens, y = sample.tokens, torch.tensor([label], device=pipe.device)
        log_p = teacher.score(tokens, y, pipe.sampling).log_p[0, place]  # (V,)
        x_0, eps = teacher.codebook[tokens[0, place]], pipe.latents(1, seed + 1)[0, place]  # (C,)
        times = torch.cat([torch.linspace(0.02, 0.98, TIMES), torch.tensor([time])])
        t = times.to(pipe.device)[:, None]  # (N + 1, 1)
        x_t = add_noise(x_0, eps, t)  # (N + 1, C)
        d_phi = posterior_mean(x_t, t, log_p, teacher.codebook)  # (N + 1, C)
        d_psi = _guidance_mean(pipe, tokens, y, place, x_t, t)
        after = posterior_weights(x_t[-1], t[-1], log_p, teacher.codebook)  # (V,)
    flat = _plane(teacher.codebook, log_p.exp())
    order = times.argsort().to(pipe.device)
    step = next(k for k, (_, stop) in enumerate(teacher.spans) if place < stop)

    def to_plane(x: torch.Tensor) -> np.ndarray:
        return (x[order] @ flat).cpu().numpy()

    return Token(
        place, step, time, sample.images[0], int(tokens[0, place]), log_p.exp().cpu().numpy(),
        after.cpu().numpy(), times[order.cpu()].numpy(), (teacher.codebook @ flat).cpu().numpy(),
        to_plane(x_t), to_plane(d_phi), None if d_psi is None else to_plane(d_psi),
        None if d_psi is None else (d_phi - d_psi)[order].norm(dim=-1).cpu().numpy(),
    )


def _guidance_mean(pipe: Any, tokens, y, place: int, x_t, t) -> torch.Tensor | None:
    """D_ψ (N, C) for x_t (N, C) and t (N, 1) at one place."""
    if pipe.guidance is None:
        return None
    h = pipe.guidance.features(tokens, y)[:, place : place + 1]  # (1, 1, D)
    return pipe.guidance.denoise(x_t[:, None], t[:, None], h)[:, 0]


def _plane(codebook: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """The two directions (C, 2) in which codes weighted by p spread most."""
    away = codebook - p @ codebook  # (V, C)
    spread = (away * p[:, None]).T @ away  # (C, C)
    return torch.linalg.eigh(spread.cpu().double())[1][:, [-1, -2]].to(codebook)


def covered(spans: list[tuple[int, int]], place: int) -> tuple[float, float, float] | None:
    """Left, top and side, as shares of the image, of what a token covers; None if tokens are no
    square grid. Steps of one token each make one grid together; a step of several is its own."""
    first, last = next((a, b) for a, b in spans if a <= place < b)
    if all(b - a == 1 for a, b in spans):
        first, last = 0, spans[-1][1]
    side = math.isqrt(last - first)
    if side * side != last - first:
        return None
    row, column = divmod(place - first, side)
    return column / side, row / side, 1 / side
