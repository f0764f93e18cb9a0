"""Which comparison of a visitor is the wanted one: the newest, until it is stopped.

A visitor may press Compare again, pick another model, press Stop or leave while the teacher is
still painting. Each of these takes a new ticket or tears the old one up; what holds an old ticket
ends at its next step.
"""

import threading
from itertools import count

MOST_VISITORS = 1000  # whose last ticket is kept


class Tickets:
    """The last ticket of each session. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock, self._numbers = threading.Lock(), count(1)
        self._last: dict[str, int] = {}  # session → ticket, the oldest first
        self._running: dict[str, int] = {}  # session → ticket that has been started or is waiting

    def take(self, session: str) -> int:
        """A new ticket, which makes all older ones of the session void."""
        with self._lock:
            number = next(self._numbers)
            self._last.pop(session, None)
            self._last[session] = self._running[session] = number
            while len(self._last) > MOST_VISITORS:
                oldest = next(iter(self._last))
                del self._last[oldest]
                self._running.pop(oldest, None)
            return number

    def holds(self, session: str, ticket: int) -> bool:
        """Whether the comparison of that ticket is still wanted."""
        return self._last.get(session) == ticket

    def finish(self, session: str, ticket: int) -> None:
        """The comparison of that ticket has come to its end."""
        with self._lock:
            if self._running.get(session) == ticket:
                del self._running[session]

    def stop(self, session: str) -> bool:
        """Make the ticket void; whether there was anything to stop."""
        with self._lock:
            self._last.pop(session, None)
            return self._running.pop(session, None) is not None
