"""What a family of teachers is: the parts that build, train and load one by its name."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

from dd2core.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class Family:
    """What it takes to build a teacher.

    Attributes:
        tokenizer_config, transformer_config: frozen dataclasses of sizes, as config.json stores
            them.
        tokenizer_sizes: (a preset's section `tokenizer`, pixels a side, channels) →
            tokenizer_config.
        transformer_sizes: (a preset's section `teacher`, tokenizer_config, number of classes) →
            transformer_config.
        tokenizer: tokenizer_config → tokenizer.
        transformer: (transformer_config, tokenizer) → transformer.
        teacher: (tokenizer, transformer) → teacher.
        marks: a key that only this family's official checkpoints have → the part
            (`transformer` or `tokenizer`) whose checkpoint has it.
    """

    tokenizer_config: type
    transformer_config: type
    tokenizer_sizes: Callable[[Any, int, int], Any]
    transformer_sizes: Callable[[Any, Any, int], Any]
    tokenizer: Callable[[Any], nn.Module]
    transformer: Callable[[Any, Any], nn.Module]
    teacher: Callable[[Any, Any], Teacher]
    marks: dict[str, str]
