"""Model folders: the trained networks of a preset on disk, and finding them by name.

    config.json  tokenizer.safetensors  teacher.safetensors  generator.safetensors
    guidance.safetensors  manifest.json (sha256 of every file)
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.families import FAMILIES
from dd2core.sampling import Sampling
from dd2core.score_model import ConditionalScoreModel, keep_blocks
from dd2core.store.atomic import sweep
from dd2core.store.files import (
    check_manifest,
    load_strict,
    read_json,
    read_tensors,
    tensor_shapes,
    write_json,
    write_manifest,
    write_tensors,
)
from dd2core.store.hub import download, is_hub_id, split_revision
from dd2core.store.names import CONFIG, NEEDED_PARTS, PARTS, safe_name, weights
from dd2core.store.sizes import Head, check_types, list_of_names
from dd2core.teacher import Teacher

ASSETS = Path(__file__).parents[2] / "assets"
FORMAT = 1
MOST_PIXELS = 4096  # a side
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
    try:
        own = Path(name).expanduser()
        for folder in (ASSETS / name, own):
            if (folder / CONFIG).is_file():
                return folder
        if own.is_dir():
            raise DD2Error(f"{name} holds no {CONFIG}: it is not a model folder.")
    except RuntimeError:  # ~nobody/model
        raise DD2Error(f"{name} is below the home of a user who is not known: give the whole "
                       "path.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, DD2Error):
            raise
        raise DD2Error(f"{name[:100]!r} is no path that this system can have: name a model "
                       "folder.") from None
    if is_hub_id(name):
        return download(*split_revision(name, revision), PATTERNS)
    known = ", ".join(sorted(p.parent.name for p in ASSETS.glob(f"*/{CONFIG}"))) or "none yet"
    raise DD2Error(
        f"There is no model {name[:200]!r}: name a shipped preset ({known}), a model folder, or a "
        "hub id owner/name."
    )


@dataclasses.dataclass(frozen=True)
class Description:
    """What config.json says; `tokenizer` and `transformer` are the family's size dataclasses."""

    name: str
    family: str
    parts: list[str]
    class_names: list[str]
    sampling: Sampling
    tokenizer: Any
    transformer: Any
    head: Head | None


def describe(folder: Path) -> Description:
    """Read and check the config.json of a model folder.

    Raises:
        DD2Error: it is missing, damaged, or of another format.
    """
    config, where = read_json(folder / CONFIG), folder / CONFIG
    if config.get("format") != FORMAT or config.get("family") not in list(FAMILIES):
        raise DD2Error(
            f"{where} is of format {_short(config.get('format'))}, family "
            f"{_short(config.get('family'))}: this version reads format {FORMAT}, family "
            f"{' or '.join(FAMILIES)}."
        )
    try:
        parts, class_names = list_of_names(config["parts"]), list_of_names(config["class_names"])
        name, head = str(config["name"]), config["head"]
        if head is not None:
            head = Head(**{f.name: head[f.name] for f in dataclasses.fields(Head)
                           if f.name in head})
        family = FAMILIES[config["family"]]
        vq = family.tokenizer_config(**_tuples(config["tokenizer"]))
        sizes = family.transformer_config(**_tuples(config["transformer"]))
        sampling = Sampling(**config["sampling"])
        for each in (vq, sizes, *([head] if head else [])):
            check_types(each)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DD2Error(f"{where} is not a model's: {_short(error)}.") from None
    if not set(NEEDED_PARTS) <= set(parts) <= set(PARTS):
        raise DD2Error(f"{where} is not a model's: its parts must be {' and '.join(NEEDED_PARTS)}, "
                       "and may be generator and guidance.")
    if head is None and set(parts) - set(NEEDED_PARTS):
        raise DD2Error(f"{where} is not a model's: its score networks have no head.")
    safe_name(name, f"{where}: name")
    _check_agree(where, vq, sizes, class_names)
    return Description(name, config["family"], parts, class_names, sampling, vq, sizes, head)


def _check_agree(where: Path, vq: Any, sizes: Any, class_names: list[str]) -> None:
    """Raise DD2Error for a transformer of another tokenizer's tokens, or of other classes."""
    for name in ("grid", "num_codes", "code_dim", "patch_nums"):
        one, other = getattr(vq, name, None), getattr(sizes, name, None)
        if one is not None and other is not None and one != other:
            raise DD2Error(f"{where} is not a model's: its tokenizer has {name}={one} and its "
                           f"transformer {other}.")
    if sizes.heads < 1 or sizes.width % sizes.heads:
        raise DD2Error(f"{where} is not a model's: width={sizes.width} does not divide by heads="
                       f"{sizes.heads}.")
    if sizes.num_classes != len(class_names):
        raise DD2Error(f"{where} is not a model's: it names {len(class_names)} classes of "
                       f"{sizes.num_classes}.")


def _short(error: Any) -> str:
    """An error, or a value, as the end of a sentence."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")


def load_folder(folder: Path, device: torch.device) -> Model:
    """Load a model folder, checking digests, names and shapes.

    Raises:
        DD2Error: a file is missing, damaged, or of another model.
    """
    d = describe(folder)
    check_manifest(folder, [CONFIG, *map(weights, d.parts)])
    _check_fit(folder, d)
    teacher = _teacher(folder, d).to(device)
    scores = {part: _score(folder, part, teacher, d.head) if d.head and part in d.parts
              else None for part in ("generator", "guidance")}
    return Model(d.name, d.family, d.class_names, d.sampling, teacher,
                 scores["generator"], scores["guidance"], d.tokenizer.image_size, folder)


def load_tokenizer(folder: Path) -> nn.Module:
    """The tokenizer of a model folder alone, on the CPU; errors as in `load_folder`."""
    d = describe(folder)
    check_manifest(folder, [CONFIG, weights("tokenizer")])
    return _tokenizer(folder, d).requires_grad_(False).eval()


def load_teacher(folder: Path, device: torch.device) -> Teacher:
    """The teacher of a model folder without its score networks; errors as in `load_folder`."""
    d = describe(folder)
    check_manifest(folder, [CONFIG, *map(weights, NEEDED_PARTS)])
    _check_fit(folder, d, NEEDED_PARTS)
    return _teacher(folder, d).to(device)


def _check_fit(folder: Path, d: Description, parts: Sequence[str] = PARTS) -> None:
    """Compare the sizes with the weights' before networks of these sizes take any memory.

    Raises:
        DD2Error: a size is larger than anything in the weights.
    """
    parts = [p for p in parts if p in d.parts]
    shapes = [s for part in parts for s in tensor_shapes(folder / weights(part)).values()]
    most = {"depth": len(shapes), "image_size": MOST_PIXELS}
    largest = max((n for shape in shapes for n in shape), default=0)
    sizes = {**dataclasses.asdict(d.tokenizer), **dataclasses.asdict(d.transformer)}
    for name, value in [*sizes.items(), *(vars(d.head) if d.head else {}).items()]:
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(n, int) and n > most.get(name, largest) for n in numbers):
            raise DD2Error(f"{folder / CONFIG} does not fit its weights: {name}={value} is larger "
                           "than anything in them, copy the whole folder again.")


def _tuples(sizes: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}


@contextlib.contextmanager
def _built_from(folder: Path) -> Iterator[None]:
    """Sizes that no network can have are one sentence."""
    try:
        yield
    except DD2Error:
        raise
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
            AssertionError) as error:
        raise DD2Error(f"{folder / CONFIG} is not a model's: its sizes make no network "
                       f"({_short(error)}).") from None


def _tokenizer(folder: Path, d: Description) -> nn.Module:
    with _built_from(folder):
        tokenizer = FAMILIES[d.family].tokenizer(d.tokenizer)
    load_strict(tokenizer, *_weights(folder, "tokenizer"))
    return tokenizer


def _teacher(folder: Path, d: Description) -> Teacher:
    family, tokenizer = FAMILIES[d.family], _tokenizer(folder, d)
    with _built_from(folder):
        transformer = family.transformer(d.transformer, tokenizer)
    load_strict(transformer, *_weights(folder, "teacher"))
    return family.teacher(tokenizer, transformer)


def _score(folder: Path, part: str, teacher: Teacher, head: Head) -> ConditionalScoreModel:
    with _built_from(folder):
        model = ConditionalScoreModel(teacher.backbone(), teacher.code_dim, head.width, head.depth,
                                      head.t_init, prediction=head.prediction)
        if part == "generator":
            keep_blocks(model.backbone, head.generator_depth, "head.generator_depth")
    load_strict(model, *_weights(folder, part))
    return model.to(teacher.device).requires_grad_(False).eval()


def _weights(folder: Path, part: str) -> tuple[dict[str, Tensor], str]:
    path = folder / weights(part)
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
    sweep(folder)
    safe_name(model.name, "name")
    teacher = model.teacher
    networks = {"tokenizer": teacher.tokenizer, "teacher": teacher.transformer,
                "generator": model.generator, "guidance": model.guidance}
    parts = {name: module for name, module in networks.items() if module is not None}
    for name, module in parts.items():
        write_tensors(folder / weights(name), module.state_dict(), dtype)
    head = None
    if model.generator is not None:
        h = model.generator.head
        g = model.generator
        blocks = len(g.backbone.blocks)
        whole = len(cast(Any, teacher.transformer).backbone.blocks)
        fewer = blocks if blocks < whole else None
        head = dataclasses.asdict(Head(h.out.in_features, h.depth, g.t_init, g.prediction, fewer))
    write_json(folder / CONFIG, {
        "format": FORMAT, "name": model.name, "family": model.family, "parts": list(parts),
        "class_names": model.class_names, "sampling": dataclasses.asdict(model.sampling),
        "tokenizer": _sizes(teacher.tokenizer),
        "transformer": _sizes(teacher.transformer), "head": head, **(extra or {}),
    })
    write_manifest(folder)


def _sizes(network: nn.Module) -> dict[str, Any]:
    """The sizes of a tokenizer or transformer, see `Teacher`."""
    return dataclasses.asdict(cast(Any, network.cfg))
