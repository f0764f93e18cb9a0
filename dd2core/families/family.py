"""What a family of teachers is: the parts that load, build and train it by name."""

import dataclasses
from collections.abc import Callable

from torch import nn

from dd2core.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class Family:
    """What it takes to build a teacher.

    Attributes:
        tokenizer_sizes, transformer_sizes: configs, frozen dataclasses with `num_tokens`.
        tokenizer: tokenizer_sizes → tokenizer.
        transformer: (transformer_sizes, tokenizer) → transformer.
        teacher: (tokenizer, transformer) → teacher.
        marks: a key that only this family's official checkpoints have → the part
            (`transformer` or `tokenizer`) whose checkpoint has it.
    """

    tokenizer_sizes: type
    transformer_sizes: type
    tokenizer: Callable[[object], nn.Module]
    transformer: Callable[[object, nn.Module], nn.Module]
    teacher: Callable[[nn.Module, nn.Module], Teacher]
    marks: dict[str, str]
