"""A teacher that knows a whole joint distribution of a few tokens, and two such distributions.

The logits of a token are the logarithms of its true conditional given those before it, so the
teacher errs nowhere, and whatever is off after distillation is the distillation's.
"""

import itertools

import torch
from torch import Tensor, nn

from dd2core.families.codebook import CodebookTeacher, Index
from dd2core.teacher import Backbone


def pair() -> Tensor:
    """The paper's example: (0, 0) or (1, 1), each half of the time; shape (2, 2)."""
    return torch.eye(2) / 2


def markov_field(side: int = 2, states: int = 3, coupling: float = 1.2) -> Tensor:
    """A Potts field on side × side places in raster order: neighbours like to be equal, and states
    differ in how common they are. Shape (states,) · side².

    Args:
        side (int): places a side.
        states (int): values of a place.
        coupling (float): log of how much likelier two neighbours are equal than not.
    """
    places = list(itertools.product(range(side), repeat=2))
    pairs = [(a, b) for a, b in itertools.combinations(range(len(places)), 2)
             if sum(abs(x - y) for x, y in zip(places[a], places[b], strict=True)) == 1]
    joint = torch.empty((states,) * len(places))
    for q in itertools.product(range(states), repeat=len(places)):
        equal = sum(q[a] == q[b] for a, b in pairs)
        joint[q] = coupling * equal - 0.3 * sum(q)
    return joint.flatten().softmax(0).view_as(joint)


class FieldBackbone(Backbone):
    """h_i from i and the vectors of the tokens before it: an MLP on these, the rest set to 0."""

    width = 64

    def __init__(self, codebook: Tensor, length: int):
        super().__init__()
        self.register_buffer("codebook", codebook, persistent=False)
        self.register_buffer("before", torch.ones(length, length).tril(-1), persistent=False)
        self.place = nn.Parameter(torch.randn(length, self.width))
        self.blocks = nn.ModuleList([nn.Sequential(
            nn.Linear(length * (codebook.shape[1] + 1), 128), nn.SiLU(),
            nn.Linear(128, self.width))])

    def forward(self, prefix: Tensor, labels: Tensor) -> Tensor:
        """See `Backbone.forward`."""
        x = prefix if prefix.is_floating_point() else self.codebook[prefix]  # (B, L, C)
        seen = x[:, None] * self.before[..., None]  # (B, L, L, C): row i holds what i sees
        where = torch.eye(len(self.before), device=x.device).expand(len(x), -1, -1)
        return self.place + self.blocks[0](torch.cat([seen.flatten(2), where], -1))  # (B, L, D)

    def new_parameters(self) -> tuple[str, ...]:
        """All: the teacher has none."""
        return tuple(name for name, _ in self.named_parameters())


class FieldTeacher(CodebookTeacher):
    """The exact AR model of a joint distribution.

    Args:
        joint (Tensor): probabilities, (V,) · L.
    """

    guidance_off = 1.0

    def __init__(self, joint: Tensor):
        super().__init__()
        states, length = joint.shape[0], joint.ndim
        angle = torch.arange(states) * (2 * torch.pi / states)
        self.set_codebook(torch.stack([angle.cos(), angle.sin()], 1))  # corners of a polygon
        self.num_classes, self.num_tokens = 1, length
        self.spans = [(i, i + 1) for i in range(length)]
        # Of each place i the conditional given all before it, (V,) · (i + 1).
        marginals = [joint.flatten(i).sum(-1) for i in range(1, length)] + [joint]
        self.conditionals = [m / m.sum(-1, keepdim=True).clamp_min(1e-12) for m in marginals]

    def logits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """See `CodebookTeacher.logits`; exact, −30 stands for never."""
        rows = [p[tuple(tokens[:, j] for j in range(i))].expand(len(tokens), -1)
                for i, p in enumerate(self.conditionals)]
        return torch.stack(rows, 1).log().clamp_min(-30)  # (B, L, V)

    def blank_logits(self, labels: Tensor) -> Tensor:
        """The true distribution of each token alone: the best that independent tokens can do."""
        joint = self.conditionals[0]
        rows = [joint]
        for p in self.conditionals[1:]:
            joint = joint[..., None] * p
            rows.append(joint.flatten(0, -2).sum(0))
        return torch.stack(rows).log().clamp_min(-30).expand(len(labels), -1, -1)

    def guide(self, cond: Tensor, uncond: Tensor, cfg: float, where: Index) -> Tensor:
        """No guidance: there is one class."""
        return cond

    def begin(self, labels: Tensor) -> Tensor:
        """See `CodebookTeacher.begin`; nothing to remember but the labels."""
        return labels

    def advance(self, cache: Tensor, tokens: Tensor, step: int) -> Tensor:
        """See `CodebookTeacher.advance`."""
        return self.logits(tokens, cache)[:, step : step + 1]

    def decode(self, tokens: Tensor, upto: int | None = None) -> Tensor:
        """One pixel per token, (B, 1, 1, L)."""
        return (2 * tokens / max(1, self.num_codes - 1) - 1)[:, None, None]

    def encode(self, images: Tensor) -> Tensor:
        """The inverse of `decode`."""
        return ((images[:, 0, 0] + 1) / 2 * (self.num_codes - 1)).round().long()

    def backbone(self) -> FieldBackbone:
        """See `Teacher.backbone`; nothing in it comes from the teacher."""
        return FieldBackbone(self.codebook, self.num_tokens)
