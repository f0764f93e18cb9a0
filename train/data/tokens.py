"""A data set as token sequences: extracted once and cached in the run folder."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.store import names
from dd2core.store.files import read_json, read_tensors, sha256, write_json, write_tensors
from dd2core.tools.images import to_float
from train.data import labels
from train.data.digest import data_digest
from train.data.source import find_pictures, load_data
from train.engine import base
from train.engine.paths import run_folder
from train.settings.schema import Config


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


@torch.no_grad()
def load_tokens(cfg: Config, tokenizer: nn.Module, device: torch.device) -> TokenData:
    """The tokens of the data set: extracted once and cached in the run folder.

    Another tokenizer or other data (`data_digest`) make them anew, and `classes.json` beside them.
    """
    run = run_folder(cfg)
    path = run / names.TOKENS
    if cfg.dry_run and not path.exists():
        v, classes = tokenizer.cfg, len(class_names(cfg))
        x, y = torch.randint(v.num_codes, (4096, v.num_tokens)), torch.randint(classes, (4096,))
        return TokenData(x, y, x[:256], y[:256])
    source_file, source = run / names.TOKENS_ORIGIN, {
        "data": data_digest(cfg), "image_size": cfg.image_size, "channels": cfg.channels,
        "tokenizer_sha256": sha256(base.tokenizer_file(cfg))}
    if path.exists() and source_file.exists() and _without_names(read_json(source_file)) == source:
        return TokenData(**read_tensors(path, sealed=True))
    found, own = _encode_data(cfg, tokenizer, device)
    if cfg.dry_run:
        return TokenData(**found)
    source_file.unlink(missing_ok=True)  # until all are written it would speak of other tokens
    write_tensors(path, found)
    write_json(run / names.CLASSES, {"class_names": own})
    write_json(source_file, {**source, "classes_sha256": sha256(run / names.CLASSES)})
    return TokenData(**found)


def _without_names(source: dict) -> dict:
    return {k: v for k, v in source.items() if k != "classes_sha256"}


def _encode_data(
    cfg: Config, tokenizer: nn.Module, device: torch.device
) -> tuple[dict[str, Tensor], list[str]]:
    """Tokens and labels of both parts, and the class names; pictures are read batch by batch."""
    pictures, found = find_pictures(cfg), {}
    if pictures is None:
        data = labels.load_data(cfg)
        found = {"tokens": encode_all(tokenizer, data.images, device), "labels": data.labels,
                 "test_tokens": encode_all(tokenizer, data.test_images, device),
                 "test_labels": data.test_labels}
        return found, data.class_names
    number = labels.numbers(cfg, pictures.class_names)
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
    path, source = run_folder(cfg) / names.CLASSES, run_folder(cfg) / names.TOKENS_ORIGIN
    if path.exists() and source.exists():
        if read_json(source).get("classes_sha256") != sha256(path):
            raise DD2Error(f"{path} is damaged (its sha256 differs): move {source} away to make "
                           "the tokens anew.")
        return read_json(path)["class_names"]
    pictures = find_pictures(cfg)
    return load_data(cfg).class_names if pictures is None else pictures.class_names
