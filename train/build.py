"""Putting the parts of an experiment together from its settings and its run folder."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dd2core.checkpoint import (
    load_strict,
    read_json,
    read_tensors,
    sha256,
    write_json,
    write_tensors,
)
from dd2core.errors import DD2Error
from dd2core.families import find_family
from dd2core.model import ConditionalScoreModel
from dd2core.teacher import Teacher
from train import base
from train.config import Config, run_folder
from train.data import find_pictures, load_data, to_float


@dataclass(frozen=True)
class TokenData:
    """Token sequences of a data set.

    Attributes:
        tokens: training tokens, int64 (N, L).
        labels: int64 (N,).
        test_tokens, test_labels: the held-out part.
    """

    tokens: Tensor
    labels: Tensor
    test_tokens: Tensor
    test_labels: Tensor


def fill_sizes(kind: type, *sources):
    """A config dataclass `kind`: each field from the first of `sources` that has its name.

    Fields that none has keep their defaults; lists become tuples.
    """
    found = {}
    for name in (f.name for f in dataclasses.fields(kind)):
        values = [getattr(s, name) for s in sources if hasattr(s, name)]
        if values:
            found[name] = tuple(values[0]) if isinstance(values[0], list) else values[0]
    return kind(**found)


def new_tokenizer(cfg: Config) -> nn.Module:
    """An untrained tokenizer of the settings' family and sizes."""
    family = find_family(cfg.family)
    image = SimpleNamespace(image_size=cfg.image_size, in_channels=cfg.channels)
    return family.tokenizer(fill_sizes(family.tokenizer_sizes, image, cfg.tokenizer))


def load_tokenizer(cfg: Config, device: torch.device) -> nn.Module:
    """The trained tokenizer of this experiment, frozen.

    Raises:
        DD2Error: it has not been trained, or its sizes differ from the settings.
    """
    if cfg.base:
        return base.load_tokenizer(base.folder(cfg)).to(device)
    model = new_tokenizer(cfg)
    _load(cfg, model, tokenizer_file(cfg))
    return model.requires_grad_(False).eval().to(device)


def tokenizer_file(cfg: Config) -> Path:
    """Where the weights of `load_tokenizer` are."""
    if cfg.base:
        return base.folder(cfg) / "tokenizer.safetensors"
    return run_folder(cfg) / "tokenizer" / "tokenizer.safetensors"


def _load(cfg: Config, model: torch.nn.Module, path: Path) -> None:
    if cfg.dry_run and not path.exists():
        print(f"dry run: {path.name} is not there yet, random weights stand in for it")
        return
    load_strict(model, read_tensors(path), str(path))


@torch.no_grad()
def load_tokens(cfg: Config, tokenizer: nn.Module, device: torch.device) -> TokenData:
    """The tokens of the data set: extracted once and cached in the run folder.

    Another tokenizer or another `data=` makes them anew, and `classes.json` beside them.
    """
    folder = run_folder(cfg)
    path = folder / "tokens" / "tokens.safetensors"
    if cfg.dry_run and not path.exists():
        v, classes = tokenizer.cfg, len(class_names(cfg))
        x, y = torch.randint(v.num_codes, (4096, v.num_tokens)), torch.randint(classes, (4096,))
        return TokenData(x, y, x[:256], y[:256])
    source = {"data": cfg.data, "tokenizer_sha256": sha256(tokenizer_file(cfg))}
    source_file = path.with_name("source.json")
    if path.exists() and source_file.exists() and read_json(source_file) == source:
        return TokenData(**read_tensors(path))
    found, names = _encode_data(cfg, tokenizer, device)
    write_tensors(path, found)
    write_json(path.with_name("classes.json"), {"class_names": names})
    write_json(source_file, source)
    return TokenData(**found)


def _encode_data(
    cfg: Config, tokenizer: nn.Module, device: torch.device
) -> tuple[dict[str, Tensor], list[str]]:
    """Tokens and labels of both parts, and the class names; pictures are read batch by batch."""
    pictures, found = find_pictures(cfg), {}
    if pictures is None:
        data = base.load_data(cfg)
        found = {"tokens": encode_all(tokenizer, data.images, device), "labels": data.labels,
                 "test_tokens": encode_all(tokenizer, data.test_images, device),
                 "test_labels": data.test_labels}
        return found, data.class_names
    number = base.numbers(cfg, pictures.class_names)
    for part, prefix in (("train", ""), ("test", "test_")):
        n = len(pictures.parts[part])
        batches = tqdm((x for x, _ in pictures.read(part, encode_batch(cfg.image_size))),
                       total=-(-n // encode_batch(cfg.image_size)), desc=f"{part} tokens",
                       mininterval=2.0, disable=n < 10_000)
        found[f"{prefix}tokens"] = torch.cat(
            [tokenizer.encode(to_float(x).to(device)).cpu() for x in batches])
        found[f"{prefix}labels"] = number[pictures.labels[pictures.parts[part]]]
    return found, base.class_names(cfg) if cfg.base else pictures.class_names


def encode_batch(size: int) -> int:
    """Images of `size` pixels a side that one pass of the tokenizer takes: 256 small ones, 64 at
    256 px."""
    return max(8, min(256, 2**22 // size**2))


@torch.no_grad()
def encode_all(tokenizer: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """uint8 images (N, channels, H, W) → tokens (N, L) on the CPU."""
    parts = images.split(encode_batch(images.shape[-1]))
    bar = tqdm(parts, desc="tokens", mininterval=2.0, disable=len(images) < 10_000)
    return torch.cat([tokenizer.encode(to_float(part).to(device)).cpu() for part in bar])


def class_names(cfg: Config) -> list[str]:
    """Names of the classes: the base's, else as `load_tokens` wrote them beside the tokens."""
    if cfg.base:
        return base.class_names(cfg)
    path = run_folder(cfg) / "tokens" / "classes.json"
    if path.exists():
        return read_json(path)["class_names"]
    pictures = find_pictures(cfg)
    return load_data(cfg).class_names if pictures is None else pictures.class_names


def new_transformer(cfg: Config, tokenizer: nn.Module, num_classes: int) -> nn.Module:
    """An untrained transformer of the settings' sizes."""
    s, family = cfg.teacher, find_family(cfg.family)
    if s.width % s.heads or (s.width // s.heads) % 4:
        raise DD2Error(
            f"teacher.width={s.width} over teacher.heads={s.heads} must give heads of a multiple "
            "of 4 numbers."
        )
    data = SimpleNamespace(num_classes=num_classes)
    sizes = fill_sizes(family.transformer_sizes, data, s, tokenizer.cfg)
    return family.transformer(sizes, tokenizer)


def load_teacher(cfg: Config, device: torch.device) -> Teacher:
    """The trained teacher with its tokenizer, frozen.

    Raises:
        DD2Error: a stage before this one has not been run, or its sizes differ.
    """
    if cfg.base:
        return base.load_teacher(base.folder(cfg), device)
    tokenizer = load_tokenizer(cfg, torch.device("cpu"))
    transformer = new_transformer(cfg, tokenizer, len(class_names(cfg)))
    _load(cfg, transformer, run_folder(cfg) / "teacher" / "teacher.safetensors")
    return find_family(cfg.family).teacher(tokenizer, transformer).to(device)


def new_score_model(cfg: Config, teacher: Teacher, bf16: bool) -> ConditionalScoreModel:
    """Backbone from the teacher and a fresh head, on the teacher's device."""
    h = cfg.head
    if not 0 < h.t_init < 1:
        raise DD2Error(f"head.t_init={h.t_init} must lie strictly between 0 and 1.")
    model = ConditionalScoreModel(
        teacher.backbone(), teacher.code_dim, h.width, h.depth, h.t_init, bf16
    )
    return model.to(teacher.device)


def load_score_model(
    cfg: Config, teacher: Teacher, path: Path, bf16: bool
) -> ConditionalScoreModel:
    """`new_score_model` with the weights in `path`."""
    model = new_score_model(cfg, teacher, bf16)
    _load(cfg, model, path)
    return model
