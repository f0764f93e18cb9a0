"""Models small enough for a test, with random weights."""

import torch

from dd2core.families.codebook import scaled_codebook
from dd2core.families.llamagen.settings import TransformerConfig, VQConfig
from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.llamagen.tokenizer import VQTokenizer
from dd2core.families.llamagen.transformer import LlamaGenTransformer
from dd2core.sampling import Sampling
from dd2core.score_model import ConditionalScoreModel
from dd2core.store.folder import Model

CLASSES = ["cat", "dog", "owl"]


def tokenizer(channels: int = 1, seed: int = 0) -> VQTokenizer:
    """16-pixel images, 4×4 tokens, V = 32, C = 4."""
    torch.manual_seed(seed)
    return VQTokenizer(VQConfig(16, channels, 8, (1, 2, 2), (0, 1, 1), 8, 32, 4, 4, True))


def teacher(token_input: str = "codes", channels: int = 1, seed: int = 0, depth: int = 2,
            spread: float = 10.0) -> LlamaGenTeacher:
    """A teacher of width 32 whose random logits are spread out, so that p is not flat."""
    vq = tokenizer(channels, seed)
    cfg = TransformerConfig(depth, 32, 2, 64, 4, 32, 4, len(CLASSES), token_input)
    transformer = LlamaGenTransformer(cfg, scaled_codebook(vq.codes)[0])
    with torch.no_grad():
        for p in transformer.parameters():
            if p.ndim >= 2:
                p.normal_(0, p.shape[-1] ** -0.5)
        transformer.output.weight.mul_(spread / 10)
    return LlamaGenTeacher(vq, transformer)


def score_model(t: LlamaGenTeacher, seed: int = 0, trained: bool = True) -> ConditionalScoreModel:
    """A score model; `trained` fills the layers that start at zero with small random weights."""
    torch.manual_seed(seed)
    model = ConditionalScoreModel(t.backbone(), t.code_dim, 16, 2)
    if trained:
        with torch.no_grad():
            for layer in (model.head.modulation, model.head.out):
                layer.weight.normal_(0, 0.2)
    return model


def model(channels: int = 1) -> Model:
    """Everything that a model folder holds."""
    t = teacher(channels=channels)
    return Model("tiny", "llamagen", CLASSES, Sampling(2.0), t,
                 score_model(t).requires_grad_(False).eval(),
                 score_model(t, 1).requires_grad_(False).eval(), 16)
