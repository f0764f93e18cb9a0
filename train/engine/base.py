"""`base=`: a finished teacher in place of a run's own stages tokenizer and teacher.

The base is a model folder (converted official weights: `train.convert`), a shipped preset, or a hub
id. Its classes keep their numbers; the data's labels are translated to them by name.
"""

import functools
from pathlib import Path

from dd2core.errors import DD2Error
from dd2core.novelty.classifier import Classifier, find_classifier
from dd2core.store.folder import describe, resolve
from dd2core.store.names import ADAPT, weights
from train.engine.paths import run_folder
from train.settings.schema import Config

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


def tokenizer_file(cfg: Config) -> Path:
    """Where the tokenizer's weights are: the base's, else the run's."""
    return _file(cfg, "tokenizer")


def teacher_file(cfg: Config) -> Path:
    """Where the weights of the teacher that is distilled are: the stage adapt's if there is one,
    else the base's, else the run's."""
    if cfg.adapt.steps:
        return run_folder(cfg) / ADAPT / weights("teacher")
    return source_teacher_file(cfg)


def source_teacher_file(cfg: Config) -> Path:
    """Where the weights of the teacher before the stage adapt are: the base's, else the run's."""
    return _file(cfg, "teacher")


def _file(cfg: Config, part: str) -> Path:
    return (folder(cfg) if cfg.base else run_folder(cfg) / part) / weights(part)


def class_names(cfg: Config) -> list[str]:
    """Names of the base's classes."""
    return describe(folder(cfg)).class_names


def classifier(cfg: Config) -> tuple[Classifier, dict] | None:
    """The base's feature extractor and its sizes, if it has one."""
    return find_classifier(folder(cfg))


def check_own(cfg: Config, stage: str) -> None:
    """Refuse to train what the base brings.

    Raises:
        DD2Error: this experiment has a base.
    """
    if cfg.base:
        raise DD2Error(f"base={cfg.base} brings its own {stage}: leave the stage {stage} out.")
