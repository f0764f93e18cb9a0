"""What the teacher and the guidance network say about one token of one image (design §2–3)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dd2core import DD2Error
from dd2core.schedule import add_noise
from dd2core.score import posterior_mean, posterior_weights

T_MIN, T_MAX = 0.02, 0.98
TIMES = 49  # places of the curves


@dataclass(frozen=True)
class Look:
    """One token i of a one-step image; everything is numpy, float32 unless said otherwise."""

    image: np.ndarray  # uint8 (H, W, C)
    reach: np.ndarray  # bool (H, W): the pixels that change with this token
    code: int  # the sampled one, in 0…V−1
    step: int  # of the teacher's, from 1, that decides this token
    p: np.ndarray  # (V,) teacher's probabilities given the tokens before
    weights: np.ndarray  # (V,) what the noised token leaves of p, at t
    codebook: np.ndarray  # (V, C)
    times: np.ndarray  # (T,)
    x: np.ndarray  # (T, C) the noised token
    teacher: np.ndarray  # (T, C) D_Φ
    guidance: np.ndarray  # (T, C) D_ψ


@torch.no_grad()
def look(pipe: Any, label: int, seed: int, token: int, t: float) -> Look:
    """Paint one image in one step and look at one of its tokens.

    Args:
        pipe: the pipeline.
        label (int): class.
        seed (int): of the image; the token's noise is the next seed's.
        token (int): 0…L−1.
        t (float): noise level of the weights, in [T_MIN, T_MAX].

    Raises:
        DD2Error: the model has no guidance network.
    """
    if pipe.guidance is None:
        raise DD2Error(f"{pipe.name} came without its guidance network.")
    sample, labels = pipe.sample_one_step([label], seed=seed), pipe.check_labels([label])
    tokens, codebook, s = sample.tokens, pipe.teacher.codebook, pipe.sampling
    log_p = pipe.teacher.log_probs(tokens, labels, s.cfg, s.temperature, s.top_k, s.top_p)
    log_p = log_p[0, token].float()  # (V,)
    code = int(tokens[0, token])
    eps = pipe.latents(1, seed + 1)[0, token]  # (C,)
    times = torch.linspace(T_MIN, T_MAX, TIMES, device=pipe.device)[:, None]  # (T, 1)
    x = add_noise(codebook[code], eps, times)  # (T, C)
    here = torch.tensor([t], device=pipe.device)
    weights = posterior_weights(add_noise(codebook[code], eps, here), here, log_p, codebook)
    return Look(
        image=sample.images[0], reach=_reach(pipe.teacher, tokens, token), code=code,
        step=1 + next(k for k, (_, stop) in enumerate(pipe.teacher.spans) if token < stop),
        p=_array(log_p.exp()), weights=_array(weights), codebook=_array(codebook),
        times=_array(times[:, 0]), x=_array(x),
        teacher=_array(posterior_mean(x, times, log_p, codebook)),
        guidance=_array(_guidance(pipe.guidance, tokens, labels, token, x, times)),
    )


def _guidance(network: Any, tokens: Tensor, labels: Tensor, token: int, x: Tensor,
              times: Tensor) -> Tensor:
    """D_ψ of one token at all times: x (T, C), times (T, 1) → (T, C)."""
    h = network.features(tokens, labels)[:, token : token + 1]  # (1, 1, D)
    return network.denoise(x[:, None, None], times[:, None, None], h)[:, 0, 0]


def _reach(teacher: Any, tokens: Tensor, token: int) -> np.ndarray:
    """Pixels that change most when the token's code is swapped for the farthest one. No order of
    the tokens is assumed: what a token does is asked of the decoder."""
    away = (teacher.codebook - teacher.codebook[tokens[0, token]]).square().sum(-1).argmax()
    other = tokens.clone()
    other[0, token] = away
    before, after = teacher.decode(torch.cat([tokens, other])).float()  # (channels, H, W) each
    change = (after - before).abs().mean(0)
    return _array(change) > 0.25 * float(change.max().clamp(min=1e-6))


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
