"""LlamaGen: a raster-order transformer over the tokens of a VQ tokenizer."""

from dd2core.families.codebook import scaled_codebook
from dd2core.families.family import Family
from dd2core.families.llamagen import settings
from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.llamagen.tokenizer import VQTokenizer
from dd2core.families.llamagen.transformer import LlamaGenTransformer

FAMILY = Family(
    tokenizer_config=settings.VQConfig,
    transformer_config=settings.TransformerConfig,
    tokenizer_sizes=settings.tokenizer_sizes,
    transformer_sizes=settings.transformer_sizes,
    tokenizer=VQTokenizer,
    transformer=lambda sizes, vq: LlamaGenTransformer(sizes, scaled_codebook(vq.codes)[0]),
    teacher=LlamaGenTeacher,
    marks={"tok_embeddings.weight": "transformer",
           "encoder.conv_blocks.0.res.0.conv1.weight": "tokenizer"},
)
