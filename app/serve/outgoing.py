"""What is done to the page's HTML on its way out: what is seen first, and compression."""

from typing import Any

import gradio as gr
from starlette.middleware.gzip import GZipMiddleware

from app.serve.admit import PAGES

PLACE = b"<gradio-app"  # Gradio's own element; what comes before it is seen before its scripts
LEAST = 1000  # bytes; smaller answers are sent as they are
LEVEL = 6  # of zlib: 4 ms for the 200 kB of the page


class Compress:
    """ASGI middleware: gzip for the page and its configuration, which Gradio leaves as they are.
    Everything else, all streams above all, goes by untouched."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.packed = GZipMiddleware(app, minimum_size=LEAST, compresslevel=LEVEL)

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Serve one request."""
        page = scope["type"] == "http" and scope["path"] in PAGES
        await (self.packed if page else self.app)(scope, receive, send)


class First:
    """ASGI middleware: `page.first`, a string, comes first in the body of the page, which shows
    nothing by itself. Everything else goes by untouched."""

    def __init__(self, app: Any, page: gr.Blocks) -> None:
        self.app, self.first = app, getattr(page, "first", "").encode()

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Serve one request."""
        root = scope.get("root_path", "").rstrip("/")
        if (scope["type"] != "http" or scope["method"] != "GET" or not self.first
                or scope["path"].removeprefix(root) != "/"):
            await self.app(scope, receive, send)
            return
        start: dict = {}
        body = bytearray()

        async def keep(message: dict) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            whole = bytes(body).replace(PLACE, self.first + PLACE, 1)
            headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
            headers.append((b"content-length", str(len(whole)).encode()))
            await send(start | {"headers": headers})
            await send({"type": "http.response.body", "body": whole})

        await self.app(scope, receive, keep)
