"""The weights that a tokenizer begins training from (`tokenizer.init`)."""

from torch import Tensor, nn

from dd2core.store.files import load_strict, read_tensors

SHARED = ("encoder", "decoder")  # what tokenizers of both families are made of
PYRAMID = "pyramid."  # what VAR's alone has


def begin_from(model: nn.Module, path: str) -> None:
    """Copy the weights of a file into an untrained tokenizer.

    All of them from a tokenizer of the same family; encoder and decoder alone from one of the
    other, whose codes mean something else.

    Raises:
        DD2Error: the file is missing, damaged, or of a tokenizer of other sizes.
    """
    tensors = read_tensors(path)
    if _has_pyramid(tensors) == _has_pyramid(model.state_dict()):
        load_strict(model, tensors, path)
        return
    for part in SHARED:
        own = {k.removeprefix(f"{part}."): a for k, a in tensors.items()
               if k.startswith(f"{part}.")}
        load_strict(model.get_submodule(part), own, f"{part} of {path}")
    print(f"{path} is a tokenizer of the other family: its encoder and decoder are taken, its "
          "codes are not")


def _has_pyramid(tensors: dict[str, Tensor]) -> bool:
    return any(name.startswith(PYRAMID) for name in tensors)
