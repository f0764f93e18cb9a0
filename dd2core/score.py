"""The teacher as a conditional score model, in closed form (method §2).

A noised token is a mixture of V Gaussians centred on the codes, so its denoised mean and its score
need no network beyond the teacher's own probabilities. Everything here is a pure function, runs in
at least float32, and is differentiable in x_t.
"""


import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dd2core.tools.numerics import full_precision


def posterior_mean(
    x_t: Tensor, t: Tensor, log_p: Tensor, codebook: Tensor, chunk: int | None = None
) -> Tensor:
    """D_Φ(x_t, t) = Σ_j w_j c_j, the teacher's denoised mean (method §2 (1)–(2)).

    Args:
        x_t (Tensor): noised tokens, shape (..., C).
        t (Tensor): times in (0, 1], shape (..., 1).
        log_p (Tensor): log-probabilities of the codes, −inf where excluded, shape (..., V);
            leading dimensions broadcast against those of x_t.
        codebook (Tensor): scaled code vectors, shape (V, C).
        chunk (int | None): most tokens in one (tokens, V) matrix; the matrices are recomputed in
            backward, so peak memory is chunk·V numbers. None is one matrix for all.

    Returns:
        Tensor: shape (..., C), in float64 if x_t is, else float32.
    """
    dtype = torch.promote_types(x_t.dtype, torch.float32)
    x_t, t, log_p, codebook = (a.to(dtype) for a in (x_t, t, log_p, codebook))
    if chunk is None:
        return _posterior_mean(x_t, t, log_p, codebook)
    shape = torch.broadcast_shapes(x_t.shape[:-1], t.shape[:-1], log_p.shape[:-1])
    x_t, t = (a.expand(*shape, a.shape[-1]).reshape(-1, a.shape[-1]) for a in (x_t, t))
    row = torch.arange(log_p.shape[:-1].numel(), device=log_p.device)
    row = row.view(log_p.shape[:-1]).expand(shape).reshape(-1)  # token → its row of log_p
    log_p = log_p.flatten(0, -2) if log_p.ndim > 1 else log_p[None]

    def part(x_t: Tensor, t: Tensor, row: Tensor) -> Tensor:
        return _posterior_mean(x_t, t, log_p[row], codebook)  # log_p is not copied S times

    parts = [
        checkpoint(part, *pieces, use_reentrant=False)
        for pieces in zip(*(a.split(chunk) for a in (x_t, t, row)), strict=True)
    ]
    return torch.cat(parts).reshape(*shape, x_t.shape[-1])


def posterior_weights(x_t: Tensor, t: Tensor, log_p: Tensor, codebook: Tensor) -> Tensor:
    """w_j ∝ p_j · exp(−‖x_t − (1 − t)c_j‖² / (2t²)), what x_t leaves of p (method §2 (1)).

    Arguments and shapes as in `posterior_mean`, all of one dtype; gives (..., V), rows sum to 1.
    """
    with full_precision(x_t.device):
        a = (1 - t) / t**2  # (..., 1)
        logits = log_p + (a * x_t) @ codebook.T  # (..., V); ‖x_t‖² cancels in the softmax
        logits = logits - 0.5 * a * (1 - t) * codebook.square().sum(-1)
        return logits.softmax(-1)  # (..., V)


def _posterior_mean(x_t: Tensor, t: Tensor, log_p: Tensor, codebook: Tensor) -> Tensor:
    with full_precision(x_t.device):
        return posterior_weights(x_t, t, log_p, codebook) @ codebook  # (..., C)


def conditional_score(
    x_t: Tensor, t: Tensor, log_p: Tensor, codebook: Tensor, chunk: int | None = None
) -> Tensor:
    """s_Φ = −(x_t − (1 − t)·D_Φ) / t², the teacher's conditional score (method §2 (3)).

    Arguments and shapes as in `posterior_mean`.
    """
    dtype = torch.promote_types(x_t.dtype, torch.float32)
    x_t, t = x_t.to(dtype), t.to(dtype)
    return -(x_t - (1 - t) * posterior_mean(x_t, t, log_p, codebook, chunk)) / t**2


