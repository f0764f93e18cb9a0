"""The fixtures in `fixtures/parity`: weights that are rebuilt from names, and recorded outputs."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "fixtures" / "parity"
BUFFERS = ("lvl_1L", "attn_bias_for_masking", "zero_k_bias", "ema_vocab_hit_SV", "codebook_used")


def seeded_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weight that stands under an official parameter name."""
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    n = n.astype(np.float32)
    if len(shape) >= 2:
        n = n / np.sqrt(np.prod(shape[1:]), dtype=np.float32)  # fan-in scaling
    else:
        n = 1 + 0.1 * n if name.endswith("weight") else 0.02 * n  # norm gains; biases
    return torch.from_numpy(np.asarray(n, dtype=np.float32))


def seeded_state(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    """A state dict of these names and shapes: seeded parameters, buffers of zeros."""
    return {name: torch.zeros(shape) if name.rpartition(".")[2] in BUFFERS
            else seeded_weight(name, tuple(shape)) for name, shape in keys.items()}


def meta_state(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    """A state dict of these names and shapes without values."""
    return {name: torch.empty(shape, device="meta") for name, shape in keys.items()}


def description(name: str) -> dict:
    """The JSON file of a fixture."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def arrays(name: str) -> dict[str, Tensor]:
    """The recorded inputs and outputs of a fixture."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}
