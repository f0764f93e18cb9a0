"""The baselines DD2 is measured against (method §6): parallel sampling, DD1's pairs and loss, and
the score network as an AR diffusion model."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.families.codebook import CodebookTeacher, Index
from dd2core.sampling import Sampling, invert_cdf
from dd2core.score import posterior_mean
from dd2core.score_model import ConditionalScoreModel
from dd2core.teacher import span_index
from dd2core.tools.numerics import full_precision, nearest_code

T_END = 0.03  # DD1 integrates the ODE from t = 1 to here


@torch.no_grad()
def parallel_sample(
    teacher: CodebookTeacher, labels: Tensor, noise: Tensor, sampling: Sampling
) -> Tensor:
    """"onestep*": every token from the teacher's own logits with no prefix, all at once.

    Args:
        teacher (CodebookTeacher): any with codes.
        labels (Tensor): (B,) int64.
        noise (Tensor): uniform numbers (B, L).
        sampling (Sampling): guidance and filters.

    Returns:
        Tensor: tokens (B, L).
    """
    logits = teacher.parallel_logits(labels, sampling.cfg)
    return invert_cdf(sampling.filter(logits), noise.to(logits.device))


def flow_to_token(log_p: Tensor, eps: Tensor, codebook: Tensor, euler_steps: int = 16) -> Tensor:
    """DD1's map from noise to a token: dx/dt = (x − D_Φ)/t from t = 1 to 0.03 (method §6).

    Args:
        log_p (Tensor): log-probabilities of the codes, (..., V).
        eps (Tensor): x at t = 1, (..., C).
        codebook (Tensor): (V, C).
        euler_steps (int): Euler steps, at least 16 for a faithful map.

    Returns:
        Tensor: int64, the code nearest to the last D_Φ, shape (...).
    """
    times = torch.linspace(1, T_END, euler_steps + 1, device=eps.device, dtype=eps.dtype)
    x = eps
    for t, t_next in zip(times[:-1], times[1:], strict=True):
        d = posterior_mean(x, t.expand_as(x[..., :1]), log_p, codebook)
        x = x + (t_next - t) * (x - d) / t
    d = posterior_mean(x, times[-1].expand_as(x[..., :1]), log_p, codebook)
    return nearest_code(d, codebook)


@torch.no_grad()
def dd1_pairs(
    teacher: CodebookTeacher, labels: Tensor, eps: Tensor, sampling: Sampling,
    euler_steps: int = 16,
) -> Tensor:
    """Tokens (B, L) that DD1's map gives latents eps (B, L, C), along AR sampling."""

    def choose(log_p: Tensor, where: Index) -> Tensor:
        return flow_to_token(log_p, eps[:, where], teacher.codebook, euler_steps)

    noise = torch.zeros(eps.shape[:2])  # not used: `choose` decides
    for tokens, _ in teacher.steps(labels, **sampling.keywords(), noise=noise, choose=choose):
        pass
    return tokens


@torch.no_grad()
def euler_sample(
    teacher: CodebookTeacher, model: ConditionalScoreModel, labels: Tensor, eps: Tensor,
    euler_steps: int = 10,
) -> Tensor:
    """AR sampling of a score model: step by step of the teacher's order, each token carried from
    noise by dx/dt = (x − D_ψ)/t from t = 1 to 0, then the nearest code (paper Tab. 7).

    The backbone runs over the whole prefix at every step; there is no cache.

    Args:
        teacher (CodebookTeacher): gives order and codes.
        model (ConditionalScoreModel): ψ, after GTS.
        labels (Tensor): (B,) int64.
        eps (Tensor): x at t = 1, (B, L, C).
        euler_steps (int): Euler steps per token.

    Returns:
        Tensor: tokens (B, L).
    """
    tokens = torch.zeros(eps.shape[:2], dtype=torch.int64, device=eps.device)
    times = torch.linspace(1, 0, euler_steps + 1, device=eps.device, dtype=eps.dtype)
    for span in teacher.spans:
        where = span_index(span)
        h, x = model.features(tokens, labels)[:, where], eps[:, where]  # (B, n, D), (B, n, C)
        for t, t_next in zip(times[:-1], times[1:], strict=True):
            d = model.denoise(x, t.expand_as(x[..., :1]), h)
            x = x + (t_next - t) * (x - d) / t
        tokens[:, where] = teacher.quantise(x)
    return tokens


def dd1_loss(
    x: Tensor, tokens: Tensor, codebook: Tensor, sharpness: float = 4.0, latent_weight: float = 1.0
) -> Tensor:
    """DD1's regression of (ε, tokens) pairs: cross-entropy on codes plus latent distance.

    Args:
        x (Tensor): the generator's output for ε, (B, L, C).
        tokens (Tensor): the pairs' tokens, (B, L).
        codebook (Tensor): (V, C).
        sharpness (float): logits are −sharpness·‖x − c_j‖²/2.
        latent_weight (float): weight of ‖x − c‖² (sum over C, mean over B and L).

    Returns:
        Tensor: scalar.
    """
    with full_precision(x.device):
        logits = sharpness * (x @ codebook.T - 0.5 * codebook.square().sum(-1))  # (B, L, V)
    cross_entropy = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    distance = (x - codebook[tokens]).square().sum(-1).mean()
    return cross_entropy + latent_weight * distance
