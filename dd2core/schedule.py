"""Rectified-flow noising and the preconditioning of the score networks (method §2)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dd2core.errors import DD2Error


def add_noise(x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 − t)·x_0 + t·ε (method §2).

    Args:
        x_0 (Tensor): clean code vectors, shape (..., C).
        eps (Tensor): standard normal noise, shape (..., C).
        t (Tensor): times in (0, 1], shape (..., 1).

    Returns:
        Tensor: shape (..., C).
    """
    return (1 - t) * x_0 + t * eps


def precondition(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in of D = c_skip·x_t + c_out·F(c_in·x_t, t, h) (method §2).

    For x_0 of unit variance, c_in·x_t has unit variance and so has the target of F.

    Args:
        t (Tensor): times in (0, 1], any shape.

    Returns:
        tuple[Tensor, Tensor, Tensor]: each of the shape of t.
    """
    variance = (1 - t) ** 2 + t**2
    return (1 - t) / variance, t / variance.sqrt(), 1 / variance.sqrt()


def loss_weight(t: Tensor) -> Tensor:
    """λ(t) = 1/c_out(t)², which gives F a unit-variance target (method §4)."""
    return 1 / precondition(t)[1] ** 2


def velocity_weight(t: Tensor) -> Tensor:
    """1/t², which makes the error of D that of the velocity v = (x_t − D)/t."""
    return 1 / t**2


LOSS_WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "preconditioned": loss_weight, "velocity": velocity_weight,
}


def find_loss_weight(name: str) -> Callable[[Tensor], Tensor]:
    """The weight λ(t) of that name in (4) and (5).

    Raises:
        DD2Error: there is none; lists those that exist.
    """
    if name not in LOSS_WEIGHTS:
        raise DD2Error(f"weighting={name} is unknown: use {' or '.join(LOSS_WEIGHTS)}.")
    return LOSS_WEIGHTS[name]


def generator_input(eps: Tensor, t_init: float) -> Tensor:
    """The x_t that the generator's head is given, so that c_in·x_t = ε (method §3).

    Args:
        eps (Tensor): latent noise, shape (B, L, C).
        t_init (float): the generator's fixed time, in (0, 1].

    Returns:
        Tensor: √((1 − t)² + t²)·ε, shape (B, L, C).
    """
    return math.hypot(1 - t_init, t_init) * eps


def draw_times(
    shape: tuple[int, ...], low: float, high: float, like: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Uniform times in [low, high], one per token and draw (method §4).

    Args:
        shape (tuple[int, ...]): usually (S, B, L, 1).
        low (float): smallest time, > 0.
        high (float): largest time, ≤ 1.
        like (Tensor): gives device and dtype.
        generator (torch.Generator | None): source of randomness; None is torch's own.

    Returns:
        Tensor: times of the given shape.
    """
    u = torch.rand(shape, device=like.device, dtype=like.dtype, generator=generator)
    return low + (high - low) * u
