"""VAR's residual pyramid: code maps of K scales ↔ one feature map of the finest scale.

Scale k has a square map of p_k² vectors. Its contribution is bicubically up-sampled to p_K, passed
through a 3×3 convolution φ(x) = (x + conv(x))/2 shared by neighbouring scales, and summed into f̂;
the transformer sees, for scale k + 1, f̂ area-down-sampled to p_{k+1} (method §3, §7).

Maps are kept as (B, p², C): both resamplings are products with a fixed matrix, and φ is a single
convolution whose kernel has the identity folded in. All of it is linear, so a small frozen pyramid
becomes one matrix from all code vectors to all inputs. All of it runs in full precision.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.tools.numerics import full_precision

MATRIX_LIMIT = 2048  # largest L·C for which a frozen pyramid is made one matrix
Kernel = tuple[Tensor, Tensor]  # weight (C, C, 3, 3) and bias (C) of a φ, identity folded in


def scale_spans(patch_nums: tuple[int, ...]) -> list[tuple[int, int]]:
    """(start, stop) of the tokens of each scale, the scales one after the other."""
    ends = np.cumsum([p * p for p in patch_nums]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def phi_index(k: int, scales: int, convs: int) -> int:
    """Which of the shared convolutions scale k of `scales` uses: the nearest of evenly spread
    ticks; four convolutions have theirs a third of a tick from the ends, others half a tick."""
    end = 1 / (3 * convs) if convs == 4 else 1 / (2 * convs)
    ticks = np.linspace(end, 1 - end, convs)
    return int(np.argmin(np.abs(ticks - k / max(1, scales - 1))))


def resize_matrix(source: int, target: int, mode: str) -> Tensor:
    """The matrix (target², source²) of a resampling of square maps (align_corners off)."""
    basis = torch.eye(source * source, device="cpu").view(-1, 1, source, source)
    return F.interpolate(basis, size=(target, target), mode=mode).flatten(1).T.contiguous()


class Pyramid(nn.Module):
    """The pyramid with its convolutions φ.

    Args:
        patch_nums (tuple[int, ...]): p_1…p_K, increasing.
        code_dim (int): C.
        convs (int): number of shared convolutions.
        ratio (float): φ(x) = (1 − ratio)·x + ratio·conv(x).

    Its constants are made on the CPU even under `torch.device("meta")`, so that a model built there
    and filled with weights is whole.
    """

    weight: Tensor  # (convs·C, C, 3, 3), learned here, followed in a `FrozenPyramid`
    bias: Tensor  # (convs·C,)
    same: Tensor  # the identity as kernels, (convs·C, C, 3, 3)

    def __init__(
        self, patch_nums: tuple[int, ...], code_dim: int, convs: int = 4, ratio: float = 0.5
    ):
        super().__init__()
        rising = all(a < b for a, b in zip(patch_nums[:-1], patch_nums[1:], strict=True))
        if not patch_nums or patch_nums[0] < 1 or not rising or convs < 1:
            raise DD2Error(f"patch_nums={list(patch_nums)} must be increasing whole numbers from "
                           "1, with at least one shared convolution.")
        self.patch_nums, self.ratio, self.convs = tuple(patch_nums), ratio, convs
        self.spans, self.side = scale_spans(patch_nums), patch_nums[-1]
        self.phi = [phi_index(k, len(patch_nums), convs) for k in range(len(patch_nums))]
        bound = (9 * code_dim) ** -0.5
        weight = torch.empty(convs * code_dim, code_dim, 3, 3).uniform_(-bound, bound)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(convs * code_dim))
        same = torch.zeros(code_dim, code_dim, 3, 3, device="cpu")
        same[:, :, 1, 1] = torch.eye(code_dim, device="cpu")
        self.register_buffer("same", same.repeat(convs, 1, 1, 1), persistent=False)
        for k, p in enumerate(patch_nums[:-1]):
            self.register_buffer(f"up_{k}", resize_matrix(p, self.side, "bicubic"), False)
            self.register_buffer(f"down_{k}", resize_matrix(self.side, p, "area"), False)

    def kernels(self) -> list[Kernel]:
        """The φ of each scale."""
        weight = (self.ratio * self.weight + (1 - self.ratio) * self.same).chunk(self.convs)
        bias = (self.ratio * self.bias).chunk(self.convs)
        return [(weight[i], bias[i]) for i in self.phi]

    def down(self, f: Tensor, k: int) -> Tensor:
        """Area-down-sample f (B, p_K², C) to scale k: (B, p_k², C)."""
        return f if k == len(self.spans) - 1 else getattr(self, f"down_{k}") @ f

    def contribution(self, x: Tensor, k: int, kernels: list[Kernel]) -> Tensor:
        """The contribution of scale k's vectors (B, p_k², C) to f̂: (B, p_K², C)."""
        if k < len(self.spans) - 1:
            x = getattr(self, f"up_{k}") @ x
        b, n, c = x.shape
        x = x.view(b, self.side, self.side, c).permute(0, 3, 1, 2)  # channels last
        return F.conv2d(x, *kernels[k], padding=1).permute(0, 2, 3, 1).reshape(b, n, c)

    def merge(self, vectors: Tensor, scales: int | None = None) -> Tensor:
        """f̂ (B, p_K², C) of the vectors (B, L, C) of the first `scales` scales; None is all."""
        kernels, f = self.kernels(), vectors.new_zeros(len(vectors), self.side**2, self.width)
        with full_precision(vectors.device):
            for k, (first, last) in enumerate(self.spans[:scales]):
                f = f + self.contribution(vectors[:, first:last], k, kernels)
        return f

    @property
    def width(self) -> int:
        """C."""
        return self.weight.shape[1]

    def inputs(self, vectors: Tensor) -> Tensor:
        """What the transformer sees for scales 2…K: (B, L, C) → (B, L − p_1², C).

        The rows of scale k depend on the vectors of the scales before k alone.
        """
        kernels, out = self.kernels(), []
        f = vectors.new_zeros(len(vectors), self.side**2, self.width)
        with full_precision(vectors.device):
            for k, (first, last) in enumerate(self.spans[:-1]):
                f = f + self.contribution(vectors[:, first:last], k, kernels)
                out.append(self.down(f, k + 1))
        return torch.cat(out, 1) if out else vectors[:, :0]

    def split(
        self, f: Tensor, look_up: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Explain a feature map, scale by scale, each time what the scales before left over.

        Args:
            f (Tensor): (B, p_K², C).
            look_up (Callable): maps the down-sampled rest (B, p_k², C) to code vectors of the same
                shape.

        Returns:
            tuple[Tensor, list[Tensor]]: the vectors that were looked up, (B, L, C), and f̂ after
            each scale, K tensors (B, p_K², C).
        """
        kernels, total, residuals, sums = self.kernels(), torch.zeros_like(f), [], []
        with full_precision(f.device):
            for k in range(len(self.spans)):
                residuals.append(self.down(f - total, k))
                total = total + self.contribution(look_up(residuals[-1]), k, kernels)
                sums.append(total)
        return torch.cat(residuals, 1), sums


class FrozenPyramid(Pyramid):
    """A copy of a pyramid with buffers for convolutions, neither trained nor saved: for a
    transformer, whose tokenizer owns and saves them.

    Args:
        source (Pyramid): the tokenizer's.
    """

    matrix: Tensor | None
    offset: Tensor | None

    def __init__(self, source: Pyramid):
        super().__init__(source.patch_nums, source.width, source.convs, source.ratio)
        for name in ("weight", "bias"):
            delattr(self, name)
            self.register_buffer(name, None, persistent=False)
        self.register_buffer("matrix", None, persistent=False)  # (L·C, (L − p_1²)·C)
        self.register_buffer("offset", None, persistent=False)  # ((L − p_1²)·C,)
        self.to(source.weight.device).copy_from(source)

    @torch.no_grad()
    def copy_from(self, source: Pyramid) -> None:
        """Take over the convolutions of the tokenizer's pyramid."""
        self.weight, self.bias = source.weight.detach().clone(), source.bias.detach().clone()
        self.matrix = self.offset = None
        tokens, c = self.spans[-1][1], self.width
        if tokens * c > MATRIX_LIMIT or self.weight.is_meta:
            return
        basis = torch.eye(tokens * c, device="cpu").to(self.weight).view(-1, tokens, c)
        offset = super().inputs(torch.zeros_like(basis[:1])).flatten(1)
        matrix = super().inputs(basis).flatten(1) - offset
        for first, last in self.spans[1:]:  # exactly nothing from the scale itself and finer ones
            matrix[first * c :, (first - self.spans[0][1]) * c : (last - self.spans[0][1]) * c] = 0
        self.matrix, self.offset = matrix, offset[0]

    def inputs(self, vectors: Tensor) -> Tensor:
        """See `Pyramid.inputs`."""
        if self.matrix is None or self.offset is None:
            return super().inputs(vectors)
        with full_precision(vectors.device):
            x = torch.addmm(self.offset, vectors.flatten(1), self.matrix)
        return x.view(len(x), -1, self.width)

    def input_of(self, k: int, vectors: Tensor) -> Tensor:
        """Inputs (B, p_k², C) of scale k ≥ 1 from the vectors (B, start of k, C) before it; for a
        pyramid with a matrix."""
        assert self.matrix is not None and self.offset is not None
        (first, last), skip, c = self.spans[k], self.spans[0][1], self.width
        part = slice((first - skip) * c, (last - skip) * c)
        with full_precision(vectors.device):
            x = torch.addmm(self.offset[part], vectors.flatten(1), self.matrix[: first * c, part])
        return x.view(len(x), -1, c)
