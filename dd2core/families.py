"""The families of teachers, by name: the one place that lists them.

A family is a tokenizer and a transformer behind `Teacher`; adding one means adding its files and a
row here.
"""

import dataclasses
from collections.abc import Callable

from torch import nn

from dd2core.errors import DD2Error
from dd2core.llamagen import LlamaGenTeacher, LlamaGenTransformer, TransformerConfig
from dd2core.teacher import Teacher, scaled_codebook
from dd2core.tokenizer import VQConfig, VQTokenizer
from dd2core.var import VARTeacher, VARTransformer
from dd2core.var_block import VARConfig
from dd2core.var_tokenizer import VARTokenizer, VARTokenizerConfig


@dataclasses.dataclass(frozen=True)
class Family:
    """What it takes to build a teacher.

    Attributes:
        tokenizer_sizes, transformer_sizes: configs, frozen dataclasses with `num_tokens`.
        tokenizer: tokenizer_sizes → tokenizer.
        transformer: (transformer_sizes, tokenizer) → transformer.
        teacher: (tokenizer, transformer) → teacher.
    """

    tokenizer_sizes: type
    transformer_sizes: type
    tokenizer: Callable[[object], nn.Module]
    transformer: Callable[[object, nn.Module], nn.Module]
    teacher: Callable[[nn.Module, nn.Module], Teacher]


FAMILIES = {
    "llamagen": Family(
        VQConfig, TransformerConfig, VQTokenizer,
        lambda sizes, vq: LlamaGenTransformer(sizes, scaled_codebook(vq.codes)[0]),
        LlamaGenTeacher,
    ),
    "var": Family(VARTokenizerConfig, VARConfig, VARTokenizer, VARTransformer, VARTeacher),
}


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        DD2Error: there is none; lists those that exist.
    """
    if name not in FAMILIES:
        raise DD2Error(f"family={name} is unknown: use one of {', '.join(FAMILIES)}.")
    return FAMILIES[name]
