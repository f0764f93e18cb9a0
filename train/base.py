"""`base=`: a finished teacher in place of a run's own stages tokenizer and teacher.

The base is a model folder (converted official weights: `train.convert`), a shipped preset, or a hub
id. Its classes keep their numbers; the data's labels are translated to them by name.
"""

import dataclasses
import functools
from pathlib import Path

import torch
from torch import Tensor

from dd2core.checkpoint import check_manifest, load_strict, read_json, read_tensors
from dd2core.errors import DD2Error
from dd2core.folder import describe, load_teacher, load_tokenizer, resolve
from train import data
from train.config import Config
from train.data import Data
from train.features import Classifier

__all__ = ["check_own", "class_names", "classifier", "folder", "has_classifier", "load_data",
           "load_teacher", "load_tokenizer", "numbers"]

_resolve = functools.cache(resolve)  # a hub id is looked up once per process


def folder(cfg: Config) -> Path:
    """The model folder that `cfg.base` stands for.

    Raises:
        DD2Error: there is none, or its family or images are not those of the settings.
    """
    found = _resolve(cfg.base)
    d = describe(found)
    own = {"family": cfg.family, "image_size": cfg.image_size, "channels": cfg.channels}
    its = {"family": d.family, "image_size": d.tokenizer.image_size,
           "channels": d.tokenizer.in_channels}
    if own != its:
        words = " ".join(f"{k}={v}" for k, v in its.items() if own[k] != v)
        raise DD2Error(f"base={cfg.base} does not fit these settings: set {words}.")
    return found


def class_names(cfg: Config) -> list[str]:
    """Names of the base's classes."""
    return describe(folder(cfg)).class_names


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
    """The data set (`train.data.load_data`), with labels and class names of the base if any."""
    found = data.load_data(cfg, test_only)
    if not cfg.base:
        return found
    number = numbers(cfg, found.class_names)
    return dataclasses.replace(found, labels=number[found.labels],
                               test_labels=number[found.test_labels], class_names=class_names(cfg))


def has_classifier(cfg: Config) -> bool:
    """Whether the base brings a feature extractor."""
    return read_json(folder(cfg) / "config.json").get("classifier") is not None


def classifier(cfg: Config) -> tuple[Classifier, dict] | None:
    """The base's feature extractor and its sizes, if it has one."""
    found = folder(cfg)
    sizes = read_json(found / "config.json").get("classifier")
    if sizes is None:
        return None
    path = found / "classifier.safetensors"
    check_manifest(found, [path.name])
    model = Classifier(**sizes)
    load_strict(model, read_tensors(path), str(path))
    return model.requires_grad_(False).eval(), sizes


def check_own(cfg: Config, stage: str) -> None:
    """Refuse to train what the base brings.

    Raises:
        DD2Error: this experiment has a base.
    """
    if cfg.base:
        raise DD2Error(f"base={cfg.base} brings its own {stage}: leave the stage {stage} out.")
