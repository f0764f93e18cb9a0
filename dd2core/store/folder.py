"""Model folders: the trained networks of a preset on disk, and finding them by name.

    config.json  tokenizer.safetensors  teacher.safetensors  generator.safetensors
    guidance.safetensors  manifest.json (sha256 of every file)
"""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from dd2core.errors import DD2Error
from dd2core.families import FAMILIES
from dd2core.sampling import Sampling
from dd2core.score_model import ConditionalScoreModel
from dd2core.store.files import (
    check_manifest,
    load_strict,
    read_json,
    read_tensors,
    write_json,
    write_manifest,
    write_tensors,
)
from dd2core.store.hub import download, is_hub_id, split_revision
from dd2core.teacher import Teacher

ASSETS = Path(__file__).parents[2] / "assets"
FORMAT = 1
PATTERNS = ("*.json", "*.jsonl", "*.safetensors", "*.png")  # of a hub repository; logs, grids too


@dataclasses.dataclass(frozen=True)
class Model:
    """Everything a model folder holds."""

    name: str
    family: str
    class_names: list[str]
    sampling: Sampling
    teacher: Teacher
    generator: ConditionalScoreModel | None
    guidance: ConditionalScoreModel | None
    image_size: int
    folder: Path | None = None


def resolve(name: str, revision: str | None = None) -> Path:
    """The folder that a preset name, path or hub id stands for.

    A hub id may carry its revision (`owner/name@revision`): a branch, tag or commit.

    Raises:
        DD2Error: there is none.
    """
    for folder in (ASSETS / name, Path(name).expanduser()):
        if (folder / "config.json").is_file():
            return folder
    if Path(name).expanduser().is_dir():
        raise DD2Error(f"{name} holds no config.json: it is not a model folder.")
    if is_hub_id(name):
        return download(*split_revision(name, revision), PATTERNS)
    known = ", ".join(sorted(p.parent.name for p in ASSETS.glob("*/config.json"))) or "none yet"
    raise DD2Error(
        f"There is no model {name!r}: name a shipped preset ({known}), a model folder, or a hub "
        "id owner/name."
    )


@dataclasses.dataclass(frozen=True)
class Description:
    """What config.json says; `tokenizer` and `transformer` are the family's size dataclasses."""

    name: str
    family: str
    parts: list[str]
    class_names: list[str]
    sampling: Sampling
    tokenizer: object
    transformer: object
    head: dict | None


def describe(folder: Path) -> Description:
    """Read and check the config.json of a model folder.

    Raises:
        DD2Error: it is missing, damaged, or of another format.
    """
    config = read_json(folder / "config.json")
    if config.get("format") != FORMAT or config.get("family") not in FAMILIES:
        raise DD2Error(
            f"{folder}/config.json is of format {config.get('format')}, family "
            f"{config.get('family')}: this version reads format {FORMAT}, family "
            f"{' or '.join(FAMILIES)}."
        )
    try:
        parts, name, head = list(config["parts"]), str(config["name"]), config["head"]
        class_names = [str(c) for c in config["class_names"]]
        if head is not None:
            head = {k: head[k] for k in ("width", "depth", "t_init")}
        family = FAMILIES[config["family"]]
        vq = family.tokenizer_config(**_tuples(config["tokenizer"]))
        sizes = family.transformer_config(**_tuples(config["transformer"]))
        sampling = Sampling(**config["sampling"])
    except (TypeError, KeyError, AttributeError) as error:
        raise DD2Error(f"{folder}/config.json is not a model's: {error}.") from None
    if head is None and {"generator", "guidance"} & set(parts):
        raise DD2Error(f"{folder}/config.json is not a model's: its score networks have no head.")
    return Description(name, config["family"], parts, class_names, sampling, vq, sizes, head)


def load_folder(folder: Path, device: torch.device) -> Model:
    """Load a model folder, checking digests, names and shapes.

    Raises:
        DD2Error: a file is missing, damaged, or of another model.
    """
    d = describe(folder)
    check_manifest(folder, ["config.json"] + [f"{p}.safetensors" for p in d.parts])
    teacher = _teacher(folder, d).to(device)
    scores = {part: _score(folder, part, teacher, d.head) if part in d.parts
              else None for part in ("generator", "guidance")}
    return Model(d.name, d.family, d.class_names, d.sampling, teacher,
                 scores["generator"], scores["guidance"], d.tokenizer.image_size, folder)


def load_tokenizer(folder: Path) -> nn.Module:
    """The tokenizer of a model folder alone, on the CPU; errors as in `load_folder`."""
    d = describe(folder)
    check_manifest(folder, ["config.json", "tokenizer.safetensors"])
    return _tokenizer(folder, d).requires_grad_(False).eval()


def load_teacher(folder: Path, device: torch.device) -> Teacher:
    """The teacher of a model folder without its score networks; errors as in `load_folder`."""
    d = describe(folder)
    check_manifest(folder, ["config.json", "tokenizer.safetensors", "teacher.safetensors"])
    return _teacher(folder, d).to(device)


def _tuples(sizes: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}


def _tokenizer(folder: Path, d: Description) -> nn.Module:
    tokenizer = FAMILIES[d.family].tokenizer(d.tokenizer)
    load_strict(tokenizer, *_weights(folder, "tokenizer"))
    return tokenizer


def _teacher(folder: Path, d: Description) -> Teacher:
    family, tokenizer = FAMILIES[d.family], _tokenizer(folder, d)
    transformer = family.transformer(d.transformer, tokenizer)
    load_strict(transformer, *_weights(folder, "teacher"))
    return family.teacher(tokenizer, transformer)


def _score(folder: Path, part: str, teacher: Teacher, head: dict) -> ConditionalScoreModel:
    model = ConditionalScoreModel(teacher.backbone(), teacher.code_dim, head["width"],
                                  head["depth"], head["t_init"])
    load_strict(model, *_weights(folder, part))
    return model.to(teacher.device).requires_grad_(False).eval()


def _weights(folder: Path, part: str):
    path = folder / f"{part}.safetensors"
    return read_tensors(path), str(path)


def save_folder(folder: Path, model: Model, dtype: torch.dtype | None = None,
                extra: dict | None = None) -> None:
    """Write a model folder; see the module's docstring for its files.

    Args:
        folder (Path): made if it is not there.
        model (Model): what to write.
        dtype (torch.dtype | None): of the stored weights; None keeps theirs.
        extra (dict | None): more entries for config.json.
    """
    teacher = model.teacher
    parts = {"tokenizer": teacher.tokenizer, "teacher": teacher.transformer,
             "generator": model.generator, "guidance": model.guidance}
    parts = {name: module for name, module in parts.items() if module is not None}
    for name, module in parts.items():
        write_tensors(folder / f"{name}.safetensors", module.state_dict(), dtype)
    head = None
    if model.generator is not None:
        h = model.generator.head
        head = {"width": h.out.in_features, "depth": h.depth, "t_init": model.generator.t_init}
    write_json(folder / "config.json", {
        "format": FORMAT, "name": model.name, "family": model.family, "parts": list(parts),
        "class_names": model.class_names, "sampling": dataclasses.asdict(model.sampling),
        "tokenizer": dataclasses.asdict(teacher.tokenizer.cfg),
        "transformer": dataclasses.asdict(teacher.transformer.cfg), "head": head, **(extra or {}),
    })
    write_manifest(folder)
