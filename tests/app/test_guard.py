"""Strangers at the page: what it refuses, and that nothing they send is kept, opened or fetched."""

import asyncio
import builtins
import contextlib
import json
import os
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client

from app.page import build_page
from app.serve import admit, queue, server
from app.serve.models import Models
from dd2core import Pipeline
from tests.harness import hostile
from tests.support import tiny
from tests.support.app_helpers import free_port

API = "/gradio_api"
FILE = {"path": "http://198.51.100.1/x.png", "meta": {"_type": "gradio.FileData"}}
OUTSIDE = [FILE["path"], "https://example.invalid/x", "/etc/passwd", "//198.51.100.1/x"]


@pytest.fixture(scope="module")
def calls():
    """Every address but this machine's own that this process asks for, none of them answered."""
    seen, connect, find = [], socket.socket.connect, socket.getaddrinfo

    def is_own(host) -> bool:
        return host is None or str(host).startswith(("127.", "::1", "localhost", "0.0.0.0"))

    def refuse(self, address):
        if self.family != socket.AF_UNIX and not is_own(address[0]):
            seen.append(address)
            raise OSError(f"no network: {address}")
        return connect(self, address)

    def look_up(host, *rest, **options):
        if not is_own(host.decode() if isinstance(host, bytes) else host):
            seen.append(host)
            raise OSError(f"no network: {host}")
        return find(host, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", look_up)
        yield seen


@pytest.fixture(scope="module")
def page(calls):
    page = build_page(Models.of(Pipeline(tiny.model())))
    server.launch(page, server_port=free_port(), prevent_thread_lock=True, quiet=True)
    yield page
    page.close(verbose=False)


@pytest.fixture(scope="module")
def url(page):
    return page.local_url.rstrip("/")


def ask(url: str, path: str, body=None, method=None) -> tuple[int, str]:
    """Status and text of one request."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def number(page: gr.Blocks, name: str) -> int:
    """The function of an endpoint, by its name."""
    return next(i for i, fn in page.fns.items() if fn.api_name == name)


def paint(page: gr.Blocks, session) -> dict:
    inputs = len(page.fns[number(page, "generate")].inputs)
    return {"fn_index": number(page, "generate"), "data": [None] * inputs, "session_hash": session}


@pytest.mark.parametrize("session", ["", None, 3, "a b", "é", "x" * 65, ["a"], "../a"])
def test_a_session_is_named_by_a_short_word(page, url, session):
    assert ask(url, f"{API}/queue/join", paint(page, session))[0] == 400


@pytest.mark.parametrize("value", [FILE, [FILE], {"a": [FILE]}, {"b": {"path": "/etc/passwd"}},
                                   {"url": "http://198.51.100.1/"}], ids=range(5))
@pytest.mark.parametrize("path", ["queue/join", "run/predict", "api/predict", "run/generate",
                                  "call/generate", "call/v2/generate"])
def test_a_file_in_a_value_is_refused_at_any_depth(page, url, calls, path, value):
    body = paint(page, "abc") | {"data": [value] * 9}
    if path == "call/v2/generate":
        body = {"class_name": value}
    if path in ("run/generate", "call/generate"):
        del body["fn_index"]
    assert ask(url, f"{API}/{path}", body)[0] == 400
    assert not calls


@pytest.mark.parametrize("where", OUTSIDE)
@pytest.mark.parametrize("door", ["file=", "file/", "proxy=", "custom_component/a/b/c/", "stream/"])
def test_no_address_or_path_of_a_stranger_is_followed(url, calls, monkeypatch, door, where):
    opened = []
    for module, name in ((builtins, "open"), (os, "stat"), (os, "open")):
        true = getattr(module, name)

        def watched(path, *rest, true=true, **options):
            if isinstance(path, str | Path) and "passwd" in str(path):
                opened.append(path)
            return true(path, *rest, **options)

        monkeypatch.setattr(module, name, watched)
    assert ask(url, f"{API}/{door}{where}")[0] == 404
    assert not calls and not opened


@pytest.mark.parametrize("path", [
    f"{API}/upload", f"{API}/process_recording", f"{API}/component_server", f"{API}/vibe-code",
    f"{API}/stream/abc", f"{API}/run-history/connect", "/login", f"{API}/queue/nothing",
    f"{API}/run/paint", f"{API}/call/paint", f"{API}/run/", f"{API}/call/..",
])
def test_what_the_page_has_no_use_for_does_not_exist(url, path):
    assert ask(url, path, {"data": [], "session_hash": "abc"})[0] == 404


@pytest.mark.parametrize("path", ["/monitoring", f"{API}/deep_link?session_hash=a", f"{API}/runs",
                                  "/static/../app.py", "/assets/.env", f"{API}/dev/reload",
                                  f"{API}/file=/tmp/gradio/{'0' * 64}/../x", f"{API}/mcp"])
def test_no_other_page_is_given_away(url, path):
    assert ask(url, path)[0] == 404


def test_only_functions_for_visitors_are_called(page, url):
    unload = next(i for i, fn in page.fns.items() if fn.targets[0][1] == "unload")
    empty = next(i for i, fn in page.fns.items() if fn.fn is None)
    for index in (unload, empty, -1, 10**6, True, "74", 1.5, None):
        body = paint(page, "abc") | {"fn_index": index}
        assert ask(url, f"{API}/queue/join", body)[0] == 404, index
    for data in ([], [None] * 10, "text", {}, None):
        body = paint(page, "abc") | {"data": data}
        assert ask(url, f"{API}/queue/join", body)[0] == 422, data


@pytest.mark.parametrize("path", ["run/predict", "run/generate", "api/generate"])
def test_nobody_paints_beside_the_queue(page, url, path):
    body = paint(page, "abc")
    if not path.endswith("predict"):
        del body["fn_index"]
    assert ask(url, f"{API}/{path}", body)[0] == 404


@pytest.mark.parametrize(("body", "said"), [
    (b"x" * (admit.MOST_BYTES + 1), "Send at most 32,768 bytes."), (b"{", "is not JSON."),
    (b"[]", "is not a JSON object."), (b"\xff\xfe", "is not JSON."),
    (b"[" * 30_000, "is not JSON."),
    (b'{"a":' * 12 + b"1" + b"}" * 12, "is nested too deeply."),
    (b'{"a":' + b"9" * 5000 + b"}", "is not JSON."),
], ids=range(7))
def test_a_body_is_a_small_flat_object(url, body, said):
    status, text = ask(url, f"{API}/queue/join", body)
    assert status in (400, 413) and json.loads(text)["detail"].endswith(said)


@pytest.mark.parametrize("length", ["Content-Length: 40000000", "Transfer-Encoding: chunked"])
def test_a_large_body_is_refused_before_it_has_come(page, length):
    with socket.create_connection(("127.0.0.1", page.server_port), timeout=5) as line:
        line.sendall(f"POST {API}/queue/join HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        if "chunked" in length:
            line.sendall(b"11000\r\n" + b"x" * 0x11000 + b"\r\n")  # and more to come
        assert line.recv(9000).startswith(b"HTTP/1.1 413")


def test_gradio_reads_the_body_that_was_checked(page):
    """Of two equal keys, JSON readers take the one or the other."""
    heard = []

    async def app(scope, receive, send):
        heard.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    from app.serve.guard import Door, Guard

    body = json.dumps(paint(page, "abc"))[:-1].encode() + b', "session_hash": "abc"}'
    message = {"type": "http.request", "body": body, "more_body": False}
    asyncio.run(Guard(app, page, Door())(
        {"type": "http", "method": "POST", "path": f"{API}/queue/join", "headers": []},
        lambda: _soon(message), lambda _: _soon(None),
    ))
    assert heard[0].count(b"session_hash") == 1


async def _soon(value):
    return value


def test_three_joins_leave_the_queue_running(page, url):
    """Even those that the filter refuses: the queue itself takes no harm. See app.serve.queue."""
    from gradio.data_classes import PredictBodyInternal
    from gradio.queueing import Event

    steady = page._queue
    orphan = Event("nobody", page.fns[number(page, "generate")], None, None)
    steady.send_message(orphan, None)
    assert not orphan.alive
    body = PredictBodyInternal(**paint(page, ""), request=None)
    for _ in range(3):
        asyncio.run(_push(steady, body))
    assert hostile.paints(url) and not steady.stopped


async def _push(steady, body):
    with contextlib.suppress(AttributeError):  # there is no request to answer to
        await steady.push(body, None, None)


def test_an_error_in_the_queue_stops_nobody(page, url, monkeypatch, caplog):
    steady, often = page._queue, [3]

    def broken(true=steady.get_events):
        if often[0] and len(steady):
            often[0] -= 1
            raise KeyError("planted")
        return true()

    monkeypatch.setattr(steady, "get_events", broken)
    assert hostile.paints(url) and often == [0] and not steady.stopped
    assert "the queue goes on after an error" in caplog.text


def test_sessions_that_nobody_listens_to_are_forgotten(page, url, monkeypatch):
    monkeypatch.setattr(queue, "UNHEARD", 0.5)
    monkeypatch.setattr(queue, "DEAF", 0.5)
    monkeypatch.setattr(queue, "MOST_SESSIONS", 8)
    monkeypatch.setattr(queue, "TIDY", 0.0)
    given_back = []
    monkeypatch.setattr(queue, "give_back", lambda: given_back.append(1))
    view = number(page, "open_view")
    for i in range(30):
        body = {"fn_index": view, "data": [""], "session_hash": f"fresh{i}"}
        assert ask(url, f"{API}/queue/join", body)[0] == 200
    assert len(page._queue.pending_messages_per_session) <= 8
    end = time.monotonic() + 20
    steady = page._queue
    while steady.pending_messages_per_session or steady.event_ids_to_events:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert not steady.pending_event_ids_session and len(steady.event_analytics) <= 1
    assert page.state_holder.capacity == server.MOST_STATES and page.max_file_size == 1024
    time.sleep(2.5)
    assert given_back


def test_what_waits_unheard_is_not_painted(page, url, monkeypatch):
    monkeypatch.setattr(queue, "HEARD", 0.3)  # long before it is forgotten
    done = []
    monkeypatch.setattr(page.fns[number(page, "generate")], "fn", lambda *_: done.append(1))
    assert ask(url, f"{API}/queue/join", paint(page, "leaves"))[0] == 200
    time.sleep(1.5)
    assert not done


def test_a_program_still_calls_every_way_that_is_documented(page, url):
    _, numbers = Client(url, verbose=False).predict(count=1, seed=3, api_name="/generate")
    for path, body in (("call/generate", {"data": ["one_step", "All classes", 1, 3, *[None] * 5]}),
                       ("call/v2/generate", {"count": 1, "seed": 3})):
        event = json.loads(ask(url, f"{API}/{path}", body)[1])["event_id"]
        said = ask(url, f"{API}/call/generate/{event}")[1]
        made, other = json.loads(said.split("event: complete\ndata: ")[1])
        assert other["seed"] == numbers["seed"] and other["count"] == 1
        assert ask(url, made["url"].removeprefix(url), method="HEAD")[0] == 200


def test_a_fuzzer_finds_no_defect_and_no_way_out(page, url, calls):
    """A short run of what `python -m tests.harness.hostile` does at length."""
    outcome = asyncio.run(hostile.fire(url, hostile.shots(0, 400, len(page.fns)), clients=8))
    assert not outcome.defects and not calls
    assert sum(outcome.answers.values()) == 400
    assert len({kind for kind, _ in outcome.answers}) >= 11
    assert hostile.patiently(url) and not page._queue.stopped
    assert len(page._queue.pending_messages_per_session) <= queue.MOST_SESSIONS
    assert not page.door.of.keys() - {key for key in page.door.of if key.startswith("heart")}
