"""Connections that end: uvicorn waits for ever for the first byte of a request.

uvicorn's only limit, `timeout_keep_alive`, starts after an answer and ends at the next byte. So a
connection that sends nothing, half a header, or does not read its answer stays for good. Gradio
makes the server itself; its protocol class is taken anew for each connection, and put in its place
here once the server runs.
"""

import asyncio
import logging
from typing import Any

from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # to send a whole header, from the connection or the last answer on
STALL_SECONDS = 30.0  # for which a peer may take nothing of what is written
MOST_CONNECTIONS = 1500  # at most; fewer where fewer files may be open (1,024 is usual)
SPARE_FILES = 124  # for everything else
LOOK_EVERY = 2.0
GRACE = 2  # seconds that a stopping server gives to what it is doing


class Patient(H11Protocol):
    """HTTP/1.1 with an end to every wait for the other side. No WebSockets: nothing uses them."""

    most = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A new connection; when there are too many, the idle one that is oldest goes."""
        super().connection_made(transport)
        self.idle_since, self.stalled_since = self.loop.time(), None
        self._watch = self.loop.call_later(LOOK_EVERY, self._look)
        if len(self.connections) > self.most:
            idle = [c for c in self.connections if c.is_idle() and not c.transport.is_closing()]
            # This one is idle too, and the youngest: it goes only if all others are at work.
            min(idle, key=lambda c: c.idle_since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._watch.cancel()
        super().connection_lost(exc)

    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def on_response_complete(self) -> None:
        """The next request may come."""
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The peer takes less than it gets."""
        self.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.stalled_since = None
        super().resume_writing()

    def _look(self) -> None:
        now = self.loop.time()
        slow = self.is_idle() and now - self.idle_since > HEADER_SECONDS
        stalled = self.stalled_since is not None and now - self.stalled_since > STALL_SECONDS
        if slow or stalled:
            self.transport.abort()
        else:
            self._watch = self.loop.call_later(LOOK_EVERY, self._look)

    def _get_upgrade(self) -> bytes | None:
        return None


def limit(server: Server) -> None:
    """Let a running server use `Patient` from the next connection on, and stop in time."""
    config: Any = server.config
    config.http_protocol_class = type("Patient", (Patient,), {"most": _most()})
    config.timeout_graceful_shutdown = GRACE
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line says anything about the page: noise on the port would fill the disk."""
    return record.msg != "Invalid HTTP request received."


def _most() -> int:
    """Connections that the process may have, by its limit of open files."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST_CONNECTIONS
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(16, min(MOST_CONNECTIONS, allowed - SPARE_FILES))
