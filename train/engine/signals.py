"""SIGTERM and SIGINT while a stage trains: the step is finished, its state saved, then it ends."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Asked:
    """The signal that has asked this process to stop; None so far."""

    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """What a process that ends by this signal exits with, as a shell tells it."""
        return 128 + (self.signal or signal.SIGTERM)


@contextlib.contextmanager
def watch() -> Iterator[Asked]:
    """Inside the block the first SIGTERM or SIGINT is only noted; the second acts as ever.

    Only the main thread may ask for signals; in another one nothing is noted.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame) -> None:
        asked.signal = number
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        restore()
