"""The VAR transformer: it predicts the tokens of one scale after the other.

Told top to bottom: masks, backbone, transformer. Learned positions and levels, attention within a
scale and to all coarser ones (method §7; blocks in `dd2core.families.var.block`). What a scale sees
of the coarser ones comes through the tokenizer's residual pyramid, so noise can take the place of
code vectors (method §3).
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd2core.families.codebook import scaled_codebook
from dd2core.families.var.block import Block, modulate
from dd2core.families.var.pyramid import FrozenPyramid, scale_spans
from dd2core.families.var.settings import VARConfig
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.teacher import Backbone


def scale_of_tokens(patch_nums: tuple[int, ...]) -> Tensor:
    """The scale, from 0, of each of the L tokens: (L,) int64."""
    counts = torch.tensor([p * p for p in patch_nums], device="cpu")
    return torch.repeat_interleave(torch.arange(len(patch_nums), device="cpu"), counts)


def scale_mask(patch_nums: tuple[int, ...]) -> Tensor:
    """(L, L), 0 where a token may look (its own scale and coarser ones), −inf elsewhere."""
    scale = scale_of_tokens(patch_nums)
    hidden = scale[:, None] < scale[None]
    return torch.zeros(hidden.shape, device="cpu").masked_fill(hidden, float("-inf"))


class VARBackbone(Backbone):
    """Pyramid, token input, blocks and class-conditioned norm: h_i from q_<i (method §3)."""

    codes: Tensor  # (V, C), as the tokenizer stores them
    scale_of: Tensor  # see `scale_of_tokens`
    mask: Tensor  # see `scale_mask`

    def __init__(self, cfg: VARConfig, tokenizer: VARTokenizer):
        super().__init__()
        d, scales = cfg.width, len(cfg.patch_nums)
        self.cfg, self.width, self.spans = cfg, d, scale_spans(cfg.patch_nums)
        self.class_embedding = nn.Embedding(cfg.num_classes + 1, d)
        self.start = nn.Parameter(torch.randn(self.spans[0][1], d))  # in place of the first scale
        self.position = nn.Parameter(torch.randn(cfg.num_tokens, d))
        self.level = nn.Embedding(scales, d)
        self.code_input = nn.Linear(cfg.code_dim, d)
        self.modulation = nn.Linear(d, 6 * d) if cfg.shared_aln else None
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.depth))
        self.norm = nn.Linear(d, 2 * d)  # scale and shift of the last layer norm
        # Frozen: the tokenizer owns and saves them.
        self.pyramid = FrozenPyramid(tokenizer.pyramid)
        self.register_buffer("codes", tokenizer.codes.detach().clone(), persistent=False)
        self.code_scale = scaled_codebook(tokenizer.codes)[1]
        self.register_buffer("scale_of", scale_of_tokens(cfg.patch_nums), persistent=False)
        self.register_buffer("mask", scale_mask(cfg.patch_nums), persistent=False)

    def copy_codes(self, tokenizer: VARTokenizer) -> None:
        """Take over the tokenizer's codes and convolutions."""
        self.pyramid.copy_from(tokenizer.pyramid)
        self.codes = tokenizer.codes.detach().clone()
        self.code_scale = scaled_codebook(tokenizer.codes)[1]

    def vectors(self, prefix: Tensor) -> Tensor:
        """Tokens (B, n) or code-like vectors (B, n, C) → vectors on the stored codes' scale."""
        return prefix / self.code_scale if prefix.is_floating_point() else self.codes[prefix]

    def position_embeddings(self) -> Tensor:
        """What tells tokens apart before they say anything: level and position, (L, D)."""
        return self.position + self.level(self.scale_of)

    def first(self, labels: Tensor) -> Tensor:
        """Inputs of the first scale, without position embeddings: (B,) → (B, p_1², D)."""
        return self.class_embedding(labels)[:, None] + self.start

    def conditions(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """SiLU(class) (B, D), and what `Block.modulate` wants of it."""
        c = F.silu(self.class_embedding(labels))
        return c, c if self.modulation is None else self.modulation(c)

    def norm_modulation(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift of the last norm, each (B, 1, D), from SiLU(class) c (B, D)."""
        scale, shift = self.norm(c)[:, None].chunk(2, -1)
        return 1 + scale, shift

    def forward(self, prefix: Tensor, labels: Tensor) -> Tensor:
        """Features of all positions at once.

        Args:
            prefix (Tensor): tokens (B, L) int64 or vectors (B, L, C) like `Teacher.codebook`;
                tokens of scale k see those of the scales before k.
            labels (Tensor): (B,) int64; num_classes is "unconditional".

        Returns:
            Tensor: (B, L, D).
        """
        seen = self.pyramid.inputs(self.vectors(prefix))  # (B, L − p_1², C)
        first, rest = self.first(labels), self.code_input(seen)
        x = torch.cat([first, rest.to(first.dtype)], 1) + self.position_embeddings()  # (B, L, D)
        if self.training and self.dropout:
            x = F.dropout(x, self.dropout)
        c, condition = self.conditions(labels)
        for block in self.blocks:
            x = block(x, condition, self.mask)  # (B, L, D)
        return modulate(x, *self.norm_modulation(c))

    def new_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are not copied from the teacher: none."""
        return ()


class VARTransformer(nn.Module):
    """Backbone and the last Linear: logits of q_i from q_<i."""

    def __init__(self, cfg: VARConfig, tokenizer: VARTokenizer):
        super().__init__()
        self.cfg = cfg
        self.backbone = VARBackbone(cfg, tokenizer)
        self.output = nn.Linear(cfg.width, cfg.num_codes)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Fresh weights: small matrices, gates of adaLN open, inputs of unit scale."""
        model, d = self.backbone, self.cfg.width
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias) if module.bias is not None else None
        for a in (model.class_embedding.weight, model.start, model.position, model.level.weight):
            nn.init.normal_(a, std=(3 * d) ** -0.5)
        nn.init.normal_(model.code_input.weight,
                        std=model.code_scale * self.cfg.code_dim**-0.5)
        for block in cast(Iterable[Block], model.blocks):
            gates = block.modulation.bias.view(6, d) if block.modulation is not None \
                else cast(nn.Parameter, block.modulation_offset)
            gates[:2] = 1.0

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """(B, L), (B,) int64 → logits (B, L, V)."""
        return self.output(self.backbone(tokens, labels))


