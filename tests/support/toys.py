"""Teachers of families of their own, with known answers: without a codebook, and out of order."""

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dd2core.families.codebook import CodebookTeacher, Index
from dd2core.sampling import Sampling
from dd2core.teacher import Backbone, Teacher


class OrderedBackbone(Backbone):
    """h_i sees the vectors of the tokens that `seen[i]` marks: an MLP on those, and on i.

    Args:
        seen (Tensor): bool (L, L), row i: the tokens that are decided before i.
        vectors (Callable): tokens → vectors (B, L, 1), for a prefix of tokens.
    """

    width = 32

    def __init__(self, seen: Tensor, vectors):
        super().__init__()
        n = len(seen)
        self.register_buffer("seen", seen.float(), persistent=False)
        self.vectors = vectors
        self.position = nn.Parameter(torch.randn(n, self.width))
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(n, 64), nn.SiLU(),
                                                   nn.Linear(64, self.width))])

    def forward(self, prefix: Tensor, labels: Tensor) -> Tensor:
        x = prefix if prefix.is_floating_point() else self.vectors(prefix)  # (B, L, 1)
        x = x[:, None, :, 0] * self.seen  # (B, L, L): row i holds what i sees
        return self.position + self.blocks[0](x)  # (B, L, D)

    def new_parameters(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.named_parameters())


def normal_quantile(u: Tensor) -> Tensor:
    """Φ⁻¹(u), kept away from the ends."""
    return math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.9999, 0.9999))


@dataclasses.dataclass(frozen=True)
class MixtureScore:
    """D_Φ of tokens that are mixtures of Gaussians of one width."""

    means: Tensor  # (B, L, M)
    width: float

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Posterior mean, (..., B, L, 1) → the same shape."""
        a, variance = 1 - t, ((1 - t) * self.width) ** 2 + t**2  # (..., B, L, 1)
        weight = (-(x_t - a * self.means) ** 2 / (2 * variance)).softmax(-1)
        each = self.means + a * self.width**2 / variance * (x_t - a * self.means)
        return (weight * each).sum(-1, keepdim=True)

    def statistics(self) -> dict[str, Tensor]:
        return {}


class MixtureTeacher(Teacher):
    """Two continuous tokens and no codebook: q_1 near −1 or 1, q_2 near q_1."""

    guidance_off, code_dim, width = 1.0, 1, 0.1

    def __init__(self):
        super().__init__()
        self.num_classes, self.num_tokens, self.spans = 1, 2, [(0, 1), (1, 2)]
        self.register_buffer("ends", torch.tensor([-1.0, 1.0]))

    def score(self, tokens: Tensor, labels: Tensor, sampling: Sampling, chunk=None):
        first = self.ends.expand(len(tokens), 1, 2)
        second = tokens[:, :1].expand(-1, -1, 2)  # both components at q_1
        return MixtureScore(torch.cat([first, second], 1), self.width)

    def vectors(self, tokens: Tensor) -> Tensor:
        return tokens

    def quantise(self, x: Tensor) -> Tensor:
        return x

    def backbone(self) -> OrderedBackbone:
        return OrderedBackbone(torch.ones(2, 2).tril(-1).bool(), self.vectors)

    def steps(self, labels, cfg=None, temperature=1.0, top_k=0, top_p=1.0, noise=None,
              prefix=None, start=0) -> Iterator[tuple[Tensor, None]]:
        noise = torch.rand(len(labels), 2) if noise is None else noise
        tokens = torch.zeros(len(labels), 2, 1) if prefix is None else prefix.clone()
        for step in range(start, 2):
            u = noise[:, step]
            if step == 0:  # the first half of u draws one component, the second the other
                mean, u = self.ends[(u >= 0.5).long()], 2 * u % 1
            else:
                mean = tokens[:, 0, 0]
            tokens[:, step, 0] = mean + self.width * normal_quantile(u)
            yield tokens, None

    def decode(self, tokens: Tensor, upto: int | None = None) -> Tensor:
        return tokens.mT[:, None].clamp(-1, 1)  # (B, 1, 1, 2)

    def encode(self, images: Tensor) -> Tensor:
        return images[:, 0].mT


class ScatteredTeacher(CodebookTeacher):
    """Four tokens in a scattered order: 2 first, then 0 and 3 at once, which repeat it, then 1,
    which is their opposite."""

    guidance_off = 1.0

    def __init__(self):
        super().__init__()
        self.set_codebook(torch.tensor([[-1.0], [1.0]]))
        self.num_classes, self.num_tokens = 1, 4
        self.spans = [torch.tensor([2]), torch.tensor([0, 3]), torch.tensor([1])]

    def logits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        out = torch.zeros(len(labels), 4, 2)
        same = 8.0 * nn.functional.one_hot(tokens[:, 2], 2).float()
        out[:, 0], out[:, 3] = same, same
        out[:, 1] = 8.0 * nn.functional.one_hot(1 - tokens[:, 0], 2).float()
        return out

    def blank_logits(self, labels: Tensor) -> Tensor:
        return torch.zeros(len(labels), 4, 2)

    def guide(self, cond: Tensor, uncond: Tensor, cfg: float, where: Index) -> Tensor:
        return uncond + cfg * (cond - uncond)

    def begin(self, labels: Tensor) -> Tensor:
        return labels

    def advance(self, cache: Tensor, tokens: Tensor, step: int) -> Tensor:
        return self.logits(tokens, cache)[:, self.spans[step]]

    def decode(self, tokens: Tensor, upto: int | None = None) -> Tensor:
        return self.codebook[tokens].mT[:, None]  # (B, 1, 1, 4)

    def encode(self, images: Tensor) -> Tensor:
        return (images[:, 0, 0] > 0).long()

    def backbone(self) -> OrderedBackbone:
        seen = torch.zeros(4, 4, dtype=torch.bool)
        seen[0, 2] = seen[3, 2] = seen[1, 0] = seen[1, 2] = seen[1, 3] = True
        return OrderedBackbone(seen, self.vectors)
