"""Checkpoints: safetensors + JSON, written atomically, checked on load.

A *model folder* holds `config.json`, one `<part>.safetensors` per network and `manifest.json` with
the sha256 of every file. Each file is written beside its place and moved there (`os.replace`), the
manifest last, so a killed save leaves the old folder or the new one, never half of one.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from dd2core.errors import DD2Error

MANIFEST = "manifest.json"
LFS_POINTER = "a Git-LFS pointer, not the file itself: run `git lfs pull` in its repository"


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(tmp, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            tmp.unlink()


def write_json(path: str | Path, value: object) -> None:
    """`write_atomic` of indented JSON."""
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: str | Path) -> dict:
    """The JSON object in `path`.

    Raises:
        DD2Error: the file is missing or is not JSON.
    """
    try:
        value = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise DD2Error(f"{path} is missing: name a folder that a training stage wrote.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError):
        if is_lfs_pointer(path):
            raise DD2Error(f"{path} is {LFS_POINTER}.") from None
        raise DD2Error(f"{path} is not JSON: the file is damaged, copy it again.") from None
    if not isinstance(value, dict):
        raise DD2Error(f"{path} holds no JSON object: the file is foreign, copy it again.")
    return value


def write_tensors(path: str | Path, tensors: dict[str, Tensor], dtype=None) -> None:
    """Write a flat dictionary of tensors as safetensors; `dtype` converts the floating ones."""
    cpu = {}
    for name, a in tensors.items():
        a = a.detach().to("cpu")
        a = a.to(dtype) if dtype is not None and a.is_floating_point() else a
        cpu[name] = a.contiguous().clone()
    write_atomic(path, save_bytes(cpu))


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, on the CPU.

    Raises:
        DD2Error: the file is missing, truncated or in another format.
    """
    try:
        return load_bytes(Path(path).read_bytes())
    except FileNotFoundError:
        raise DD2Error(f"{path} is missing: train that stage first or copy the file.") from None
    except (SafetensorError, ValueError, KeyError, OSError):
        if is_lfs_pointer(path):
            raise DD2Error(f"{path} is {LFS_POINTER}.") from None
        raise DD2Error(
            f"{path} is not a whole safetensors file: it is truncated or of another kind, "
            "copy it again."
        ) from None


def load_strict(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Copy `tensors` into `module`; nothing is changed unless every name and shape agrees.

    Raises:
        DD2Error: names the keys that are missing, unexpected or of another shape.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = sorted(
        f"{k} {tuple(tensors[k].shape)} for {tuple(own[k].shape)}"
        for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape
    )
    wrong = [("missing", missing), ("unexpected", extra), ("of another shape", shapes)]
    if any(keys for _, keys in wrong):
        text = "; ".join(f"{name}: {_some(keys)}" for name, keys in wrong if keys)
        raise DD2Error(f"{what} does not fit this model ({text}): use the weights of its preset.")
    module.load_state_dict(tensors, strict=True)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return ", ".join(keys[:5]) + more


def is_lfs_pointer(path: str | Path) -> bool:
    """Whether a file is what Git leaves in the place of a large one that was not fetched."""
    head = b"version https://git-lfs.github.com/spec/"
    try:
        with open(path, "rb") as f:
            return f.read(len(head)) == head
    except OSError:
        return False


def sha256(path: str | Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def fingerprint(module: nn.Module) -> str:
    """Hex digest of a module's names and weights: other weights, another fingerprint."""
    digest = hashlib.sha256()
    for name, a in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(a.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def write_manifest(folder: str | Path) -> None:
    """Write `manifest.json`: the sha256 of every file below `folder`."""
    folder = Path(folder)
    files = sorted(
        p for p in folder.rglob("*")
        if p.is_file() and p.name != MANIFEST and not p.name.startswith(".")
    )
    write_json(folder / MANIFEST, {str(p.relative_to(folder)): sha256(p) for p in files})


def check_manifest(folder: str | Path, names: list[str]) -> None:
    """Check the digests of `names` (files of `folder`) against `manifest.json`.

    Raises:
        DD2Error: the manifest or a file is missing, or a digest differs.
    """
    folder = Path(folder)
    known = read_json(folder / MANIFEST)
    for name in names:
        path = folder / name
        if not path.is_file() or name not in known:
            raise DD2Error(f"{path} is missing: copy the whole folder again.")
        if is_lfs_pointer(path):
            raise DD2Error(f"{path} is {LFS_POINTER}.")
        if sha256(path) != known[name]:
            raise DD2Error(f"{path} is damaged (sha256 differs from {MANIFEST}): copy it again.")


