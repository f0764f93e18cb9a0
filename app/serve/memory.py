"""What glibc keeps of freed memory: nothing where there is another allocator."""

import ctypes
import os
import sys
from typing import Any

M_ARENA_MAX = -8  # of glibc's malloc.h


def share_arenas() -> None:
    """Let all threads allocate from two places instead of up to eight per core: each of the forty
    workers that has once painted would keep the pages of a large batch for itself."""
    if "MALLOC_ARENA_MAX" not in os.environ and (mallopt := _glibc("mallopt")) is not None:
        mallopt(M_ARENA_MAX, 2)


def give_back() -> None:
    """Return freed pages to the system; takes a few milliseconds."""
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def _glibc(name: str) -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)  # musl has none of these
