"""Whose turn it is on the machine: what would disturb another one's clock waits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dd2core import DD2Error

THREADS = torch.get_num_threads()  # of the CPU, as the process started
PATIENCE = 60.0  # seconds; a step of the largest model takes less
MOST_WAITING = 12  # live calls at once: each holds one of the server's forty workers

_TURN = threading.Lock()
_ROOM = threading.BoundedSemaphore(MOST_WAITING)


@contextmanager
def turn(live: bool = False) -> Iterator[None]:
    """One at a time, over all models, on all CPU threads.

    Args:
        live (bool): for what skips the queue; refused at once while many others wait.

    Raises:
        DD2Error: the machine is busy.
    """
    if live and not _ROOM.acquire(blocking=False):
        raise DD2Error("The machine is busy: try again in a moment.")
    try:
        mine = _TURN.acquire(timeout=PATIENCE)
    finally:
        if live:
            _ROOM.release()
    if not mine:
        raise DD2Error("The machine is busy: try again in a minute.")
    try:
        # A worker that is new here would keep the count that another one's step had just set.
        torch.set_num_threads(THREADS)
        yield
    finally:
        _TURN.release()
