"""Labels and class names of the data, in the numbers of the base if there is one."""

import dataclasses

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from train.data import source
from train.data.fashion import Data
from train.engine.base import class_names
from train.settings.schema import Config


def numbers(cfg: Config, own: list[str]) -> Tensor:
    """The base's numbers (len(own),) of the data's classes `own`.

    By name where the base knows all names, so that a part of its classes is enough; else by
    number, if there are as many.

    Raises:
        DD2Error: neither holds.
    """
    names = class_names(cfg) if cfg.base else own
    if len(set(names)) == len(names) and set(own) <= set(names):
        return torch.tensor([names.index(n) for n in own])
    if len(own) == len(names):
        return torch.arange(len(names))
    raise DD2Error(
        f"data={cfg.data} has {len(own)} classes and base={cfg.base} has {len(names)}: name the "
        "class folders as the base's config.json does."
    )


def load_data(cfg: Config, test_only: bool = False) -> Data:
    """The data set of `train.data.source`, with labels and class names of the base if any."""
    found = source.load_data(cfg, test_only)
    if not cfg.base:
        return found
    number = numbers(cfg, found.class_names)
    return dataclasses.replace(found, labels=number[found.labels],
                               test_labels=number[found.test_labels], class_names=class_names(cfg))
