"""`ConditionalScoreModel`: the one network class, used as guidance network ψ and generator G.

The teacher's own transformer gives a feature h_i per position from q_<i; a small MLP with adaptive
layer norm maps (x_t, t, h_i) to the denoised mean D (method §3).
"""

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.schedule import generator_input, precondition
from dd2core.teacher import Backbone

PREDICTIONS = ("denoised", "velocity")
TIME_FREQUENCIES = 64  # sinusoidal features of t


def time_features(t: Tensor, dim: int = TIME_FREQUENCIES) -> Tensor:
    """Sinusoidal features of times in (0, 1], shape (..., 1) → (..., dim)."""
    half = dim // 2
    freq = torch.exp(torch.arange(half, device=t.device) * (-math.log(1000) / (half - 1)))
    t = t.to(torch.promote_types(t.dtype, torch.float32))
    angle = 2 * math.pi * t * 16 * freq  # from 16 turns down to 0.016
    return torch.cat([angle.cos(), angle.sin()], -1)


def keep_blocks(backbone: Backbone, blocks: int | None, name: str = "blocks") -> None:
    """Leave a backbone its first blocks alone.

    Args:
        backbone (Backbone): is changed.
        blocks (int | None): how many; None: all.
        name (str): what the number is called in the error.

    Raises:
        DD2Error: it has not so many.
    """
    found = len(backbone.blocks)
    if blocks is None:
        return
    if not 1 <= blocks <= found:
        raise DD2Error(f"{name}={blocks} must be at least 1 and at most the teacher's {found} "
                       "blocks.")
    backbone.blocks = backbone.blocks[:blocks]


class ScoreHead(nn.Module):
    """MLP with adaptive layer norm: (c_in·x_t, t, h) → F.

    Args:
        code_dim (int): C.
        feature_dim (int): D of the backbone.
        width (int): of the layers.
        depth (int): residual layers.
    """

    def __init__(self, code_dim: int, feature_dim: int, width: int, depth: int):
        super().__init__()
        self.depth = depth
        self.x_in = nn.Linear(code_dim, width)
        self.h_in = nn.Linear(feature_dim, width)
        self.t_in = nn.Sequential(
            nn.Linear(TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.modulation = nn.Linear(width, (3 * depth + 2) * width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.out = nn.Linear(width, code_dim)
        for layer in (self.modulation, self.out):  # starts as F = 0
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """x (..., C), t (..., 1), h (..., D), broadcasting → F (..., C)."""
        width = self.out.in_features
        c = F.silu(self.t_in(time_features(t)) + self.h_in(h))  # (..., width)
        m = self.modulation(c).split(width, -1)
        x = self.x_in(x)  # (..., width)
        for i, layer in enumerate(self.layers):
            shift, scale, gate = m[3 * i : 3 * i + 3]
            y = F.layer_norm(x, (width,)) * (1 + scale) + shift
            x = x + gate * layer(y)  # (..., width)
        shift, scale = m[-2:]
        return self.out(F.layer_norm(x, (width,)) * (1 + scale) + shift)  # (..., C)


class ConditionalScoreModel(nn.Module):
    """Backbone and head: D(x_t, t | q_<i) = c_skip·x_t + c_out·F(c_in·x_t, t, h_i) (method §2–3).

    Args:
        backbone (Backbone): from `Teacher.backbone()`.
        code_dim (int): C.
        head_width (int): width of the head.
        head_depth (int): residual layers of the head.
        t_init (float): the fixed time of the generator, in (0, 1].
        bf16 (bool): autocast the network to bfloat16; D comes out in float32 either way. Autocast
            that is on around a call stays on.
        prediction (str): what the head gives: `denoised`, F of the preconditioned D above; or
            `velocity`, v = (x_t − D)/t, so that D = x_t − t·v (the paper's, with t_init = 1:
            then the generator's output is ε − v).

    Raises:
        DD2Error: an unknown prediction.
    """

    def __init__(
        self, backbone: Backbone, code_dim: int, head_width: int = 128, head_depth: int = 3,
        t_init: float = 0.83, bf16: bool = False, prediction: str = "denoised",
    ):
        super().__init__()
        if prediction not in PREDICTIONS:
            raise DD2Error(f"prediction={prediction} is unknown: use {' or '.join(PREDICTIONS)}.")
        self.backbone = backbone
        self.head = ScoreHead(code_dim, backbone.width, head_width, head_depth)
        self.t_init, self.bf16, self.prediction = t_init, bf16, prediction

    def features(self, prefix: Tensor, labels: Tensor) -> Tensor:
        """h from tokens (B, L) or vectors (B, L, C) and labels (B,): (B, L, D)."""
        with self._autocast(prefix.device.type):
            return self.backbone(prefix, labels)

    def denoise(self, x_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """D from x_t (..., L, C), t (..., L, 1) and h (B, L, D): the shape of x_t, float32."""
        if self.prediction == "velocity":
            with self._autocast(x_t.device.type):
                v = self.head(x_t, t, h)
            return x_t - t * v.to(x_t.dtype)
        c_skip, c_out, c_in = precondition(t)
        with self._autocast(x_t.device.type):
            f = self.head(c_in * x_t, t, h)
        return c_skip * x_t + c_out * f.to(x_t.dtype)

    def forward(self, x_t: Tensor, t: Tensor, prefix: Tensor, labels: Tensor) -> Tensor:
        """D(x_t, t | prefix, label), the shape of x_t. See `features` and `denoise`."""
        return self.denoise(x_t, t, self.features(prefix, labels))

    def generate(self, eps: Tensor, labels: Tensor) -> Tensor:
        """The generator: all L code vectors in one pass (method §3).

        Args:
            eps (Tensor): latents, standard normal, (B, L, C).
            labels (Tensor): (B,) int64.

        Returns:
            Tensor: code-like vectors (B, L, C), not yet quantised.
        """
        t = torch.full((1, 1, 1), self.t_init, device=eps.device, dtype=eps.dtype)
        return self.denoise(generator_input(eps, self.t_init), t, self.features(eps, labels))

    def _autocast(self, kind: str) -> contextlib.AbstractContextManager:
        """To bfloat16, or nothing: autocast with `enabled=False` would end one around it."""
        return torch.autocast(kind, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def new_parameters(self) -> set[str]:
        """Names of the parameters that are not copied from the teacher: the head, and a
        `Linear(C, D)` where the teacher has only a token table (method §3)."""
        head = {f"head.{name}" for name, _ in self.head.named_parameters()}
        return head | {f"backbone.{name}" for name in self.backbone.new_parameters()}


class Discriminator(ConditionalScoreModel):
    """Tells data from the generator's samples: a logit per token of noised vectors (method §4).

    The same parts as a score model: the teacher's transformer, or its first blocks, reads the
    noised vectors before token i, and the head, which starts at zero, token i itself.

    Args:
        backbone (Backbone): from `Teacher.backbone()`.
        code_dim, head_width, head_depth, bf16: as in `ConditionalScoreModel`.
        blocks (int | None): see `keep_blocks`.

    Raises:
        DD2Error: the backbone has not so many blocks.
    """

    def __init__(
        self, backbone: Backbone, code_dim: int, head_width: int = 128, head_depth: int = 3,
        bf16: bool = False, blocks: int | None = None,
    ):
        super().__init__(backbone, code_dim, head_width, head_depth, bf16=bf16)
        keep_blocks(backbone, blocks, "adversarial_depth")

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """x_t (B, L, C), t (B, 1, 1) in (0, 1], labels (B,) → logits (B, L), dtype of x_t."""
        x = precondition(t)[2] * x_t  # unit variance
        h = self.features(x, labels)  # (B, L, D)
        with self._autocast(x.device.type):
            out = self.head(x, t, h)
        return 4 * out.to(x.dtype).mean(-1)  # of C numbers, each of which starts at 0
