"""What the method asks of a teacher: a denoiser, and which tokens each step decides.

`Teacher` is that interface (method §2, §10). It says nothing of where the denoised mean comes from:
from a codebook in closed form (`dd2core.families.codebook.CodebookTeacher`, which LlamaGen and VAR
are built on), from a diffusion head, or from anything else that denoises one token given those
before it. Tokens are whatever `quantise` returns and `vectors` takes: int64 codes, or the vectors
themselves.
"""

import abc
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeGuard, cast

import torch
from torch import Tensor, nn

from dd2core.sampling import Sampling

Span = tuple[int, int] | Tensor  # the tokens of one step: (start, stop), or an int64 set of indices


def span_index(span: Span) -> slice | Tensor:
    """What picks the tokens of a span: `tokens[:, span_index(span)]`."""
    return slice(*span) if isinstance(span, tuple) else span


class TeacherScore(Protocol):
    """The teacher's conditional score of every token, given the tokens before it (method §2)."""

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """D_Φ(x_t, t | q_<i), differentiable in x_t: (..., B, L, C), (..., B, L, 1) → the shape
        of x_t, at least float32."""
        ...

    def statistics(self) -> dict[str, Tensor]:
        """What is worth logging about the tokens that stand as prefix, scalars by name: `nll`, the
        teacher's nats per token, `entropy`; empty where the teacher cannot tell."""
        ...


class Backbone(nn.Module, abc.ABC):
    """A transformer without its last Linear, as guidance network and generator use it.

    Attributes:
        width (int): D.
        blocks (nn.ModuleList): of the transformer; sharding and checkpointing go by them.
        dropout (float): see `set_dropout`; 0 unless it was called.
    """

    width: int
    blocks: nn.ModuleList
    dropout: float = 0.0

    def set_dropout(self, p: float) -> None:
        """Drop a part p, in [0, 1), of the inputs and of what attention and feed-forward add, each
        number by itself, in training mode; the AR steps of a teacher never do."""
        self.dropout = p
        for block in self.blocks:
            cast(Any, block).dropout = p  # a plain number, which nn.Module's type does not know

    @abc.abstractmethod
    def forward(self, prefix: Tensor, labels: Tensor) -> Tensor:
        """Features (B, L, D) from a prefix, tokens (B, L) or vectors like `Teacher.vectors` gives
        (B, L, C), and labels (B,); position i sees those before i."""

    @abc.abstractmethod
    def new_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are not copied from the teacher."""


class Teacher(nn.Module, abc.ABC):
    """An AR image model with its tokenizer. Frozen: parameters need no gradient, mode is eval.

    Attributes:
        num_classes (int): label == num_classes is "unconditional".
        num_tokens (int): L.
        code_dim (int): C, numbers in the vector of a token.
        spans (Sequence[Span]): the tokens decided at each of the K steps, every token once.
        guidance_off (float): the `cfg` that switches guidance off, besides None.
        tokenizer (nn.Module): images ↔ tokens; its sizes are the dataclass `tokenizer.cfg`.
        transformer (nn.Module): the AR network; its sizes are `transformer.cfg`, the part that
            `backbone` copies is `transformer.backbone`.
    """

    num_classes: int
    num_tokens: int
    spans: Sequence[Span]
    guidance_off: float
    tokenizer: nn.Module
    transformer: nn.Module

    @property
    @abc.abstractmethod
    def code_dim(self) -> int:
        """C."""

    @property
    def num_steps(self) -> int:
        """K, the number of sequential steps."""
        return len(self.spans)

    @property
    def device(self) -> torch.device:
        """Where the teacher lives."""
        return next(a.device for a in (*self.parameters(), *self.buffers()))

    def is_guided(self, cfg: float | None) -> TypeGuard[float]:
        """Whether this guidance strength needs the unconditional pass."""
        return cfg is not None and cfg != self.guidance_off

    # The score -----------------------------------------------------------------------------

    @abc.abstractmethod
    def score(
        self, tokens: Tensor, labels: Tensor, sampling: Sampling, chunk: int | None = None
    ) -> TeacherScore:
        """The conditional score of every token given those before it (method §2).

        Args:
            tokens (Tensor): prefix, (B, L) or as `quantise` gives them.
            labels (Tensor): (B,) int64.
            sampling (Sampling): guidance and filters that the score contains.
            chunk (int | None): most tokens that are denoised at once, a limit of memory; None is
                all.
        """

    @abc.abstractmethod
    def vectors(self, tokens: Tensor) -> Tensor:
        """Tokens → their vectors (B, L, C), of unit variance."""

    @abc.abstractmethod
    def quantise(self, x: Tensor) -> Tensor:
        """Vectors (B, L, C) → the tokens that they stand for."""

    @abc.abstractmethod
    def backbone(self) -> Backbone:
        """A trainable copy of the transformer without its last Linear (method §3)."""

    # Sampling and pixels -------------------------------------------------------------------

    @abc.abstractmethod
    def steps(
        self, labels: Tensor, cfg: float | None = None, temperature: float = 1.0, top_k: int = 0,
        top_p: float = 1.0, noise: Tensor | None = None, prefix: Tensor | None = None,
        start: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Sample one span at a time.

        Args:
            labels (Tensor): (B,) int64.
            cfg, temperature, top_k, top_p: see `Sampling`.
            noise (Tensor | None): uniform numbers (B, L) that decide the tokens; None draws them.
            prefix (Tensor | None): tokens that stand before step `start`.
            start (int): first step that is sampled, 0…K.

        Yields:
            tuple[Tensor, Tensor | None]: the tokens, those after the current span still as they
            were; and the log-probabilities (B, n, V) of the current span where there are codes.
        """

    def sample(
        self, labels: Tensor, cfg: float | None = None, temperature: float = 1.0, top_k: int = 0,
        top_p: float = 1.0, noise: Tensor | None = None,
    ) -> Tensor:
        """AR sampling in K steps: (B,) → tokens; `top_k=1` is greedy. See `steps`."""
        for tokens, _ in self.steps(labels, cfg, temperature, top_k, top_p, noise):
            pass
        return tokens

    @abc.abstractmethod
    def decode(self, tokens: Tensor, upto: int | None = None) -> Tensor:
        """Tokens → images (B, channels, H, W) in [−1, 1]; only the first `upto` if given."""

    @abc.abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [−1, 1] → tokens."""

    def preview(self, tokens: Tensor, step: int) -> Tensor:
        """`decode` of tokens of which the spans up to that of `step` are decided."""
        span = self.spans[step]
        if step == self.num_steps - 1 or not isinstance(span, tuple):
            return self.decode(tokens)
        return self.decode(tokens, span[1])
