"""The page itself is sent compressed; Gradio does that for its own scripts and styles alone."""

from typing import Any

from starlette.middleware.gzip import GZipMiddleware

from app.serve.admit import PAGES

LEAST = 1000  # bytes; smaller answers are sent as they are
LEVEL = 6  # of zlib: 4 ms for the 200 kB of the page


class Compress:
    """ASGI middleware: gzip for the page and its configuration. Everything else, all streams
    above all, goes by untouched."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.packed = GZipMiddleware(app, minimum_size=LEAST, compresslevel=LEVEL)

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Serve one request."""
        page = scope["type"] == "http" and scope["path"] in PAGES
        await (self.packed if page else self.app)(scope, receive, send)
