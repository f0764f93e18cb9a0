"""A data set as token sequences: extracted once, by all processes, and kept in the run folder."""

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dd2core.errors import DD2Error
from dd2core.store import names
from dd2core.store.atomic import write_atomic
from dd2core.store.files import read_json, sha256, write_json
from train.data.digest import data_digest
from train.data.notes import say_once, shown
from train.data.shards.encode import MOST_LEFT_OUT, Encoding
from train.data.shards.originals import Originals
from train.data.shards.sequences import Sequences
from train.data.shards.sets import ShardSet, from_main
from train.data.source import find_pictures, load_data
from train.engine import base
from train.engine.paths import run_folder
from train.settings.schema import Config, Tokens


@dataclass(frozen=True)
class TokenData:
    """Token sequences of a data set.

    Attributes:
        tokens: training tokens, int64 (N, L); on disk until they are asked for.
        labels: int64 (N,).
        test_tokens, test_labels: the held-out part.
    """

    tokens: Tensor | Sequences
    labels: Tensor
    test_tokens: Tensor | Sequences
    test_labels: Tensor


def load_tokens(cfg: Config, tokenizer: nn.Module, device: torch.device) -> TokenData:
    """The tokens of the data set: extracted once and kept in the run folder.

    Another tokenizer, other data (`data_digest`) or other squares of them (section `tokens`) make
    them anew, and `classes.json` beside them. Pictures that cannot be read are left out, by name in
    `left-out.txt`.

    Raises:
        DD2Error: more than one in a hundred pictures cannot be read, or see `find_pictures`.
    """
    if cfg.dry_run and not (run_folder(cfg) / names.TOKENS_ORIGIN).exists():
        v, classes = tokenizer.cfg, len(class_names(cfg))
        x, y = torch.randint(v.num_codes, (4096, v.num_tokens)), torch.randint(classes, (4096,))
        return TokenData(x, y, x[:256], y[:256])
    originals = functools.cache(lambda: Originals(cfg))
    found = token_set(cfg, lambda: {part: len(y) for part, y in originals().labels.items()})
    if not from_main(found.complete):
        if cfg.dry_run:
            raise DD2Error(f"{run_folder(cfg) / names.TOKENS} is of other data or settings, and a "
                           "dry run makes no tokens: run train.tokens first.")
        found.fill(Encoding(originals(), tokenizer, device), tokenizer.cfg.num_codes,
                   cfg.timeout)
        from_main(lambda: _list_left_out(found, originals()))
    if not cfg.dry_run:
        from_main(lambda: _point_to(cfg, found))
    return TokenData(*found.read("train"), *found.read("test"))


def token_set(cfg: Config, parts: Callable[[], dict[str, int]]) -> ShardSet:
    """The files of the tokens that the settings name; `parts` counts images (see `ShardSet`)."""
    plan = from_main(lambda: {
        "data": data_digest(cfg), "image_size": cfg.image_size, "channels": cfg.channels,
        "tokenizer_sha256": sha256(base.tokenizer_file(cfg)), **_squares(cfg)})
    return ShardSet(run_folder(cfg) / names.TOKENS, plan, cfg.tokens.per_file, parts)


def _squares(cfg: Config) -> dict:
    """How pictures become squares, where it is not the usual way."""
    usual = Tokens()
    return {key: value for key in ("transform", "flips", "crops")
            if (value := getattr(cfg.tokens, key)) != getattr(usual, key)}


def _list_left_out(found: ShardSet, originals: Originals) -> None:
    """Write `left-out.txt` in the set's folder, if there is anything in it."""
    left, path = found.left_out(), found.folder / names.LEFT_OUT
    if len(left) > MOST_LEFT_OUT * sum(found.parts.values()):
        raise DD2Error(f"{len(left)} of the pictures in data={originals.cfg.data} cannot be read, "
                       f"more than 1 in 100: replace or remove {shown(originals.name(left[0]))} "
                       "and the others.")
    if left:
        lines = [shown(originals.name(key)) + "\n" for key in left]
        write_atomic(path, "".join(lines).encode())
        say_once(f"{len(left)} pictures cannot be read and are left out: {path} names them")


def _point_to(cfg: Config, found: ShardSet) -> None:
    """`source.json`, which says what the tokens in use are made of, and `classes.json`; sets that
    were in use before are removed."""
    above = run_folder(cfg) / names.TOKENS
    source_file, classes = run_folder(cfg) / names.TOKENS_ORIGIN, run_folder(cfg) / names.CLASSES
    known = read_json(source_file) if source_file.exists() else {}
    if classes.exists() and known == {**found.plan, "classes_sha256": sha256(classes)}:
        return
    source_file.unlink(missing_ok=True)  # until all are written it would speak of other tokens
    write_json(classes, {"class_names": _own_names(cfg)})
    write_json(source_file, {**found.plan, "classes_sha256": sha256(classes)})
    for manifest in above.glob(f"*/{names.MANIFEST}"):
        if manifest.parent != found.folder:
            shutil.rmtree(manifest.parent, ignore_errors=True)


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
    return _own_names(cfg)


def _own_names(cfg: Config) -> list[str]:
    if cfg.base:
        return base.class_names(cfg)
    pictures = find_pictures(cfg)
    return load_data(cfg).class_names if pictures is None else pictures.class_names
