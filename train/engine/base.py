"""`base=`: a finished teacher in place of a run's own stages tokenizer and teacher.

The base is a model folder (converted official weights: `train.convert`), a shipped preset, or a hub
id. Its classes keep their numbers; the data's labels are translated to them by name.
"""

import functools
from pathlib import Path

from dd2core.errors import DD2Error
from dd2core.store.files import check_manifest, load_strict, read_json, read_tensors
from dd2core.store.folder import describe, load_teacher, load_tokenizer, resolve
from train.engine.run_folder import run_folder
from train.measure.classifier import Classifier
from train.settings.schema import Config

__all__ = ["check_own", "class_names", "classifier", "folder", "has_classifier", "load_teacher",
           "load_tokenizer", "tokenizer_file"]

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
    """Where the weights of `load_tokenizer` are."""
    if cfg.base:
        return folder(cfg) / "tokenizer.safetensors"
    return run_folder(cfg) / "tokenizer" / "tokenizer.safetensors"


def class_names(cfg: Config) -> list[str]:
    """Names of the base's classes."""
    return describe(folder(cfg)).class_names


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
