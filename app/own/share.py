"""What a link to the page shows elsewhere: title, description and a picture of our own.

Gradio writes tags of its own into the page, with no picture and no description, and those who read
them want the picture's whole address, which only a request tells.
"""

import html
import re
from pathlib import Path
from typing import Any

TITLE = "One step beside its teacher"
DESCRIPTION = (
    "A picture model that needs many steps for an image, and a copy distilled to need one: same "
    "classes, same machine, side by side and timed. Draw a picture of your own and have it filled."
)
PICTURE = "/share.png"  # where it is served
FOLDER = Path(__file__).parent
FAVICON = FOLDER / "favicon.png"
SIZE = (1200, 630)
OLD = re.compile(
    rb'<meta\s+(?:property="og:(?:title|type|url|image|description)"|name="twitter:(?:title|image|'
    rb'description|card|creator|site)"|name="description")[^>]*>\s*'
)
HOST = re.compile(r"[\w.:\[\]-]{1,255}")


class Share:
    """ASGI middleware: our tags in the page, and the picture that they name. Inside the
    compression."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Serve one request."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", "").rstrip("/"))
        if scope["type"] == "http" and scope["method"] == "GET" and path == PICTURE:
            await _picture(send)
        elif scope["type"] == "http" and scope["method"] == "GET" and path in ("", "/"):
            await self.app(scope, receive, Rewrite(send, tags(address_of(scope))))
        else:
            await self.app(scope, receive, send)


class Rewrite:
    """`send` of a page: what comes is kept until it is whole, and then has our tags."""

    def __init__(self, send: Any, own: bytes) -> None:
        self.send, self.own = send, own
        self.start: dict | None = None
        self.body = bytearray()

    async def __call__(self, message: dict) -> None:
        """Take one message."""
        if message["type"] == "http.response.start":
            kind = dict(message["headers"]).get(b"content-type", b"")
            if message["status"] == 200 and kind.startswith(b"text/html"):
                self.start = message
                return
        if self.start is None:
            await self.send(message)
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        page = with_tags(bytes(self.body), self.own)
        headers = [(k, v) for k, v in self.start["headers"] if k != b"content-length"]
        headers.append((b"content-length", str(len(page)).encode()))
        await self.send(self.start | {"headers": headers})
        await self.send({"type": "http.response.body", "body": page})


def with_tags(page: bytes, own: bytes) -> bytes:
    """A page with `own` at the start of its head, and no such tags of Gradio's."""
    head, end, rest = page.partition(b"</head>")
    return re.sub(rb"<head[^>]*>", lambda m: m[0] + own, OLD.sub(b"", head), count=1) + end + rest


def tags(address: str) -> bytes:
    """The tags of the page at an address."""
    picture = address.rstrip("/") + PICTURE
    said = [("property", "og:type", "website"), ("property", "og:title", TITLE),
            ("property", "og:description", DESCRIPTION), ("property", "og:image", picture),
            ("property", "og:image:width", str(SIZE[0])),
            ("property", "og:image:height", str(SIZE[1])),
            ("property", "og:url", address), ("name", "description", DESCRIPTION),
            ("name", "twitter:card", "summary_large_image"), ("name", "twitter:title", TITLE),
            ("name", "twitter:description", DESCRIPTION), ("name", "twitter:image", picture)]
    lines = [f'<meta {kind}="{name}" content="{html.escape(text)}">' for kind, name, text in said]
    return ("\n" + "\n".join(lines) + "\n").encode()


def address_of(scope: dict) -> str:
    """The address by which the page was asked for, behind a proxy too."""
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
    host = headers.get("x-forwarded-host", headers.get("host", ""))
    host = host if HOST.fullmatch(host) else "localhost"
    scheme = headers.get("x-forwarded-proto", scope.get("scheme", "http"))
    scheme = scheme if scheme in ("http", "https") else "http"
    return f"{scheme}://{host}{scope.get('root_path', '').rstrip('/')}/"


async def _picture(send: Any) -> None:
    data = (FOLDER / PICTURE[1:]).read_bytes()
    headers = [(b"content-type", b"image/png"), (b"content-length", str(len(data)).encode()),
               (b"cache-control", b"max-age=86400")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})
