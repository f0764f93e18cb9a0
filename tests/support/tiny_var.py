"""VAR models small enough for a test, with random weights."""

import torch

from dd2core.families.var.settings import VARConfig, VARTokenizerConfig
from dd2core.families.var.teacher import VARTeacher
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.families.var.transformer import VARTransformer
from dd2core.sampling import Sampling
from dd2core.score_model import ConditionalScoreModel
from dd2core.store.folder import Model
from tests.support import tiny

PATCH_NUMS = (1, 2, 4)  # 21 tokens


def tokenizer(channels: int = 1, seed: int = 0, patch_nums=PATCH_NUMS) -> VARTokenizer:
    """16-pixel images, V = 32, C = 4; its bicubic pyramid has biases, as a trained one does."""
    torch.manual_seed(seed)
    model = VARTokenizer(VARTokenizerConfig(
        4 * patch_nums[-1], channels, 8, (1, 2, 2), (0, 1, 1), 8, 32, 4, 4, True, patch_nums))
    with torch.no_grad():
        model.pyramid.bias.normal_(0, 0.1)
        model.embedding.mul_(0.7)  # codes of another scale than 1
    return model


def teacher(shared: bool = False, l2_norm: bool = True, channels: int = 1, seed: int = 0,
            depth: int = 2, patch_nums=PATCH_NUMS) -> VARTeacher:
    """A teacher of width 32 whose random logits are spread out, so that p is not flat."""
    vq = tokenizer(channels, seed, patch_nums)
    cfg = VARConfig(depth, 32, 2, 4.0, 32, 4, len(tiny.CLASSES), patch_nums, shared, l2_norm)
    transformer = VARTransformer(cfg, vq)
    with torch.no_grad():
        for name, p in transformer.named_parameters():
            if "log_scale" in name:
                p.normal_(1, 0.5)
            else:
                p.normal_(0, p.shape[-1] ** -0.5 if p.ndim >= 2 else 0.3)
    return VARTeacher(vq, transformer)


def score_model(t: VARTeacher, seed: int = 0, trained: bool = True) -> ConditionalScoreModel:
    """See `tests.tiny.score_model`."""
    return tiny.score_model(t, seed, trained)


def model(channels: int = 1) -> Model:
    """Everything that a model folder holds."""
    t = teacher(channels=channels)
    return Model("tiny-var", "var", tiny.CLASSES, Sampling(1.0), t,
                 score_model(t).requires_grad_(False).eval(),
                 score_model(t, 1).requires_grad_(False).eval(), 16)
