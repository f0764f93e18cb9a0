"""The LlamaGen teacher: tokenizer and transformer behind `Teacher`, KV cache written in place."""

import copy
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from dd2core.families.codebook import CodebookTeacher, Index
from dd2core.families.llamagen.tokenizer import VQTokenizer
from dd2core.families.llamagen.transformer import (
    Block,
    LlamaGenBackbone,
    LlamaGenTransformer,
    rotary_factors,
    run_block,
)


class KVCache:
    """Keys and values of all blocks, allocated once; the token inputs; and how many positions they
    hold."""

    def __init__(self, model: LlamaGenBackbone, labels: Tensor):
        cfg, like = model.cfg, model.class_embedding.weight
        kind = like.device.type
        auto = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if auto else like.dtype
        shape = (2, labels.shape[0], cfg.heads, cfg.grid**2, cfg.width // cfg.heads)
        self.blocks = [(block.weights(), like.new_empty(shape, dtype=dtype))
                       for block in cast(Iterable[Block], model.blocks)]
        self.rotary, self.table = rotary_factors(model.cos, model.sin), model.table().to(like.dtype)
        self.labels, self.length = labels, 0


class LlamaGenTeacher(CodebookTeacher):
    """Tokenizer and transformer behind the `Teacher` interface."""

    guidance_off = 1.0
    tokenizer: VQTokenizer
    transformer: LlamaGenTransformer
    spans: list[tuple[int, int]]

    def __init__(self, tokenizer: VQTokenizer, transformer: LlamaGenTransformer):
        super().__init__()
        cfg = transformer.cfg
        self.set_codebook(tokenizer.codes)
        # Convolutions of small batches are a fifth faster on weights in this order.
        self.tokenizer = tokenizer.to(memory_format=torch.channels_last)
        self.transformer = transformer
        transformer.backbone.codebook = self.codebook.clone()
        self.num_classes, self.num_tokens = cfg.num_classes, cfg.grid**2
        self.spans = [(i, i + 1) for i in range(self.num_tokens)]
        self.requires_grad_(False).eval()

    def logits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """See `Teacher.logits`."""
        return self.transformer(tokens, labels)

    def blank_logits(self, labels: Tensor) -> Tensor:
        """See `Teacher.blank_logits`: the average token input at every position."""
        model = self.transformer.backbone
        blank = model.table().mean(0)
        x = torch.cat([model.class_embedding(labels)[:, None],
                       blank.expand(len(labels), self.num_tokens - 1, -1)], 1)  # (B, L, D)
        return self.transformer.output(model.run_blocks(x))

    def guide(self, cond: Tensor, uncond: Tensor, cfg: float, where: Index) -> Tensor:
        """u + s(c − u) (method §10)."""
        return uncond + cfg * (cond - uncond)

    def begin(self, labels: Tensor) -> KVCache:
        """See `Teacher.begin`."""
        return KVCache(self.transformer.backbone, labels)

    def advance(self, cache: KVCache, tokens: Tensor, step: int) -> Tensor:
        """See `Teacher.advance`."""
        model, first = self.transformer.backbone, cache.length
        last = step + 1  # position p holds the class token (p = 0) or token p − 1
        x = F.embedding(tokens[:, max(first - 1, 0) : step], cache.table)
        if first == 0:
            x = torch.cat([model.class_embedding(cache.labels)[:, None], x], 1)
        rotary, heads = cache.rotary[first:last], model.cfg.heads
        for weights, kv in cache.blocks:
            x = run_block(weights, heads, x, rotary, kv, first)  # (B, n, D)
        cache.length = last
        x = F.rms_norm(x[:, -1:], x.shape[-1:], model.norm.weight, 1e-5)
        return F.linear(x, self.transformer.output.weight)  # (B, 1, V)

    def decode(self, tokens: Tensor, upto: int | None = None) -> Tensor:
        """See `Teacher.decode`; undecided tokens are painted as the mean code."""
        if upto is None or upto >= self.num_tokens:
            return self.tokenizer.decode(tokens)
        z = self.tokenizer.codes[tokens].clone()  # (B, L, C)
        z[:, upto:] = self.tokenizer.codes.mean(0)
        return self.tokenizer.decode_vectors(z).clamp(-1, 1)

    def encode(self, images: Tensor) -> Tensor:
        """See `Teacher.encode`."""
        return self.tokenizer.encode(images)

    def backbone(self) -> LlamaGenBackbone:
        """See `Teacher.backbone`."""
        model = copy.deepcopy(self.transformer.backbone)
        model.add_code_input()
        return model.requires_grad_(True).train()
