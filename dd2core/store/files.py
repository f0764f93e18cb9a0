"""Files: safetensors + JSON, written atomically, checked on load.

A *model folder* holds `config.json`, one `<part>.safetensors` per network and `manifest.json` with
the sha256 of every file. Each file is written beside its place and moved there
(`dd2core.store.atomic`), the manifest last, so a killed save leaves the old folder or the new one,
never half of one. Files of tensors also carry the sha256 of their tensors (`seal`), which is what
checks those of a run, where there is no manifest.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from dd2core.errors import DD2Error, some
from dd2core.store.atomic import write_atomic
from dd2core.store.names import MANIFEST

__all__ = ["check_manifest", "fingerprint", "is_lfs_pointer", "load_strict",
           "read_json", "read_tensors", "seal", "sha256", "tensor_shapes", "write_atomic",
           "write_json", "write_manifest", "write_tensors"]

LFS_POINTER = "a Git-LFS pointer, not the file itself: run `git lfs pull` in its repository"
SEAL = "dd2-sha256"  # entry of a safetensors file's metadata
MOST_JSON = 2**26  # bytes of a JSON file


def write_json(path: str | Path, value: object) -> None:
    """`write_atomic` of indented JSON."""
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: str | Path) -> dict:
    """The JSON object in `path`.

    Raises:
        DD2Error: the file is missing, is not JSON, has NaN or infinity in it, or is too large or
            too deeply nested to be one of ours.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_JSON:
            raise DD2Error(f"{path} is larger than {MOST_JSON >> 20} MiB: the file is foreign, "
                           "copy it again.")
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise DD2Error(f"{path} is missing: name a folder that a training stage wrote.") from None
    except DD2Error:
        raise
    except (ValueError, RecursionError, OSError):
        if is_lfs_pointer(path):
            raise DD2Error(f"{path} is {LFS_POINTER}.") from None
        raise DD2Error(f"{path} is not JSON: the file is damaged, copy it again.") from None
    if not isinstance(value, dict):
        raise DD2Error(f"{path} holds no JSON object: the file is foreign, copy it again.")
    return value


def _refuse_constant(word: str) -> float:
    raise ValueError(word)


def write_tensors(
    path: str | Path, tensors: dict[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write a flat dictionary of tensors as safetensors, sealed; `dtype` converts the floating
    ones.

    Raises:
        DD2Error: a number is not finite, or not any more in `dtype`; or see `atomic`.
    """
    cpu = {}
    for name, a in tensors.items():
        a = a.detach().to("cpu")
        if a.is_floating_point():
            _check_finite(name, a, f"{path} is not written")
            if dtype is not None and a.dtype != dtype:
                largest, a = a.abs().max().item() if a.numel() else 0.0, a.to(dtype)
                if not a.isfinite().all():
                    raise DD2Error(f"{path} is not written: {name} has {largest:.3g}, too large "
                                   f"for {str(dtype).removeprefix('torch.')}, train it anew with "
                                   "a lower learning rate.")
        cpu[name] = a.contiguous().clone()
    write_atomic(path, save_bytes(cpu, {SEAL: seal(cpu)}))


def _check_finite(name: str, a: Tensor, what: str) -> None:
    if a.is_floating_point() and not a.isfinite().all():
        raise DD2Error(f"{what}: {name} holds numbers that are not finite, take weights that were "
                       "trained to the end.")


def read_tensors(path: str | Path, sealed: bool = False) -> dict[str, Tensor]:
    """The tensors in a safetensors file, on the CPU; a seal in it is checked.

    Args:
        path (str | Path): the file.
        sealed (bool): refuse one without a seal, as nothing else tells whether it is whole.

    Raises:
        DD2Error: the file is missing, truncated, damaged or in another format.
    """
    try:
        data = Path(path).read_bytes()
        tensors, expected = load_bytes(data), _seal_in(data)
    except FileNotFoundError:
        raise DD2Error(f"{path} is missing: train that stage first or copy the file.") from None
    except (SafetensorError, ValueError, KeyError, TypeError, OSError, RecursionError):
        if is_lfs_pointer(path):
            raise DD2Error(f"{path} is {LFS_POINTER}.") from None
        raise DD2Error(
            f"{path} is not a whole safetensors file: it is truncated or of another kind, "
            "copy it again."
        ) from None
    if expected is None and sealed:
        raise DD2Error(f"{path} has no sha256 of its tensors: it is damaged, foreign or of an "
                       "earlier version, make it anew.")
    if expected is not None and expected != seal(tensors):
        raise DD2Error(f"{path} is damaged (its sha256 differs): copy it again, or move it away "
                       "and make it anew.")
    return tensors


def _seal_in(data: bytes) -> str | None:
    """The seal in the bytes of a safetensors file: 8 bytes of length, JSON, tensors."""
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return (head.get("__metadata__") or {}).get(SEAL)


def seal(tensors: Mapping[str, Tensor]) -> str:
    """Hex digest of names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name, a in sorted(tensors.items()):
        digest.update(f"{name} {a.dtype} {tuple(a.shape)};".encode())
        digest.update(a.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_strict(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Copy `tensors` into `module`; nothing is changed unless every name and shape agrees.

    Raises:
        DD2Error: names the keys that are missing, unexpected, of another shape, or not finite.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = sorted(
        f"{k} {tuple(tensors[k].shape)} for {tuple(own[k].shape)}"
        for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape
    )
    wrong = [("missing", missing), ("unexpected", extra), ("of another shape", shapes)]
    if any(keys for _, keys in wrong):
        text = "; ".join(f"{name}: {some(keys)}" for name, keys in wrong if keys)
        raise DD2Error(f"{what} does not fit this model ({text}): use the weights of its preset.")
    for name, a in tensors.items():
        a = a.to(own[name].dtype) if a.dtype == torch.float64 else a
        _check_finite(name, getattr(a, "_local_tensor", a), f"{what} is damaged")  # of a shard
    module.load_state_dict(tensors, strict=True)


def tensor_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file, which are not read.

    Raises:
        DD2Error: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as f:
            return {name: tuple(f.get_slice(name).get_shape()) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        read_tensors(path)  # says what is wrong
        raise DD2Error(f"{path} cannot be read: copy it again.") from None


def is_lfs_pointer(path: str | Path) -> bool:
    """Whether a file is what Git leaves in the place of a large one that was not fetched."""
    head = b"version https://git-lfs.github.com/spec/"
    try:
        with open(path, "rb") as f:
            return f.read(len(head)) == head
    except OSError:
        return False


def sha256(path: str | Path) -> str:
    """Hex digest of a file.

    Raises:
        DD2Error: it cannot be read.
    """
    try:
        with open(path, "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except FileNotFoundError:
        raise DD2Error(f"{path} is missing: train that stage first or copy the file.") from None
    except OSError as error:
        raise DD2Error(f"{path} cannot be read ({error.strerror}): get the right to read it, or "
                       "copy it again.") from None


def fingerprint(module: nn.Module) -> str:
    """Hex digest of a module's names and weights: other weights, another fingerprint."""
    return seal(module.state_dict())


def write_manifest(folder: str | Path) -> None:
    """Write `manifest.json`: the sha256 of every file below `folder`."""
    folder = Path(folder)
    files = sorted(
        p for p in folder.rglob("*")
        if p.is_file() and p.name != MANIFEST and not p.name.startswith(".")
    )
    write_json(folder / MANIFEST, {p.relative_to(folder).as_posix(): sha256(p) for p in files})


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


