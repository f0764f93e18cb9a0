"""The filter in front of Gradio: what it lets through is small, known, and ends.

A plain ASGI middleware. It bounds the size and the time of a body, the number of open streams, and
passes on only what `app.serve.admit` knows; the body that Gradio reads is the one that was checked.
When the server is to stop, every stream gets a sentence and ends.
"""

import asyncio
import json
import logging
from collections import Counter
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from app.serve import admit
from app.serve.admit import Refusal

BODY_SECONDS = 10.0  # for all of a body
MOST_STREAMS = {"heartbeat": 400, "session": 400, "event": 200}  # open at once
MOST_OF_A_SESSION = 4  # streams: several tabs never share a session
STOPPING = "The page is being stopped: try again in a minute."
GONE = "This session has ended: reload the page."
_LOG = logging.getLogger(__name__)


class Door:
    """What the filter counts, and the way to close it. Lives in the server's event loop."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()  # streams by kind
        self.of: Counter[str] = Counter()  # streams by kind and session
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None

    @property
    def closing(self) -> asyncio.Event:
        """Set when the server is to stop."""
        if self._closing is None:
            self._closing, self._loop = asyncio.Event(), asyncio.get_running_loop()
        return self._closing

    def close(self) -> None:
        """End every stream with a sentence and refuse what comes; from any thread."""
        if self._loop is not None and self._closing is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._closing.set)


class Guard:
    """ASGI middleware: `Guard(app, page=..., door=...)`."""

    def __init__(self, app: Any, page: gr.Blocks, door: Door) -> None:
        self.app, self.page, self.door = app, page, door

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            try:
                await self._serve(scope, receive, send)
            except Refusal as refusal:
                await _answer(send, refusal.status, refusal.sentence)

    async def _serve(self, scope: dict, receive: Any, send: Any) -> None:
        if self.door.closing.is_set():
            raise Refusal(503, STOPPING)
        method, path = scope["method"], _path(scope)
        if method == "POST":
            # Unknown addresses first: their bodies are not worth reading.
            if not path.startswith(f"{admit.API}/"):
                raise Refusal(*admit.NOT_HERE)
            body = admit.read_body(await _read(scope, receive))
            admit.check_post(self.page, path, body)
            plain = json.dumps(body).encode()  # of two equal keys, say, Gradio sees what was seen
            await self.app(_with_length(scope, len(plain)), _again(plain, receive), send)
        elif method not in ("GET", "HEAD"):
            raise Refusal(405, "Use GET or POST.")
        elif (listens := admit.read_stream(path, scope["query_string"])) and method == "GET":
            await self._stream(*listens, scope, receive, send)
        else:
            admit.check_read(path, get_upload_folder())
            query = b"" if path in admit.PAGES else scope["query_string"]
            await self.app(scope | {"query_string": query}, receive, send)

    async def _stream(self, kind: str, name: str, scope: dict, receive: Any, send: Any) -> None:
        """Pass a stream on, counted, until it ends or the server is to stop."""
        if kind != "heartbeat" and not self._is_known(kind, name):
            if kind == "event":
                raise Refusal(404, "There is no such event.")
            await _answer_stream(send, _last_words(kind, GONE, lost=True))
            return
        door, key = self.door, f"{kind} {name}"
        if door.open[kind] >= MOST_STREAMS[kind] or door.of[key] >= MOST_OF_A_SESSION:
            raise Refusal(503, "Too many connections: try again in a minute.")
        door.open[kind] += 1
        door.of[key] += 1
        try:
            await self._pass_on(kind, scope, receive, send)
        finally:
            door.open[kind] -= 1
            door.of[key] -= 1
            if not door.of[key]:
                del door.of[key]

    def _is_known(self, kind: str, name: str) -> bool:
        queue = self.page._queue
        if kind == "session":
            return name in queue.pending_messages_per_session
        ids = queue.pending_event_ids_session.values()
        return name in queue.event_ids_to_events or any(name in known for known in ids)

    async def _pass_on(self, kind: str, scope: dict, receive: Any, send: Any) -> None:
        state = {"started": False, "ended": False}

        async def watched(message: dict) -> None:
            state["started"] |= message["type"] == "http.response.start"
            if message["type"] == "http.response.body" and not message.get("more_body"):
                state["ended"] = True
            await send(message)

        work = asyncio.ensure_future(self.app(scope, receive, watched))
        close = asyncio.ensure_future(self.door.closing.wait())
        try:
            await asyncio.wait({work, close}, return_when=asyncio.FIRST_COMPLETED)
            stopped = not work.done()
            if stopped:
                work.cancel()
                await asyncio.wait({work}, timeout=1.0)
            elif not work.cancelled() and (error := work.exception()):
                # Gradio's, in a session that has ended meanwhile: nobody else's trouble.
                _LOG.warning("a stream ended early: %r", error)
        finally:
            work.cancel()
            close.cancel()
        if not state["started"]:
            raise Refusal(503, STOPPING if stopped else GONE)
        if not state["ended"]:
            words = _last_words(kind, STOPPING) if stopped else b""
            await send({"type": "http.response.body", "body": words, "more_body": False})


def _last_words(kind: str, sentence: str, lost: bool = False) -> bytes:
    """A sentence as the stream's reader expects an error; a heartbeat has no words."""
    if kind == "heartbeat":
        return b""
    if kind == "event":
        return f"event: error\ndata: {json.dumps({'error': sentence})}\n\n".encode()
    said = {"msg": "unexpected_error", "message": sentence, "success": False}
    return f"data: {json.dumps(said | {'session_not_found': lost})}\n\n".encode()


def _path(scope: dict) -> str:
    """The path below the place where a proxy has put the page."""
    root = scope.get("root_path", "").rstrip("/")
    path = scope["path"]
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


async def _read(scope: dict, receive: Any) -> bytes:
    """The body, if it is small and comes in time."""
    too_large = Refusal(413, f"Send at most {admit.MOST_BYTES:,} bytes.")
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > admit.MOST_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refusal(400, "The request broke off.")
                body += message.get("body", b"")
                if len(body) > admit.MOST_BYTES:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(408, f"Send the request within {BODY_SECONDS:g} seconds.") from None


def _with_length(scope: dict, length: int) -> dict:
    headers = [(k, v) for k, v in scope["headers"]
               if k not in (b"content-length", b"transfer-encoding")]
    return scope | {"headers": [*headers, (b"content-length", str(length).encode())]}


def _again(body: bytes, receive: Any) -> Any:
    """A `receive` that gives a body that was read already, then what comes after it."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> dict:
        return left.pop() if left else await receive()

    return give


async def _answer(send: Any, status: int, sentence: str) -> None:
    """One sentence as JSON; the connection ends, since a body may still be on its way."""
    content = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"),
               (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _answer_stream(send: Any, words: bytes) -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": words})
