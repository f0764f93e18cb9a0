"""The weights that a tokenizer begins training from (`tokenizer.init`), and which of them learn."""

import re
from collections.abc import Iterable

from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.store.files import load_strict, read_tensors

SHARED = ("encoder", "decoder")  # what tokenizers of both families are made of
PYRAMID = "pyramid."  # what VAR's alone has
# of which a lighter decoder has fewer
BLOCK = re.compile(r"decoder\.levels\.(\d+)\.(?:res|attn)\.(\d+)\.")


def begin_from(model: nn.Module, path: str, keep_codes: bool = False) -> None:
    """Copy the weights of a file into an untrained tokenizer.

    All of them from a tokenizer of the same family; encoder and decoder alone from one of the
    other, whose codes mean something else. A decoder of fewer blocks a level takes the first ones.

    Raises:
        DD2Error: the file is missing, damaged, or of a tokenizer of other sizes; or its codes are
            to be kept and it is of the other family.
    """
    own = model.state_dict()
    tensors = {k: a for k, a in read_tensors(path).items() if k in own or not BLOCK.match(k)}
    if _has_pyramid(tensors) == _has_pyramid(own):
        load_strict(model, tensors, path)
        return
    if keep_codes:
        raise DD2Error(f"{path} is a tokenizer of the other family, whose codes cannot be kept: "
                       "name one of this family by tokenizer.init=.")
    for part in SHARED:
        weights = {k.removeprefix(f"{part}."): a for k, a in tensors.items()
                   if k.startswith(f"{part}.")}
        load_strict(model.get_submodule(part), weights, f"{part} of {path}")
    print(f"{path} is a tokenizer of the other family: its encoder and decoder are taken, its "
          "codes are not")


def decoder_blocks(names: Iterable[str], levels: int) -> list[int]:
    """Residual blocks per level of the decoder, full resolution first, by names of weights."""
    found = {m.groups() for name in names if (m := BLOCK.match(name))}  # (level, block)
    return [sum(level == str(own) for level, _ in found) for own in reversed(range(levels))]


def freeze_all_but_decoder(model: nn.Module) -> None:
    """Keep encoder, codes and what lies between them, and so all tokens: the decoder alone learns,
    with the projection of the codes in front of it (`tokenizer.decoder_only`)."""
    model.requires_grad_(False)
    for part in ("decoder", "post_quant_conv"):
        model.get_submodule(part).requires_grad_(True)


def _has_pyramid(tensors: dict[str, Tensor]) -> bool:
    return any(name.startswith(PYRAMID) for name in tensors)
