"""The teacher: an image AR model behind one small interface (method §10).

A family (LlamaGen, VAR) implements the abstract methods in a file of its own. Guided probabilities,
sampling, streaming and refinement are written here once, and the method never asks which family
it has.
"""

import abc
import math
import numbers
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.sampling import filter_logits, invert_cdf
from dd2core.tools.numerics import nearest_code


def scaled_codebook(codes: Tensor) -> tuple[Tensor, float]:
    """Codes (V, C) times the one scalar that gives them RMS 1, and that scalar (method §1)."""
    codes = codes.detach().float()
    # Meta tensors have shapes but no values: sizes and costs are the same with any scale.
    scale = 1.0 if codes.is_meta else float(codes.square().mean().rsqrt())
    return scale * codes, scale


class Teacher(nn.Module, abc.ABC):
    """An AR image model with its tokenizer. Frozen: parameters need no gradient, mode is eval.

    Attributes:
        num_classes (int): label == num_classes is "unconditional".
        num_tokens (int): L.
        spans (list[tuple[int, int]]): (start, stop) of the tokens decided at each of the K steps.
        codebook (Tensor): (V, C) code vectors, scaled to RMS 1 by one scalar.
        scale (float): codebook = scale × stored codes.
        guidance_off (float): the `cfg` that switches guidance off, besides None.
    """

    num_classes: int
    num_tokens: int
    spans: list[tuple[int, int]]
    guidance_off: float

    def set_codebook(self, codes: Tensor) -> None:
        """Store (V, C) codes, scaled as in `scaled_codebook`."""
        scaled, self.scale = scaled_codebook(codes)
        self.register_buffer("codebook", scaled, persistent=False)

    @property
    def num_steps(self) -> int:
        """K, the number of sequential steps."""
        return len(self.spans)

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

    # What a family implements -------------------------------------------------------------

    @abc.abstractmethod
    def logits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Teacher-forced conditional logits: (B, L), (B,) int64 → (B, L, V); no guidance."""

    @abc.abstractmethod
    def blank_logits(self, labels: Tensor) -> Tensor:
        """Logits (B, L, V) of all positions in one pass, given labels (B,) and a blank prefix."""

    @abc.abstractmethod
    def guide(self, cond: Tensor, uncond: Tensor, cfg: float, start: int) -> Tensor:
        """The family's guidance rule for logits (B, n, V) of the tokens from `start` on."""

    @abc.abstractmethod
    def begin(self, labels: Tensor) -> object:
        """An empty KV cache for `labels` (B,)."""

    @abc.abstractmethod
    def advance(self, cache: object, tokens: Tensor, step: int) -> Tensor:
        """Logits (B, n, V) of the span of `step`; `tokens` (B, L) are valid before that span.

        The cache takes in whatever of the prefix it has not seen, so the first call may be at any
        step.
        """

    @abc.abstractmethod
    def decode(self, tokens: Tensor, upto: int | None = None) -> Tensor:
        """(B, L) → images (B, channels, H, W) in [−1, 1]; only the first `upto` tokens if given."""

    @abc.abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [−1, 1] → (B, L) int64."""

    @abc.abstractmethod
    def backbone(self) -> nn.Module:
        """A trainable copy without the last Linear (method §3).

        It maps (prefix tokens (B, L) or code-like vectors (B, L, C), labels (B,)) to features
        (B, L, D), has the attribute `width` = D and the method `new_parameters()`: the names of
        its parameters that are not copied from the teacher.
        """

    # What every family has ----------------------------------------------------------------

    def quantise(self, x: Tensor) -> Tensor:
        """Nearest code: (B, L, C) → (B, L) int64."""
        return nearest_code(x, self.codebook)

    def is_guided(self, cfg: float | None) -> bool:
        """Whether this guidance scale needs the unconditional pass."""
        real = isinstance(cfg, numbers.Real) and math.isfinite(cfg)
        if cfg is not None and not real:
            raise DD2Error(f"cfg={cfg!r} must be a finite number.")
        return cfg is not None and cfg != self.guidance_off

    @torch.no_grad()
    def log_probs(
        self, tokens: Tensor, labels: Tensor, cfg: float | None = None, temperature: float = 1.0,
        top_k: int = 0, top_p: float = 1.0,
    ) -> Tensor:
        """log p_j = log p(q_i = c_j | q_<i, y), guided and filtered (method §2).

        Args:
            tokens (Tensor): teacher-forced prefix, (B, L) int64.
            labels (Tensor): (B,) int64.
            cfg (float | None): guidance scale of the family; None is off.
            temperature, top_k, top_p: see `filter_logits`.

        Returns:
            Tensor: (B, L, V), −inf where excluded.
        """
        if self.is_guided(cfg):
            both = self.logits(tokens.repeat(2, 1), self._with_unconditional(labels))
            logits = self.guide(*both.chunk(2), cfg, 0)
        else:
            logits = self.logits(tokens, labels)
        return filter_logits(logits, temperature, top_k, top_p)

    @torch.no_grad()
    def steps(
        self, labels: Tensor, cfg: float | None = None, temperature: float = 1.0, top_k: int = 0,
        top_p: float = 1.0, noise: Tensor | None = None, prefix: Tensor | None = None,
        start: int = 0, choose: Callable[[Tensor, slice], Tensor] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Sample one span at a time, with the KV cache and batched guidance.

        Args:
            labels (Tensor): (B,) int64.
            cfg, temperature, top_k, top_p: see `log_probs`.
            noise (Tensor | None): uniform numbers (B, L) that decide the tokens; None draws them.
            prefix (Tensor | None): tokens (B, L) that stand before step `start`.
            start (int): first step that is sampled, 0…K.
            choose (Callable | None): maps (log-probabilities (B, n, V), slice of the span) to its
                tokens (B, n), in place of inverting the CDF at `noise`.

        Yields:
            tuple[Tensor, Tensor]: tokens (B, L), those after the current span still as they were;
            and log-probabilities (B, n, V) of the current span, an inference tensor: clone it for
            autograd.
        """
        b, n = labels.shape[0], self.num_tokens
        noise = torch.rand(b, n, device=self.device) if noise is None else noise.to(self.device)
        tokens = torch.zeros(b, n, dtype=torch.int64, device=self.device)
        tokens = tokens if prefix is None else prefix.clone()
        guided = self.is_guided(cfg)
        with torch.inference_mode():  # a tenth faster than no_grad; left before every yield
            cache = self.begin(self._with_unconditional(labels) if guided else labels)
        for step in range(start, self.num_steps):
            first, last = self.spans[step]
            span = slice(first, last)
            with torch.inference_mode():
                logits = self.advance(cache, tokens.repeat(2, 1) if guided else tokens, step)
                if guided:
                    logits = self.guide(*logits.chunk(2), cfg, first)
                log_p = filter_logits(logits, temperature, top_k, top_p)  # (B, n, V)
                tokens[:, span] = choose(log_p, span) if choose \
                    else invert_cdf(log_p, noise[:, span])
            yield tokens, log_p

    def sample(
        self, labels: Tensor, cfg: float | None = None, temperature: float = 1.0, top_k: int = 0,
        top_p: float = 1.0, noise: Tensor | None = None,
    ) -> Tensor:
        """AR sampling in K steps: (B,) → (B, L) int64; `top_k=1` is greedy. See `steps`."""
        for tokens, _ in self.steps(labels, cfg, temperature, top_k, top_p, noise):
            pass
        return tokens

    def _with_unconditional(self, labels: Tensor) -> Tensor:
        return torch.cat([labels, torch.full_like(labels, self.num_classes)])
