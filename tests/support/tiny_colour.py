"""A random model with pictures like the emoji presets': 48-pixel RGB, 8×8 tokens of 2,048 codes, 30
classes with long names."""

from dd2core.families.codebook import scaled_codebook
from dd2core.families.llamagen.settings import TransformerConfig, VQConfig
from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.llamagen.tokenizer import VQTokenizer
from dd2core.families.llamagen.transformer import LlamaGenTransformer
from dd2core.sampling import Sampling
from dd2core.store.folder import Model
from tests.support import tiny

CLASSES = [f"people, gestures and body parts {i:02d}" for i in range(29)] + ["<flags> & \"signs\""]


def model(token_input: str = "codes", prediction: str = "denoised") -> Model:
    """Teacher and generator; patches of 3×3 pixels, then one halving."""
    vq = VQTokenizer(VQConfig(48, 3, 8, (1, 2), (1, 1), 8, 2048, 8, 4, True, patch=3))
    sizes = TransformerConfig(2, 32, 2, 64, vq.cfg.grid, 2048, 8, len(CLASSES), token_input)
    t = LlamaGenTeacher(vq, LlamaGenTransformer(sizes, scaled_codebook(vq.codes)[0]))
    g = tiny.score_model(t).requires_grad_(False).eval()
    g.prediction = prediction
    return Model("tiny-colour", "llamagen", CLASSES, Sampling(2.0), t, g,
                 tiny.score_model(t, 1).requires_grad_(False).eval(), 48)
