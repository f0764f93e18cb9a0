"""Puts `page.first` into the HTML that Gradio answers with, which shows nothing by itself."""

from typing import Any

import gradio as gr

PLACE = b"<gradio-app"  # Gradio's own element; what comes before it is seen before its scripts


class First:
    """ASGI middleware: `page.first`, a string, comes first in the body of the page. Everything
    else goes by untouched."""

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
