"""Training states: everything a resumed run needs, in one file, written atomically and sealed.

The file is what `torch.save` writes, and at its end the sha256 of that.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import torch

from dd2core.errors import DD2Error
from dd2core.store.atomic import atomic

if TYPE_CHECKING:  # collections.abc has it from Python 3.12 on
    from typing_extensions import Buffer

_WORD = b"dd2-sha256:"
_SEAL = len(_WORD) + 64  # bytes at the end of the file
_PIECE = 2**24  # bytes hashed at a time


class _Hashing(io.RawIOBase):
    """Passes on what is written, and hashes it; `torch.save` never seeks."""

    def __init__(self, file: IO[bytes]):
        self.file, self.digest = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: "Buffer") -> int:
        self.digest.update(data)
        self.file.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        self.file.flush()


def save_state(path: str | Path, state: dict) -> None:
    """Atomically save a training state (tensors, numbers, strings in dicts and lists).

    Raises:
        DD2Error: it cannot be written; the old one is as it was.
    """
    with atomic(path) as f:
        out = _Hashing(f)
        try:
            torch.save(state, cast(IO[bytes], out))
        except RuntimeError as error:  # torch's writer does not pass on "no space left"
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        f.write(_WORD + out.digest.hexdigest().encode())


def load_state(path: str | Path, mmap: bool = False) -> dict:
    """A training state written by `save_state`.

    With `mmap` the tensors stay in the file until they are used, once for all processes of a
    machine.

    Raises:
        DD2Error: the file is damaged or is not such a state.
    """
    again = "move its folder away to train this stage again"
    if not _is_whole(path):
        raise DD2Error(f"{path} is not a whole training state: it is truncated, damaged or "
                       f"foreign, {again}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises many kinds; all mean the same to the user
        raise DD2Error(f"{path} cannot be read ({type(error).__name__}): it is of another kind, "
                       f"{again}.") from None
    if not isinstance(state, dict):
        raise DD2Error(f"{path} is not a training state: {again}.")
    return state


def _is_whole(path: str | Path) -> bool:
    """Whether a file ends with the sha256 of what is before it."""
    try:
        with open(path, "rb") as f:
            left = os.fstat(f.fileno()).st_size - _SEAL
            digest = hashlib.sha256()
            while left > 0:
                piece = f.read(min(left, _PIECE))
                if not piece:
                    return False
                digest.update(piece)
                left -= len(piece)
            return f.read() == _WORD + digest.hexdigest().encode()
    except OSError:
        return False
