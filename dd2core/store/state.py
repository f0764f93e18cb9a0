"""Training states: everything a resumed run needs, in one file, written atomically."""

import contextlib
import os
from pathlib import Path

import torch

from dd2core.errors import DD2Error


def save_state(path: str | Path, state: dict) -> None:
    """Atomically save a training state (tensors, numbers, strings in dicts and lists)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(tmp, "wb") as f:
            torch.save(state, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            tmp.unlink()


def load_state(path: str | Path, mmap: bool = False) -> dict:
    """A training state written by `save_state`.

    With `mmap` the tensors stay in the file until they are used, once for all processes of a
    machine.

    Raises:
        DD2Error: the file is damaged or is not such a state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises many kinds; all mean the same to the user
        raise DD2Error(
            f"{path} cannot be read ({type(error).__name__}): it is truncated or foreign, move it "
            "away to start this stage again."
        ) from None
    if not isinstance(state, dict):
        raise DD2Error(f"{path} is not a training state: move it away to start this stage again.")
    return state
