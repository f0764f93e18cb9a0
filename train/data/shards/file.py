"""One file of token sequences: sealed safetensors, read in place (memory-mapped).

`tokens` (n, L) of 16 bits, `labels` (n,), and `left_out`: numbers of the items of its range that
could not be read and have no sequence.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.store.files import write_tensors

KINDS = {"I16": "<i2", "U16": "<u2", "I32": "<i4", "I64": "<i8"}  # safetensors' names


def token_type(codes: int) -> torch.dtype:
    """The smallest type that holds tokens 0 … codes − 1."""
    if codes <= 2**15:
        return torch.int16
    return torch.uint16 if codes <= 2**16 else torch.int32


def write_file(path: Path, tokens: Tensor, labels: Tensor, left_out: list[int], codes: int) -> None:
    """Write sequences (n, L), their labels (n,) and the numbers of what has none, atomically."""
    write_tensors(path, {"tokens": tokens.to(token_type(codes)), "labels": labels.int(),
                         "left_out": torch.tensor(left_out, dtype=torch.int64)})


def map_file(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens (n, L), labels (n,) and left-out numbers of a file; nothing is read yet.

    Raises:
        DD2Error: it is missing or no such file.
    """
    try:
        with open(path, "rb") as f:
            size = int.from_bytes(f.read(8), "little")
            head = json.loads(f.read(size))
        found = []
        for name in ("tokens", "labels", "left_out"):
            a = head[name]
            dtype, shape, begin = np.dtype(KINDS[a["dtype"]]), tuple(a["shape"]), a["data_offsets"]
            if 0 in shape:  # which cannot be mapped
                found.append(np.empty(shape, dtype))
                continue
            found.append(np.memmap(path, dtype, "r", 8 + size + begin[0], shape))
    except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError):
        raise DD2Error(f"{path} is no whole file of tokens: move its folder away to make them "
                       "anew.") from None
    return found[0], found[1], found[2]
