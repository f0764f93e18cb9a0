"""Whose turn it is on the machine: what would disturb another one's clock waits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dd2core import DD2Error

_TURN = threading.Lock()
PATIENCE = 60.0  # seconds; a step of the largest model takes less


@contextmanager
def turn() -> Iterator[None]:
    """One at a time, over all models."""
    if not _TURN.acquire(timeout=PATIENCE):
        raise DD2Error("The machine is busy: try again in a minute.")
    try:
        yield
    finally:
        _TURN.release()
