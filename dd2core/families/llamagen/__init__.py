"""LlamaGen: a raster-order transformer over the tokens of a VQ tokenizer."""

from dd2core.families.family import Family
from dd2core.families.llamagen.settings import TransformerConfig, VQConfig
from dd2core.families.llamagen.teacher import LlamaGenTeacher
from dd2core.families.llamagen.tokenizer import VQTokenizer
from dd2core.families.llamagen.transformer import LlamaGenTransformer
from dd2core.teacher import scaled_codebook

FAMILY = Family(
    VQConfig, TransformerConfig, VQTokenizer,
    lambda sizes, vq: LlamaGenTransformer(sizes, scaled_codebook(vq.codes)[0]),
    LlamaGenTeacher,
    {"tok_embeddings.weight": "transformer",
     "encoder.conv_blocks.0.res.0.conv1.weight": "tokenizer"},
)
