"""The VAR teacher: tokenizer and transformer behind `Teacher`, with a KV cache over scales."""

import copy
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from dd2core.families.codebook import CodebookTeacher, Index
from dd2core.families.var.block import Block, modulate, run_block
from dd2core.families.var.pyramid import scale_spans
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.families.var.transformer import VARBackbone, VARTransformer
from dd2core.tools.numerics import full_precision


class ScaleCache:
    """Keys and values of all blocks, allocated once; what depends on the label alone, computed
    once; f̂ of the scales so far; and how many scales they hold."""

    def __init__(self, model: VARBackbone, labels: Tensor):
        cfg, like = model.cfg, model.position
        kind = like.device.type
        auto = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if auto else like.dtype
        shape = (labels.shape[0], cfg.num_tokens, 2, cfg.heads, cfg.width // cfg.heads)
        c, condition = model.conditions(labels)
        blocks = cast(Iterable[Block], model.blocks)
        self.blocks = [(block.weights(), block.modulate(condition),
                        like.new_empty(shape, dtype=dtype)) for block in blocks]
        self.norm, self.first = model.norm_modulation(c), model.first(labels)
        self.positions, self.kernels = model.position_embeddings(), model.pyramid.kernels()
        self.f = like.new_zeros(labels.shape[0], cfg.patch_nums[-1] ** 2, cfg.code_dim)
        self.scales = 0


class VARTeacher(CodebookTeacher):
    """Tokenizer and transformer behind the `Teacher` interface."""

    guidance_off = 0.0
    tokenizer: VARTokenizer
    transformer: VARTransformer
    spans: list[tuple[int, int]]
    strength: Tensor  # k/(K − 1) of each token, (L, 1)

    def __init__(self, tokenizer: VARTokenizer, transformer: VARTransformer):
        super().__init__()
        cfg = transformer.cfg
        self.set_codebook(tokenizer.codes)
        # Convolutions of small batches are a fifth faster on weights in this order.
        self.tokenizer = tokenizer.to(memory_format=torch.channels_last)
        self.transformer = transformer
        transformer.backbone.copy_codes(tokenizer)
        self.num_classes, self.num_tokens = cfg.num_classes, cfg.num_tokens
        self.spans = scale_spans(cfg.patch_nums)
        ratio = transformer.backbone.scale_of / max(1, len(self.spans) - 1)
        self.register_buffer("strength", ratio[:, None], persistent=False)
        self.requires_grad_(False).eval()

    def logits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """See `Teacher.logits`."""
        return self.transformer(tokens, labels)

    def blank_logits(self, labels: Tensor) -> Tensor:
        """See `Teacher.blank_logits`: the mean code everywhere, through the pyramid."""
        blank = self.codebook.mean(0).expand(len(labels), self.num_tokens, -1)
        return self.transformer.output(self.transformer.backbone(blank, labels))

    def guide(self, cond: Tensor, uncond: Tensor, cfg: float, where: Index) -> Tensor:
        """(1 + t_k)c − t_k·u with t_k = cfg·k/(K − 1) (method §10)."""
        t = cfg * self.strength[where]  # (n, 1)
        return torch.addcmul(cond, cond - uncond, t.to(cond.dtype))

    def begin(self, labels: Tensor) -> ScaleCache:
        """See `Teacher.begin`."""
        return ScaleCache(self.transformer.backbone, labels)

    def advance(self, cache: ScaleCache, tokens: Tensor, step: int) -> Tensor:
        """See `Teacher.advance`."""
        model, done = self.transformer.backbone, cache.scales
        first, last = self.spans[done][0], self.spans[step][1]
        x = torch.cat([self._input(cache, tokens, k) for k in range(done, step + 1)], 1) \
            if step > done else self._input(cache, tokens, step)
        x = x + cache.positions[first:last]  # (B, n, D)
        mask = model.mask[first:last, :last] if step > done else None
        for weights, modulation, kv in cache.blocks:
            x = run_block(weights, model.cfg.heads, x, modulation, mask, kv, first)
        cache.scales = step + 1
        x = x[:, self.spans[step][0] - last :]
        return self.transformer.output(modulate(x, *cache.norm))  # (B, n, V)

    def _input(self, cache: ScaleCache, tokens: Tensor, k: int) -> Tensor:
        """Inputs (B, p_k², D) of scale k, without position embeddings; f̂ takes the scale before
        in."""
        if k == 0:
            return cache.first
        model, (first, last) = self.transformer.backbone, self.spans[k - 1]
        pyramid = model.pyramid
        if pyramid.matrix is not None:
            seen = pyramid.input_of(k, model.codes[tokens[:, :last]])
        else:
            with full_precision(tokens.device):
                codes = model.codes[tokens[:, first:last]]
                cache.f += pyramid.contribution(codes, k - 1, cache.kernels)
                seen = pyramid.down(cache.f, k)
        return model.code_input(seen).to(cache.first.dtype)

    def decode(self, tokens: Tensor, upto: int | None = None) -> Tensor:
        """See `Teacher.decode`; scales that are not decided as a whole add nothing."""
        upto = self.num_tokens if upto is None else upto
        return self.tokenizer.decode(tokens, sum(stop <= upto for _, stop in self.spans))

    def encode(self, images: Tensor) -> Tensor:
        """See `Teacher.encode`."""
        return self.tokenizer.encode(images)

    def backbone(self) -> VARBackbone:
        """See `Teacher.backbone`."""
        return copy.deepcopy(self.transformer.backbone).requires_grad_(True).train()
