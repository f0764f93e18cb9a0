"""Teachers whose tokens are codes: the score in closed form, sampling, streaming, refinement.

The default implementation of `Teacher`. A family (LlamaGen, VAR) implements the abstract methods in
a folder of its own; guided probabilities and the walk over the K steps are written here once.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.sampling import Sampling, invert_cdf
from dd2core.score import posterior_mean
from dd2core.teacher import Teacher, span_index
from dd2core.tools.numerics import nearest_code

Index = slice | Tensor  # which tokens: as `span_index` gives them


def scaled_codebook(codes: Tensor) -> tuple[Tensor, float]:
    """Codes (V, C) times the one scalar that gives them RMS 1, and that scalar (method §1)."""
    codes = codes.detach().float()
    # Meta tensors have shapes but no values: sizes and costs are the same with any scale.
    scale = 1.0 if codes.is_meta else float(codes.square().mean().rsqrt())
    return scale * codes, scale


def token_entropy(tokens: Tensor) -> Tensor:
    """Entropy in nats of the marginal distribution of tokens, any shape; log V at most."""
    return entropy_of(torch.bincount(tokens.flatten()))


def entropy_of(counts: Tensor) -> Tensor:
    """Entropy in nats of tokens, from how often each code is among them, (V,)."""
    p = counts.float()
    p = p[p > 0] / p.sum()
    return -(p * p.log()).sum()


@dataclasses.dataclass(frozen=True)
class CodebookScore:
    """The teacher's score as a mixture of V Gaussians per token (method §2 (1)–(3)).

    Attributes:
        tokens: the prefix, (B, L).
        log_p: log p_j given the prefix, guided and filtered, (B, L, V).
        codebook: (V, C).
        chunk: see `posterior_mean`.
        token_nll: nats of each token without the filters, (B, L); None: `log_p` has no filters.
    """

    tokens: Tensor
    log_p: Tensor
    codebook: Tensor
    chunk: int | None = None
    token_nll: Tensor | None = None

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `TeacherScore.denoise`; in closed form."""
        return posterior_mean(x_t, t, self.log_p, self.codebook, self.chunk)

    def statistics(self) -> dict[str, Tensor]:
        """See `TeacherScore.statistics`. Top-k and top-p would make excluded tokens' NLL infinite,
        so it is taken without them."""
        nll = self.token_nll
        if nll is None:
            nll = -self.log_p.gather(-1, self.tokens[..., None])
        return {"nll": nll.mean(), "entropy": token_entropy(self.tokens)}


class CodebookTeacher(Teacher):
    """A teacher that gives logits over V codes.

    Attributes:
        codebook (Tensor): (V, C) code vectors, scaled to RMS 1 by one scalar.
        scale (float): codebook = scale × stored codes.
    """

    codebook: Tensor
    scale: float

    def set_codebook(self, codes: Tensor) -> None:
        """Store (V, C) codes, scaled as in `scaled_codebook`."""
        scaled, self.scale = scaled_codebook(codes)
        self.register_buffer("codebook", scaled, persistent=False)

    @property
    def num_codes(self) -> int:
        """V."""
        return self.codebook.shape[0]

    @property
    def code_dim(self) -> int:
        """C."""
        return self.codebook.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the teacher lives."""
        return self.codebook.device

    # What a family implements, beside decode, encode and backbone ----------------------------

    @abc.abstractmethod
    def logits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Teacher-forced conditional logits: (B, L), (B,) int64 → (B, L, V); no guidance."""

    @abc.abstractmethod
    def blank_logits(self, labels: Tensor) -> Tensor:
        """Logits (B, L, V) of all positions in one pass, given labels (B,) and a blank prefix."""

    @abc.abstractmethod
    def guide(self, cond: Tensor, uncond: Tensor, cfg: float, where: Index) -> Tensor:
        """The family's guidance rule for logits (B, n, V) of the n tokens that `where` picks."""

    @abc.abstractmethod
    def begin(self, labels: Tensor) -> Any:
        """An empty KV cache for `labels` (B,)."""

    @abc.abstractmethod
    def advance(self, cache: Any, tokens: Tensor, step: int) -> Tensor:
        """Logits (B, n, V) of the span of `step`; `tokens` (B, L) are valid before that span.

        The cache takes in whatever of the prefix it has not seen, so the first call may be at any
        step.
        """

    # What follows from it ---------------------------------------------------------------------

    def vectors(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) → scaled code vectors (B, L, C)."""
        return self.codebook[tokens]

    def quantise(self, x: Tensor) -> Tensor:
        """(B, L, C) → (B, L) nearest code."""
        return nearest_code(x, self.codebook)

    def score(
        self, tokens: Tensor, labels: Tensor, sampling: Sampling, chunk: int | None = None
    ) -> CodebookScore:
        """See `Teacher.score`; tokens (B, L)."""
        with torch.no_grad():
            logits = self._guided_logits(tokens, labels, sampling.cfg)
            nll = _token_nll(logits, tokens) if sampling.filters else None
            return CodebookScore(tokens, sampling.filter(logits), self.codebook, chunk, nll)

    @torch.no_grad()
    def log_probs(
        self, tokens: Tensor, labels: Tensor, cfg: float | None = None, temperature: float = 1.0,
        top_k: int = 0, top_p: float = 1.0,
    ) -> Tensor:
        """log p_j = log p(q_i = c_j | q_<i, y), guided and filtered (method §2).

        Args:
            tokens (Tensor): teacher-forced prefix, (B, L) int64.
            labels (Tensor): (B,) int64.
            cfg, temperature, top_k, top_p: see `Sampling`.

        Returns:
            Tensor: (B, L, V), −inf where excluded.

        Raises:
            DD2Error: a setting out of its range.
        """
        sampling = Sampling(cfg, temperature, top_k, top_p)
        return sampling.filter(self._guided_logits(tokens, labels, sampling.cfg))

    @torch.no_grad()
    def steps(
        self, labels: Tensor, cfg: float | None = None, temperature: float = 1.0, top_k: int = 0,
        top_p: float = 1.0, noise: Tensor | None = None, prefix: Tensor | None = None,
        start: int = 0, choose: Callable[[Tensor, Index], Tensor] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Teacher.steps`; with the KV cache and guidance as one batch of 2B rows.

        Args:
            choose (Callable | None): maps (log-probabilities (B, n, V), index of the span) to its
                tokens (B, n), in place of inverting the CDF at `noise`.

        Yields:
            tuple[Tensor, Tensor]: tokens (B, L), and log-probabilities (B, n, V) of the current
            span, an inference tensor: clone it for autograd.
        """
        sampling = Sampling(cfg, temperature, top_k, top_p)
        b, n = labels.shape[0], self.num_tokens
        noise = torch.rand(b, n, device=self.device) if noise is None else noise.to(self.device)
        tokens = torch.zeros(b, n, dtype=torch.int64, device=self.device)
        tokens = tokens if prefix is None else prefix.clone()
        strength = sampling.cfg if self.is_guided(sampling.cfg) else None
        guided = strength is not None
        with torch.inference_mode():  # a tenth faster than no_grad; left before every yield
            cache = self.begin(self._with_unconditional(labels) if guided else labels)
        for step in range(start, self.num_steps):
            where = span_index(self.spans[step])
            with torch.inference_mode():
                logits = self.advance(cache, tokens.repeat(2, 1) if guided else tokens, step)
                if strength is not None:
                    cond, uncond = logits.chunk(2)
                    logits = self.guide(cond, uncond, strength, where)
                log_p = sampling.filter(logits)  # (B, n, V)
                tokens[:, where] = choose(log_p, where) if choose \
                    else invert_cdf(log_p, noise[:, where])
            yield tokens, log_p

    def parallel_logits(self, labels: Tensor, cfg: float | None) -> Tensor:
        """`blank_logits`, guided: (B,) → (B, L, V)."""
        logits = self.blank_logits(labels)
        if self.is_guided(cfg):
            uncond = self.blank_logits(torch.full_like(labels, self.num_classes))
            logits = self.guide(logits, uncond, cfg, slice(None))
        return logits

    def _guided_logits(self, tokens: Tensor, labels: Tensor, cfg: float | None) -> Tensor:
        if not self.is_guided(cfg):
            return self.logits(tokens, labels)
        both = self.logits(tokens.repeat(2, 1), self._with_unconditional(labels))
        cond, uncond = both.chunk(2)
        return self.guide(cond, uncond, cfg, slice(None))

    def _with_unconditional(self, labels: Tensor) -> Tensor:
        return torch.cat([labels, torch.full_like(labels, self.num_classes)])


def _token_nll(logits: Tensor, tokens: Tensor) -> Tensor:
    """−log softmax(logits) at the tokens, (B, L); image by image, since V may be large."""
    rows = zip(logits, tokens, strict=True)
    return torch.stack([F.cross_entropy(a.float(), q, reduction="none") for a, q in rows])
