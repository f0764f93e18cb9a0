"""VAR: a transformer that predicts the tokens of one scale after the other."""

from dd2core.families.family import Family
from dd2core.families.var.settings import VARConfig, VARTokenizerConfig
from dd2core.families.var.teacher import VARTeacher
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.families.var.transformer import VARTransformer

FAMILY = Family(
    VARTokenizerConfig, VARConfig, VARTokenizer, VARTransformer, VARTeacher,
    {"pos_1LC": "transformer", "encoder.down.0.block.0.conv1.weight": "tokenizer"},
)
