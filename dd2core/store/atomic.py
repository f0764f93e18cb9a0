"""The one atomic writer: a reader sees the old file or the new one, never half of one.

What is written goes to a temporary file beside its place, to the disk, and is moved there. A killed
process leaves its temporary file behind; `sweep` removes those of processes that are gone.
"""

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dd2core.errors import DD2Error

_LEFT = re.compile(r"\..+\.(\d+)\.tmp")  # name of a temporary file; the number is its process


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[BinaryIO]:
    """A file object whose content becomes `path` when the block ends without an error.

    Raises:
        DD2Error: the disk is full, the folder is read-only, …; the old file is as it was.
    """
    path = Path(path)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        try:
            with open(tmp, "wb") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            os.replace(tmp, path)
        finally:
            with contextlib.suppress(OSError):
                tmp.unlink()


@contextlib.contextmanager
def written(path: str | Path) -> Iterator[None]:
    """Whatever the system has against writing `path` in the block is one sentence.

    Raises:
        DD2Error: for an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DD2Error(
            f"{path} cannot be written ({error.strerror or error}): make room or get the right to "
            "write there; nothing else is lost."
        ) from error


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`; see `atomic`."""
    with atomic(path) as f:
        f.write(data)


def sweep(folder: str | Path, name: str = "*") -> None:
    """Remove the temporary files in `folder`, of the file `name` or of all, that processes which
    are gone have left there."""
    of = name if name == "*" else glob.escape(name)
    for path in Path(folder).glob(f".{of}.*.tmp"):
        match = _LEFT.fullmatch(path.name)
        if match and not _runs(int(match[1])):
            with contextlib.suppress(OSError):
                path.unlink()


def _runs(process: int) -> bool:
    if os.name == "nt":
        return True  # asking would end it there
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return process > 0
