"""VAR: a transformer that predicts the tokens of one scale after the other."""

from dd2core.families.family import Family
from dd2core.families.var import settings
from dd2core.families.var.teacher import VARTeacher
from dd2core.families.var.tokenizer import VARTokenizer
from dd2core.families.var.transformer import VARTransformer

FAMILY = Family(
    tokenizer_config=settings.VARTokenizerConfig,
    transformer_config=settings.VARConfig,
    tokenizer_sizes=settings.tokenizer_sizes,
    transformer_sizes=settings.transformer_sizes,
    tokenizer=VARTokenizer,
    transformer=VARTransformer,
    teacher=VARTeacher,
    marks={"pos_1LC": "transformer", "encoder.down.0.block.0.conv1.weight": "tokenizer"},
)
