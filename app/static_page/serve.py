"""The static page below `/browser/` of the other page, where its folder is there."""

import os
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from app.static_page.assemble import LIST, WEB

BELOW = "/browser"


def folder() -> Path | None:
    """The folder of the static page: `DD2_WEB`, else build/web; None where there is none, or
    `DD2_WEB` is empty."""
    named = os.environ.get("DD2_WEB", str(WEB))
    path = Path(named)
    return path if named and (path / LIST).is_file() and (path / "index.html").is_file() else None


def middleware() -> list[Middleware]:
    """What puts the page below `/browser/`; nothing where there is none."""
    found = folder()
    return [] if found is None else [Middleware(Below, folder=found)]


class Below:
    """ASGI middleware: files of `folder` below `/browser/`, by GET and HEAD; the rest goes on."""

    def __init__(self, app: Any, folder: Path) -> None:
        self.app, self.files = app, StaticFiles(directory=folder, html=True)

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Serve one request."""
        root = scope.get("root_path", "").rstrip("/")
        path = scope.get("path", "").removeprefix(root)
        if scope["type"] != "http" or not path.startswith(f"{BELOW}/"):
            await self.app(scope, receive, send)
            return
        own = scope | {"root_path": root + BELOW, "path": root + path}
        await self.files(own, receive, send)
