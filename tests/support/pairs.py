"""The paper's example: images of two tokens, (0, 0) or (1, 1), as a teacher of a family of its own.

An independent prediction of each token would sample (0, 1) as often as (0, 0).
"""

import torch
from torch import Tensor, nn

from dd2core.families.codebook import CodebookTeacher, Index
from dd2core.teacher import Backbone


class PairBackbone(Backbone):
    """h_1 is a constant, h_2 sees the first token."""

    width = 32

    def __init__(self, codebook: Tensor):
        super().__init__()
        self.first = nn.Parameter(torch.randn(self.width))
        self.second = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, self.width))
        self.register_buffer("codebook", codebook, persistent=False)

    def forward(self, prefix: Tensor, labels: Tensor) -> Tensor:
        x = prefix if prefix.is_floating_point() else self.codebook[prefix]  # (B, 2, 1)
        first = self.first.expand(len(labels), -1)
        return torch.stack([first, self.second(x[:, 0])], 1)  # (B, 2, D)

    def new_parameters(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.named_parameters())


class PairTeacher(CodebookTeacher):
    """Knows that the second token repeats the first."""

    guidance_off = 1.0

    def __init__(self):
        super().__init__()
        self.set_codebook(torch.tensor([[-1.0], [1.0]]))
        self.num_classes, self.num_tokens, self.spans = 1, 2, [(0, 1), (1, 2)]

    def logits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        first = torch.zeros(len(labels), 2)
        second = 8 * torch.nn.functional.one_hot(tokens[:, 0], 2)
        return torch.stack([first, second.float()], 1)  # (B, 2, V)

    def blank_logits(self, labels: Tensor) -> Tensor:
        return torch.zeros(len(labels), 2, 2)

    def guide(self, cond: Tensor, uncond: Tensor, cfg: float, where: Index) -> Tensor:
        return uncond + cfg * (cond - uncond)

    def begin(self, labels: Tensor) -> Tensor:
        return labels

    def advance(self, cache: Tensor, tokens: Tensor, step: int) -> Tensor:
        return self.logits(tokens, cache)[:, step : step + 1]

    def decode(self, tokens: Tensor, upto: int | None = None) -> Tensor:
        return self.codebook[tokens].mT[:, None]  # (B, 1, 1, 2)

    def encode(self, images: Tensor) -> Tensor:
        return (images[:, 0, 0] > 0).long()

    def backbone(self) -> PairBackbone:
        return PairBackbone(self.codebook)
