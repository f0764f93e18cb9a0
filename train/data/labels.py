"""Labels and class names of the data, in the numbers of the base if there is one."""

import dataclasses

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from train.data import source
from train.data.classes import count_as_numbers, match
from train.data.fashion import Data
from train.data.notes import say_once
from train.engine.base import class_names
from train.settings.schema import Config


def numbers(cfg: Config, own: list[str]) -> Tensor:
    """The base's numbers (len(own),) of the data's classes `own`; their own without a base.

    By name (see `train.data.classes`), so that a part of the base's classes is enough. In their
    order, which is said, where the base knows none of the names, there are as many, and one side
    goes by numbers: folders `0`, `1`, … or ImageNet's `n01440764`, a base of `class 0`, ….

    Raises:
        DD2Error: neither holds, or only some names are known.
    """
    if not cfg.base:
        return torch.arange(len(own))
    names = class_names(cfg)
    found = match(own, names, f"data={cfg.data} and base={cfg.base} do not fit")
    if found is not None:
        return torch.tensor(found)
    if len(own) == len(names) and count_as_numbers(own, names):
        say_once(f"no class folder has a name of base={cfg.base}, so they count in their order: "
                 f"{own[0]} is {names[0]}, …, {own[-1]} is {names[-1]}")
        return torch.arange(len(names))
    raise DD2Error(
        f"data={cfg.data} has {len(own)} classes and base={cfg.base} has {len(names)}, none of "
        f"them by the same name: name the class folders as the base's config.json does "
        f"({names[0]!r}, …), or number all of them."
    )


def load_data(cfg: Config, test_only: bool = False) -> Data:
    """The data set of `train.data.source`, with labels and class names of the base if any."""
    found = source.load_data(cfg, test_only)
    if not cfg.base:
        return found
    number = numbers(cfg, found.class_names)
    return dataclasses.replace(found, labels=number[found.labels],
                               test_labels=number[found.test_labels], class_names=class_names(cfg))
