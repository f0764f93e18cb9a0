"""Which requests the page knows. Pure functions: nothing here opens, fetches or waits.

Gradio serves much that this page has no use for: uploads, a proxy, files by their path or URL,
recordings, links that store a session on disk, a development server. What is not named here does
not exist.
"""

import inspect
import json
import os
import re
from typing import Any
from urllib.parse import parse_qs

import gradio as gr

from app.requests import quote

API = "/gradio_api"
MOST_BYTES = 32 * 1024  # of a body; the largest that the page sends has about two thousand
DEEPEST = 8  # lists and dicts in one another
SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")  # the browser sends 11 characters, programs a UUID
EVENT = re.compile(r"[0-9a-f]{32}")
# What Gradio takes for a file in a value, at any depth, to open or to fetch it. No input is one.
FILE_KEYS = frozenset({"path", "url", "meta", "_type", "orig_name", "is_stream"})
PAGES = frozenset({"/", "/config", "/config/"})  # a query would name a stored session
PLAIN = PAGES | {
    "/theme.css", "/favicon.ico", "/share.png", "/robots.txt", "/manifest.json", "/pwa_icon",
    "/login_check", "/login_check/", *(f"{API}/{name}" for name in (
        "theme.css", "user", "user/", "login_check", "login_check/", "app_id", "app_id/", "info",
        "info/", "openapi.json", "startup-events",
    )),
}
FRONTEND = re.compile(r"/(?:static|assets|svelte)(?:/(?!\.)[\w@+.,~-]{1,128}){1,8}")
KEPT = re.compile(r"[0-9a-f]{64}/[^/\\\x00-\x1f]{1,255}")  # how Gradio's cache names a file


class Refusal(Exception):
    """A status and one sentence, for whoever sent the request."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


NOT_HERE = (404, "There is nothing at this address.")
SESSION_WANTED = "Send a session_hash of up to 64 letters, digits, - and _."


def is_session(value: Any) -> bool:
    """Whether `value` may be the hash of a session."""
    return isinstance(value, str) and SESSION.fullmatch(value) is not None


def check_read(path: str, folder: str) -> None:
    """A GET that is answered at once.

    Args:
        path: of the request, decoded once, as the server gives it.
        folder: where Gradio keeps the files that the page made; no other file is given away.

    Raises:
        Refusal: no such page.
    """
    if path in PLAIN or FRONTEND.fullmatch(path):
        return
    if path.startswith(f"{API}/file="):
        wanted = path.removeprefix(f"{API}/file=")
        # As text: resolving it would open what a stranger names.
        inside = os.path.normcase(os.path.join(os.path.abspath(folder), ""))
        name = wanted[len(inside):].replace(os.sep, "/")
        if os.path.normcase(wanted).startswith(inside) and KEPT.fullmatch(name):
            return
    raise Refusal(*NOT_HERE)


def read_stream(path: str, query: bytes) -> tuple[str, str] | None:
    """What a GET listens to: ("session" or "heartbeat", hash), ("event", id), or None."""
    if path == f"{API}/queue/data":
        given = parse_qs(query.decode("latin-1"), max_num_fields=8).get("session_hash", [])
        if len(given) != 1 or not is_session(given[0]):
            raise Refusal(400, "Name one session.")
        return "session", given[0]
    if path.startswith(f"{API}/heartbeat/"):
        session = path.removeprefix(f"{API}/heartbeat/")
        if not is_session(session):
            raise Refusal(400, "Name one session.")
        return "heartbeat", session
    match = re.fullmatch(rf"{API}/call/(?:v2/)?\w{{1,64}}/([0-9a-f]{{32}})", path)
    return ("event", match[1]) if match else None


def read_body(body: bytes) -> dict[str, Any]:
    """A JSON object without files, not deeply nested.

    Raises:
        Refusal: it is something else.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise Refusal(400, "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise Refusal(400, "The request is not a JSON object.")
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise Refusal(400, "The request is nested too deeply.")
        if any(isinstance(x, dict) and FILE_KEYS & x.keys() for x in level):
            raise Refusal(400, "No input of this page is a file or an address.")
        inner = [y for x in level for y in (x.values() if isinstance(x, dict) else x)]
        level = [x for x in inner if isinstance(x, dict | list)]
    return value


def check_post(page: gr.Blocks, path: str, body: dict[str, Any]) -> None:
    """A POST: it calls a function that is there, with a session that may be one.

    Raises:
        Refusal: no such endpoint, or it is not called like this.
    """
    kind, _, name = path.removeprefix(f"{API}/").rstrip("/").partition("/")
    session = body.get("session_hash")
    if (kind, name) in {("queue", "join"), ("cancel", "")}:
        if not is_session(session):
            raise Refusal(400, SESSION_WANTED)
    elif kind == "call" and name.startswith("v2/"):
        known = inspect.signature(find_public(page, name.removeprefix("v2/")).fn).parameters
        if strange := [key for key in body if key not in known]:
            raise Refusal(422, f"There is no argument {quote(strange[0])}.")
        return
    elif kind not in {"run", "api", "call"} or not name:
        if (kind, name) != ("reset", ""):  # which does nothing
            raise Refusal(*NOT_HERE)
        return
    elif session is not None and not is_session(session):
        raise Refusal(400, SESSION_WANTED)
    if kind == "cancel":
        event = body.get("event_id")
        if event is not None and not (isinstance(event, str) and EVENT.fullmatch(event)):
            raise Refusal(400, "There is no such event.")
    elif kind == "call" or (kind != "queue" and body.get("fn_index") is None):
        check_call(find_public(page, name), body)
    else:
        check_call(find_function(page, body.get("fn_index")), body)


def check_call(fn: Any, body: dict[str, Any]) -> None:
    """Number of inputs and trigger of a call of `fn`; raises Refusal."""
    data, trigger = body.get("data"), body.get("trigger_id")
    if not isinstance(data, list) or len(data) != len(fn.inputs):
        raise Refusal(422, f"Send data, a list of {len(fn.inputs)} values.")
    if trigger is not None and not (type(trigger) is int and 0 <= trigger < 2**31):
        raise Refusal(422, "There is no such trigger.")
    if body.get("batched") not in (None, False):
        raise Refusal(422, "Nothing here comes in batches.")


def find_function(page: gr.Blocks, index: Any) -> Any:
    """The function of that number that a visitor may call; raises Refusal."""
    fn = page.fns.get(index) if type(index) is int else None
    if fn is None or fn.fn is None or any(t[1] == "unload" for t in fn.targets):
        raise Refusal(404, "There is no such function.")
    return fn


def find_public(page: gr.Blocks, name: str) -> Any:
    """The endpoint for programs of that name; raises Refusal."""
    for fn in page.fns.values():
        if fn.api_name == name and fn.api_visibility == "public":
            return fn
    raise Refusal(404, "There is no such endpoint.")
