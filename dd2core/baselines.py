"""The baselines DD2 is measured against (method §6): parallel sampling, DD1's pairs, loss and
second step, and the score network as an AR diffusion model."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.errors import DD2Error
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
    x: Tensor, tokens: Tensor, codebook: Tensor, sharpness: float = 4.0,
    latent_weight: float = 1.0, weight: Tensor | None = None,
) -> Tensor:
    """DD1's regression of (ε, tokens) pairs: cross-entropy on codes plus latent distance.

    Args:
        x (Tensor): the generator's output for ε, (B, L, C).
        tokens (Tensor): the pairs' tokens, (B, L).
        codebook (Tensor): (V, C).
        sharpness (float): logits are −sharpness·‖x − c_j‖²/2.
        latent_weight (float): weight of ‖x − c‖² (sum over C, mean over B and L).
        weight (Tensor | None): of each token in both terms, (B, L), see `second_weight`; None: all
            count alike.

    Returns:
        Tensor: scalar.
    """
    with full_precision(x.device):
        logits = sharpness * (x @ codebook.T - 0.5 * codebook.square().sum(-1))  # (B, L, V)
    distances = (x - codebook[tokens]).square().sum(-1)  # (B, L)
    if weight is None:
        cross_entropy = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
        return cross_entropy + latent_weight * distances.mean()
    entropies = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")
    return (weight * (entropies.view_as(weight) + latent_weight * distances)).mean()


# DD1's second step ----------------------------------------------------------------------------


def first_part(teacher: CodebookTeacher, start: int | None = None) -> Tensor:
    """Which tokens DD1's second step keeps: those of the teacher's steps before `start`.

    Args:
        teacher (CodebookTeacher): gives the order.
        start (int | None): first step that is made anew, 1…K − 1; None is half of them, K // 2.

    Returns:
        Tensor: bool, (L,).

    Raises:
        DD2Error: a start out of its range, or a teacher of one step.
    """
    steps = teacher.num_steps
    start = steps // 2 if start is None else start
    if not 1 <= start < steps:
        raise DD2Error(f"second_start={start} must lie in 1…{steps - 1}: a second step keeps some "
                       f"of this teacher's {steps} steps and makes the others anew.")
    kept = torch.zeros(teacher.num_tokens, dtype=torch.bool, device=teacher.device)
    for span in teacher.spans[:start]:
        kept[span_index(span)] = True
    return kept


def second_input(teacher: CodebookTeacher, eps: Tensor, tokens: Tensor, kept: Tensor) -> Tensor:
    """The generator's input of DD1's second step: code vectors in place of ε where tokens are kept.

    Args:
        teacher (CodebookTeacher): gives the vectors of tokens.
        eps (Tensor): latents, (B, L, C).
        tokens (Tensor): (B, L); only the kept ones matter.
        kept (Tensor): bool, (L,) or (B, L).

    Returns:
        Tensor: (B, L, C).
    """
    return torch.where(kept[..., None], teacher.vectors(tokens), eps)


def second_weight(kept: Tensor) -> Tensor:
    """Weights for `dd1_loss`, (B, L), from which tokens are kept, bool (B, L): 0 there, and alike
    elsewhere so that each image counts as one; some token of each image must not be kept."""
    made = (~kept).float()
    return made / made.mean(-1, keepdim=True)


@torch.no_grad()
def dd1_two_steps(
    teacher: CodebookTeacher, model: ConditionalScoreModel, labels: Tensor, eps: Tensor,
    start: int | None = None,
) -> Tensor:
    """DD1 in two steps: a pass from noise, of which the first part is kept, and one more for the
    rest, from the kept tokens and the rest of the same noise (method §6).

    Args:
        teacher (CodebookTeacher): gives order and codes.
        model (ConditionalScoreModel): generator that was trained for both passes.
        labels (Tensor): (B,) int64.
        eps (Tensor): latents, (B, L, C).
        start (int | None): see `first_part`; as in training.

    Returns:
        Tensor: tokens (B, L).

    Raises:
        DD2Error: as `first_part`.
    """
    kept = first_part(teacher, start)
    tokens = teacher.quantise(model.generate(eps, labels))
    again = model.generate(second_input(teacher, eps, tokens, kept), labels)
    return torch.where(kept, tokens, teacher.quantise(again))
