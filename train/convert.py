"""Official VAR and LlamaGen checkpoints → a model folder, which `base=` distils.

    python -m train.convert source=FoundationVision/var size=d16 out=runs/official/var-d16
    python -m train.convert source=FoundationVision/LlamaGen size=l out=runs/official/llamagen-l
    python -m train.convert source=c2i_B_256.pt,vq_ds16_c2i.pt out=runs/official/llamagen-b

`source` is a hub id, a folder with the two files, or the two files. Nothing is executed from them
(`weights_only=True`). docs/official.md tells the rest.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from dd2core.errors import DD2Error
from dd2core.families import recognise
from dd2core.families.checkpoints import choose
from dd2core.families.llamagen.official import SIZES
from dd2core.families.var.official import PATCH_NUMS
from dd2core.official import load_llamagen, load_var, read_state, unwrap
from dd2core.sampling import Sampling
from dd2core.store.files import sha256
from dd2core.store.folder import Model, save_folder
from dd2core.store.hub import download, is_hub_id, split_revision
from dd2core.teacher import Teacher
from train.data.classes import refuse_twice
from train.settings.cli import main

PATCH_NUMS_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)  # of the official model at 512 px
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# The settings of the public demonstrations.
VAR_SAMPLING = Sampling(cfg=1.5, top_k=900, top_p=0.96)
LLAMAGEN_CFG = {"xl": 1.75, "xxl": 1.75}  # else 2


@dataclass
class Convert:
    """Settings of `train.convert`."""

    source: str = ""  # hub id (owner/name, also owner/name@revision), folder, file,file, or one
    # file of VAR's trainer, which holds both
    out: str = ""  # model folder to write
    size: str | None = None  # d16, d20, d24, d30, b, l, xl, xxl: which of several; None: the only
    revision: str | None = None  # commit, tag or branch of the hub repository; None is its `main`
    # of today; either way config.json keeps the commit
    family: str | None = None  # llamagen or var; None recognises it
    num_heads: int | None = None  # attention heads; None knows the official sizes
    grid: int | None = None  # llamagen: tokens a side; None: 24 for XL, XXL and *_384*, else 16
    patch_nums: list[int] | None = None  # var: tokens a side per scale; None knows 256 and 512 px
    class_names: str | None = None  # text file, one name a line; None is "class 0", "class 1", …
    name: str | None = None  # of the model; None is that of the folder `out`
    weights: str | None = None  # of a file that holds several: model, ema, …; None: the first of
    # model, module, ema, state_dict, which is said
    dtype: str = "float32"  # of the stored weights: float32, float16 or bfloat16


@dataclass(frozen=True)
class Source:
    """Where the two state dicts come from, and what they are.

    Attributes:
        transformer, tokenizer: files.
        family: llamagen or var.
        origin: what config.json keeps: repository and commit if any, sha256 of the files.
    """

    transformer: Path
    tokenizer: Path
    family: str
    origin: dict


def hub_files(repo: str, size: str | None) -> tuple[str, str]:
    """Names of transformer and tokenizer in the official repositories.

    Raises:
        DD2Error: the size is missing or unknown.
    """
    size = (size or "").lower()
    if re.fullmatch(r"d\d+", size):
        return f"var_{size}.pth", "vae_ch160v4096z32.pth"
    if size.upper() in SIZES:
        pixels = 384 if size in ("xl", "xxl") else 256
        return f"c2i_{size.upper()}_{pixels}.pt", "vq_ds16_c2i.pt"
    raise DD2Error(f"source={repo} holds several models: name one, size=d16, d20, d24, d30 for "
                   "VAR or size=b, l, xl, xxl for LlamaGen.")


def find(o: Convert) -> Source:
    """The files that `source` stands for, downloaded if need be.

    Raises:
        DD2Error: they are not there, or not one transformer and its tokenizer.
    """
    origin, path = {}, Path(o.source).expanduser()
    if "," in o.source:
        files = [Path(part.strip()).expanduser() for part in o.source.split(",")]
    elif path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file())
        files = _of_size(files, o.size) if o.size else files
    elif path.is_file():
        files = [path]
    elif is_hub_id(o.source):
        repo, revision = split_revision(o.source, o.revision)
        names = hub_files(repo, o.size)
        folder = download(repo, revision, names)
        files, origin = [folder / name for name in names], {"repo": repo, "revision": folder.name}
    else:
        raise DD2Error(f"source={o.source} is neither a hub id, nor a folder, nor file,file: give "
                       "the checkpoint of the transformer and that of its tokenizer.")
    return _sort_out(o, files, origin)


def _of_size(files: list[Path], size: str) -> list[Path]:
    """The files of a folder that an official name tells apart by size."""
    wanted = set(hub_files("", size))
    return [p for p in files if p.name in wanted] or files


def _sort_out(o: Convert, files: list[Path], origin: dict) -> Source:
    parts: dict[str, list[Path]] = {"transformer": [], "tokenizer": []}
    families, taken = set(), {}
    for path in files:
        state, present, key = choose(read_state(path), o.weights)
        if len(present) > 1 or key == o.weights:
            taken[path.name] = key, present
        family, part = recognise(state, str(path))
        families.add(family)
        parts[part].append(path)
        if len(files) == 1 and "vae_local" in state.get("trainer", {}):
            parts["tokenizer"].append(path)
    if any(len(found) != 1 for found in parts.values()) or len(families) != 1:
        names = ", ".join(p.name for p in files) or "nothing"
        raise DD2Error(f"source={o.source} must be one transformer and its tokenizer, found "
                       f"{names}: name the two files, file,file, or the size.")
    if o.weights and all(key != o.weights for key, _ in taken.values()):
        raise DD2Error(f"source={o.source} has no weights={o.weights}: leave that setting out.")
    for name, (key, present) in taken.items():
        print(f"convert: {name} holds {' and '.join(present)}, {key} is taken; weights= chooses")
    if taken:
        origin = {**origin, "weights": {name: key for name, (key, _) in taken.items()}}
    family = families.pop()
    if o.family not in (None, family):
        raise DD2Error(f"family={o.family} does not fit: source={o.source} is of family {family}.")
    pair = parts["transformer"][0], parts["tokenizer"][0]
    return Source(*pair, family, {**origin, "files": {p.name: sha256(p) for p in pair}})


def load(o: Convert, source: Source) -> Teacher:
    """The teacher, its sizes from the settings or recognised."""
    transformer, tokenizer = (choose(read_state(path), o.weights)[0]
                              for path in (source.transformer, source.tokenizer))
    if source.family == "var":
        scales = o.patch_nums
        if scales is None:
            length = unwrap(transformer)["pos_1LC"].shape[1]
            known = {sum(p * p for p in s): s for s in (PATCH_NUMS, PATCH_NUMS_512)}
            scales = known.get(length, PATCH_NUMS)
        return load_var(transformer, tokenizer, o.num_heads, scales)
    grid = o.grid
    if grid is None:
        width = unwrap(transformer)["tok_embeddings.weight"].shape[-1]
        large = width in (SIZES["XL"][2], SIZES["XXL"][2])
        grid = 24 if large or "_384" in source.transformer.stem else 16
    return load_llamagen(transformer, tokenizer, o.num_heads, grid)


def class_names(o: Convert, count: int) -> list[str]:
    """Names of the classes.

    Raises:
        DD2Error: the file is missing, or has another number of names.
    """
    if o.class_names is None:
        return [f"class {i}" for i in range(count)]
    path = Path(o.class_names).expanduser()
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise DD2Error(f"class_names={path} cannot be read: give a text file.") from None
    names = [name for name in names if name]
    if len(names) != count:
        raise DD2Error(f"class_names={path} has {len(names)} lines, the model {count} classes.")
    refuse_twice(names, f"class_names={path}")
    return names


def sampling(teacher: Teacher, family: str) -> Sampling:
    """The public demonstration's settings for the model."""
    if family == "var":
        k = VAR_SAMPLING.top_k if teacher.num_codes > VAR_SAMPLING.top_k else 0
        return Sampling(VAR_SAMPLING.cfg, top_k=k, top_p=VAR_SAMPLING.top_p)
    size = {v: k.lower() for k, v in SIZES.items()}
    c = teacher.transformer.cfg
    return Sampling(LLAMAGEN_CFG.get(size.get((c.depth, c.heads, c.width)), 2.0))


def run(o: Convert) -> None:
    """Convert, and say what was written."""
    if not o.source or not o.out:
        raise DD2Error("source= and out= are needed: a hub id, folder or file,file, and a folder.")
    if o.dtype not in DTYPES:
        raise DD2Error(f"dtype={o.dtype} is unknown: use one of {', '.join(DTYPES)}.")
    out = Path(o.out).expanduser()
    source = find(o)
    teacher = load(o, source)
    model = Model(o.name or out.name, source.family, class_names(o, teacher.num_classes),
                  sampling(teacher, source.family), teacher, None, None,
                  teacher.tokenizer.cfg.image_size)
    save_folder(out, model, DTYPES[o.dtype], {"source": source.origin})
    count = sum(p.numel() for p in teacher.transformer.parameters())
    print(f"convert: {out}, family {source.family}, {count / 1e6:.1f} M parameters, "
          f"{teacher.num_tokens} tokens in {teacher.num_steps} steps, from "
          f"{json.dumps(source.origin)}")


if __name__ == "__main__":
    main(run, kind=Convert)
